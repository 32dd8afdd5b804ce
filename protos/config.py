"""Strict TOML configuration: a file becomes a frozen dataclass or one clear error.

Responsible for reading, overriding from the command line, the resolved record, and JSON files. Not:
filling in anything from hardware or the environment. The errors of a wrong file are ConfigError.
"""

import difflib
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import tyro

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and the value."""


def load(path: Path, cls: type[T], overrides: Sequence[str] = (), prog: str = "") -> T:
    """Return ``cls`` read from a TOML file, with command-line overrides applied.

    Overrides are dotted options such as ``["--cache.capacity-bytes", "8000000000"]``; ``--help``
    among them prints every field with its doc string and ends the process, as does a typo; ``prog``
    is how these name the command.

    Raises:
        ConfigError: no such file, bad TOML, an unknown key, a wrong type, a refused value.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    config = parse(raw, cls, str(path))
    if not overrides:
        return config
    try:
        return tyro.cli(cls, default=config, args=list(overrides), prog=prog or None)
    except ValueError as error:
        raise ConfigError(f"{' '.join(overrides)}: {error}") from error


def parse(raw: dict[str, Any], cls: type[T], where: str) -> T:
    """Return ``cls`` made from plain values; errors name ``where`` they stood."""
    _refuse_unknown_keys(raw, cls, where, "")
    try:
        return msgspec.convert(raw, cls)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def to_json(config: Any) -> bytes:
    """Return the resolved configuration as indented JSON, for the run's folder."""
    return msgspec.json.format(
        msgspec.json.encode(config, enc_hook=lambda value: str(value)), indent=2
    )


def read_json(path: Path, cls: type[T]) -> T:
    """Return ``cls`` read from a JSON file that one of the programs wrote.

    Raises:
        ConfigError: no such file, or one of something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=cls)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path} is not a {cls.__name__}: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON; the file appears whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(to_json(value) + b"\n")
    partial.replace(path)


def _refuse_unknown_keys(raw: Any, hint: Any, where: str, prefix: str) -> None:
    if typing.get_origin(hint) in (tuple, list) and isinstance(raw, list):
        for index, item in enumerate(raw):
            _refuse_unknown_keys(item, typing.get_args(hint)[0], where, f"{prefix}[{index}]")
        return
    if isinstance(hint, types.UnionType):
        hint = next((arg for arg in typing.get_args(hint) if is_dataclass(arg)), hint)
    if not (is_dataclass(hint) and isinstance(raw, dict)):
        return
    hints = typing.get_type_hints(hint)
    known = [field.name for field in fields(hint)]
    for key, value in raw.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint_text = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            dotted = f"{prefix}.{key}".lstrip(".")
            raise ConfigError(f"{where}: unknown key {dotted!r}{hint_text}")
        _refuse_unknown_keys(value, hints[key], where, f"{prefix}.{key}")


def find(file: Path, shipped: Path) -> Path:
    """Return ``file`` as it is, or, where it is not there, its name in the ``shipped`` folder.

    Raises:
        ConfigError: it is in neither; the message lists what is shipped.
    """
    for candidate in (file, shipped / file):
        if candidate.is_file():
            return candidate
    names = ", ".join(sorted(path.name for path in shipped.glob("*.toml")))
    raise ConfigError(f"no configuration {file}; shipped with the program: {names}")


def require(is_fine: bool, complaint: str) -> None:  # noqa: FBT001 - a check, not an option
    """Raise ValueError with the complaint unless the check is fine."""
    if not is_fine:
        raise ValueError(complaint)


def require_positive(config: object, *names: str) -> None:
    """Raise ValueError naming the first of these fields that is not above 0."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, f"{name} must be > 0, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackhaulConfig:
    """The way between the edge and the cloud, which every request of a cloud takes."""

    delay_s: float = 0.0
    """One way."""
    rate_bps: float = 1e9
    """Both ways."""

    def __post_init__(self) -> None:
        require(self.delay_s >= 0, f"delay_s must be >= 0, got {self.delay_s}")
        require_positive(self, "rate_bps")
