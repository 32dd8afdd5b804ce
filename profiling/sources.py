"""Where weights lie, which they are, and the complaint if they are not there.

Owns the schemes "builtin:", "folder:", "judge:" and "hub:". Refuses to load: no torch here.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

from profiling.config import ProfileConfig
from protos.config import ConfigError

ZOO = Path(__file__).resolve().parent.parent / "edge_node" / "zoo" / "weights"


def folder_of(source: str) -> Path | None:
    """Return the folder of a source; None for what lies on a hub."""
    scheme, _, name = source.partition(":")
    if scheme == "builtin":
        return ZOO / name
    return Path(name) if scheme in ("folder", "judge") else None


def resolve(config: ProfileConfig, base: Path) -> ProfileConfig:
    """Return the configuration with paths made absolute, relative ones from ``base``.

    Raises:
        ConfigError: a folder or file is missing; it is named.
    """
    models = tuple(
        replace(model, source=_checked(_absolute(model.source, base), model.model_id))
        for model in config.models
    )
    scorer = config.scorer
    clip = _checked(_absolute(scorer.clip, base), "the CLIP scorer")
    fid = _checked(_absolute(scorer.fid, base), "the FID scorer")
    prompts, reference = scorer.prompts, scorer.reference
    if prompts != "scenes":
        prompts = _existing(base / prompts, "the prompts")
    if reference not in ("scenes", ""):
        reference = _existing(base / reference, "the reference images")
    scorer = replace(scorer, clip=clip, fid=fid, prompts=prompts, reference=reference)
    return replace(config, models=models, scorer=scorer)


def digest(source: str) -> str:
    """Return the SHA-256 over a source's weight files, or over its name if it lies on a hub."""
    folder = folder_of(source)
    if folder is None:
        return hashlib.sha256(source.encode()).hexdigest()
    return weights_digest(folder)


def weights_digest(folder: Path) -> str:
    """Return the SHA-256 over the safetensors files of a folder, names and bytes, sorted.

    Raises:
        ConfigError: the folder holds none.
    """
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise ConfigError(f"{folder} holds no .safetensors file")
    whole = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            inner = hashlib.file_digest(opened, "sha256").hexdigest()
        whole.update(f"{file.relative_to(folder).as_posix()} {inner}\n".encode())
    return whole.hexdigest()


def _absolute(source: str, base: Path) -> str:
    scheme, _, name = source.partition(":")
    if scheme not in ("folder", "judge"):
        return source
    return f"{scheme}:{(base / Path(name).expanduser()).resolve()}"


def _checked(source: str, who: str) -> str:
    folder = folder_of(source)
    if folder is not None and not folder.is_dir():
        known = sorted(path.name for path in ZOO.glob("*")) if source.startswith("builtin:") else []
        hint = f"; the zoo holds: {', '.join(known) or 'nothing yet'}" if known or not ZOO else ""
        raise ConfigError(f"{who}: no folder {folder} ({source}){hint}")
    return source


def _existing(path: Path, who: str) -> str:
    if not path.exists():
        raise ConfigError(f"{who}: no such file or folder {path}")
    return str(path.resolve())
