"""Strict TOML configuration: a file becomes a frozen dataclass or one clear error.

Responsible for reading, for finding what is shipped, and for the JSON that programs write. Not:
options of the command line (command_line.py), values from hardware or the environment.

Every path, in a file or an option, starts at the working directory; so does what a program writes.
What is not there may be shipped with the program, by its name alone (``live-demo.toml``,
``zoo-cpu.json``) or its path in the project (``controller/configs/live-demo.toml``).
"""

import difflib
import math
import tomllib
import types
import typing
from dataclasses import dataclass, fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and the value."""


def load(name: str | Path, cls: type[T], shipped: str = "") -> T:
    """Return ``cls`` read from a TOML file, or from one in a folder of ``shipped`` files.

    Raises:
        ConfigError: no such file, bad syntax, an unknown key, a wrong type, a refused value.
    """
    path = find(name, shipped) if shipped else Path(name)
    try:
        raw = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return parse(raw, cls, str(path))


def parse(raw: dict[str, Any], cls: type[T], where: str) -> T:
    """Return ``cls`` made from plain values; errors name ``where`` they stood."""
    _refuse_unknown_keys(raw, cls, where, "")
    try:
        return msgspec.convert(raw, cls)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def to_json(config: Any) -> bytes:
    """Return the resolved configuration as indented JSON, for the run's folder."""
    return msgspec.json.format(msgspec.json.encode(config, enc_hook=str), indent=2)


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


def packages() -> Path:
    """Return the folder that the project's packages lie in: the checkout, or site-packages."""
    return Path(str(resources.files("protos"))).parent


def find(name: str | Path, shipped: str) -> Path:
    """Return the file of a name: where it leads from the working directory, or a shipped file.

    Args:
        name: absolute, relative, or of a shipped file.
        shipped: folder of shipped files of that kind, such as "controller/configs".

    Raises:
        ConfigError: it is nowhere; the message lists what is shipped.
    """
    for candidate in (Path(name), packages() / shipped / name, packages() / name):
        if candidate.is_file():
            return candidate
    like = (packages() / shipped).glob(f"*{Path(name).suffix}")
    names = ", ".join(sorted(path.name for path in like if path.is_file()))
    raise ConfigError(f"there is no file {name}; shipped with the program: {names or 'none'}")


def require(is_fine: bool, complaint: str) -> None:  # noqa: FBT001 - a check, not an option
    """Raise ValueError with the complaint unless the check is fine."""
    if not is_fine:
        raise ValueError(complaint)


def require_non_negative(config: object, *names: str) -> None:
    """Raise ValueError naming the first of these fields that is below 0."""
    for name in names:
        value = getattr(config, name)
        require(0 <= value < math.inf, f"{name} must be >= 0, got {value}")


def require_positive(config: object, *names: str) -> None:
    """Raise ValueError naming the first of these fields that is not above 0."""
    for name in names:
        value = getattr(config, name)
        require(0 < value < math.inf, f"{name} must be > 0, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class BackhaulConfig:
    """The way between the edge and the cloud, which every request of a cloud takes."""

    delay_s: float = 0.0
    """One way."""
    rate_bps: float = 1e9
    """Both ways."""

    def __post_init__(self) -> None:
        require_non_negative(self, "delay_s")
        require_positive(self, "rate_bps")
