"""Where weights lie, which they are, and the complaint if they cannot be read.

Responsible for the paths of a configuration and the scheme "judge:"; models are found and checked
as an edge node's catalog does it. Not: loading; no torch here.
"""

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path

from edge_node import catalog
from edge_node.config import ModelConfig
from profiling.measure.config import ProfileConfig
from protos.config import ConfigError
from protos.errors import ModelLoadError


def resolve(config: ProfileConfig) -> ProfileConfig:
    """Return the configuration with paths made absolute.

    Raises:
        ConfigError: a folder or file is missing, weights are damaged; it is named.
    """
    models = tuple(
        replace(model, source=_checked(model.source, model.model_id)) for model in config.models
    )
    scorer = config.scorer
    if scorer.fid == "inception-v3" and importlib.util.find_spec("torch_fidelity") is None:
        raise ConfigError("scorer.fid is 'inception-v3', which needs the package torch-fidelity")
    prompts, reference = scorer.prompts, scorer.reference
    if prompts != "scenes":
        prompts = _existing(Path(prompts), "scorer.prompts")
    if reference not in ("scenes", ""):
        reference = _existing(Path(reference), "scorer.reference")
    scorer = replace(
        scorer,
        clip=_checked(scorer.clip, "CLIP scorer"),
        fid=_checked(scorer.fid, "FID scorer"),
        prompts=prompts,
        reference=reference,
    )
    return replace(config, models=models, scorer=scorer)


def entry(model: ModelConfig) -> catalog.Entry:
    """Return the model as an edge node's catalog lists it."""
    return catalog.Entry(model, folder_of(model.source))


def folder_of(source: str) -> Path | None:
    """Return the folder of a source whose path is absolute; None for what lies on a hub."""
    scheme, _, name = source.partition(":")
    if scheme == "builtin":
        return catalog.resolve(source)
    return Path(name) if scheme in ("folder", "judge") else None


def digest(source: str) -> str:
    """Return the SHA-256 over a source's weight files, or over its name if it lies on a hub."""
    folder = folder_of(source)
    if folder is None:
        return hashlib.sha256(source.encode()).hexdigest()
    return catalog.weights_digest(folder)


def _checked(source: str, who: str) -> str:
    """Return the source with an absolute path, its weight files readable as far as headers tell."""
    scheme, _, name = source.partition(":")
    if scheme in ("folder", "judge"):
        source = f"{scheme}:{Path(name).expanduser().resolve()}"
    try:
        folder = folder_of(source)
        if folder is not None:
            catalog.Entry(ModelConfig(model_id=who, source=f"folder:{folder}"), folder).check()
    except (ValueError, ModelLoadError) as error:
        held = sorted(path.name for path in catalog.ZOO.glob("*") if path.is_dir())
        hint = f"; the built-in zoo holds: {', '.join(held) or 'nothing yet'}"
        raise ConfigError(f"{error}{hint if scheme == 'builtin' else ''}") from error
    return source


def _existing(path: Path, what: str) -> str:
    if not path.exists():
        raise ConfigError(f"{what}: no such file or folder {path}")
    return str(path.resolve())
