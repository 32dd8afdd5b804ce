"""Every verb and option of the three programs, one a line: verb, option, type, default.

python -m tests.command_lines > tests/command_lines.txt     after a change that is wanted
"""

import pkgutil
import sys
import typing
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import tyro

from controller.__main__ import VERBS
from edge_node.__main__ import Serve
from profiling.fit_curves import FitCurves


def verbs() -> dict[str, type]:
    """Return the class of each verb, by the words that are typed for it."""
    found = {f"controller {name}": verb for name, (verb, _) in VERBS.items()}
    found |= {"edge_node serve": Serve, "fit_curves.py": FitCurves}
    return {
        name: pkgutil.resolve_name(verb) if isinstance(verb, str) else verb
        for name, verb in found.items()
    }


def options(verb: type) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and default of each option; of a verb with a file, of the default file."""
    default = verb.from_file() if hasattr(verb, "from_file") else MISSING
    hints = typing.get_type_hints(verb, include_extras=True)
    for one in fields(verb):
        value = one.default if default is MISSING else getattr(default, one.name)
        hint = hints[one.name]
        if one.name == "settings":
            yield from _inside(value, "--")
        elif tyro.conf.Positional in getattr(hint, "__metadata__", ()):
            yield one.name, _shown(typing.get_args(hint)[0]), _value(value)
        else:
            yield f"--{one.name.replace('_', '-')}", _shown(hint), _value(value)


def _inside(settings: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    hints = typing.get_type_hints(type(settings))
    for one in fields(settings):
        name = prefix + one.name.replace("_", "-")
        yield from _option(getattr(settings, one.name), hints[one.name], name)


def _option(value: Any, hint: Any, name: str) -> Iterator[tuple[str, str, str]]:
    if is_dataclass(value):
        yield from _inside(value, f"{name}.")
    elif isinstance(value, tuple) and any(is_dataclass(one) or type(one) is tuple for one in value):
        for index, item in enumerate(value):
            yield from _option(item, typing.get_args(hint)[0], f"{name}.{index}")
    else:
        yield name, _shown(hint), _value(value)


def _shown(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    named = isinstance(hint, type) and not typing.get_args(hint)
    return hint.__name__ if named else str(hint).replace("pathlib.", "")


def _value(value: Any) -> str:
    return "required" if value is MISSING else str(value) or "''"


def text() -> str:
    """Return the file's text."""
    return "".join(
        f"{name} {' '.join(option)}\n" for name, verb in verbs().items() for option in options(verb)
    )


if __name__ == "__main__":
    sys.stdout.write(text())
