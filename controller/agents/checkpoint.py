"""A learner's state on disk: tensors as safetensors, the rest as JSON beside them.

Responsible for the pair of files; one that belongs elsewhere is refused. Not: pickle. The JSON is
written last and holds the tensors' digest, so a pair torn by a crash is refused, not read.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from safetensors.torch import load, save
from torch import Tensor

from protos.config import ConfigError

FORMAT = 1
_KEYS = {"format", "identity", "state", "tensors_sha256"}


def write(
    stem: Path, tensors: Mapping[str, Tensor], identity: Mapping[str, Any], state: Mapping[str, Any]
) -> None:
    """Write ``stem``.safetensors and ``stem``.json, each whole or not at all.

    Args:
        stem: Path without suffix; its folder exists.
        tensors: By name; no two share memory.
        identity: What a reader must have in common: configuration, sizes.
        state: What a reader takes over: counters, generators.
    """
    blob = save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})
    facts = {
        "format": FORMAT,
        "identity": msgspec.to_builtins(identity),
        "state": state,
        "tensors_sha256": hashlib.sha256(blob).hexdigest(),
    }
    _replace(stem.with_suffix(".safetensors"), blob)
    _replace(stem.with_suffix(".json"), json.dumps(facts, indent=2).encode())


def read(stem: Path, identity: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (tensors, state) of the pair that was written under the same identity.

    Raises:
        ConfigError: a file is missing or damaged, or the identity is another; the message names
            what differs on both sides.
    """
    written = _read_bytes(stem.with_suffix(".json"))
    try:
        facts = json.loads(written)
    except ValueError as error:
        raise ConfigError(f"{stem}.json is damaged: {error}") from error
    if not isinstance(facts, dict) or facts.keys() != _KEYS:
        raise ConfigError(f"{stem}.json is not a learner's checkpoint")
    expected = {"format": FORMAT, **flat(msgspec.to_builtins(identity))}
    found = {"format": facts["format"], **flat(facts["identity"])}
    if found != expected:
        differences = "; ".join(
            f"{name} is {found.get(name)!r} in the checkpoint and {expected.get(name)!r} here"
            for name in sorted(found.keys() | expected.keys())
            if found.get(name) != expected.get(name)
        )
        raise ConfigError(f"{stem} was saved by another learner: {differences}")
    blob = _read_bytes(stem.with_suffix(".safetensors"))
    if hashlib.sha256(blob).hexdigest() != facts["tensors_sha256"]:
        raise ConfigError(f"{stem}.safetensors is not the file that {stem.name}.json describes")
    return load(blob), facts["state"]


def flat(tree: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested mappings under dotted names."""
    leaves: dict[str, Any] = {}
    for name, value in tree.items():
        is_inner = isinstance(value, Mapping)
        leaves |= flat(value, f"{prefix}{name}.") if is_inner else {f"{prefix}{name}": value}
    return leaves


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error


def _replace(path: Path, content: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)
