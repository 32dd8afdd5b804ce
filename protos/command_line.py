"""Command lines: a verb is a dataclass, its fields are the options, its docstring is the help.

Responsible for the choice of the verb, for a file of settings whose every field is an option, for
errors as one line, and for exit codes: 0 done, 1 failed or interrupted, 2 bad usage or
configuration. Not: what a verb does.
"""

import asyncio
import contextlib
import difflib
import io
import pkgutil
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

import tyro

from protos.config import ConfigError
from protos.errors import EdgeError

_T = TypeVar("_T")
Settings: TypeAlias = Annotated[_T, tyro.conf.arg(name="")]
"""Type of the field that a file is read into: every field of the file is an option of its name."""


class Verb(Protocol):
    """A command line that was read.

    A verb that has ``Settings`` also has a class method ``from_file``: from the options that say
    which file, each with its default, it makes the verb whose fields are the defaults of the rest.
    """

    def __call__(self) -> int:
        """Do it; return the exit code."""


def main(
    program: str,
    about: str,
    verbs: Mapping[str, tuple[type[Verb] | str, str]],
    arguments: Sequence[str] | None = None,
) -> int:
    """Run a program of several verbs; return its exit code.

    Args:
        program: module that ``python -m`` takes.
        about: what it is, in a line.
        verbs: name -> (class or "module:class", imported when it is asked for; what it does).
        arguments: of the command line; the process's own by default.
    """
    name, *options = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name in ("", "-h", "--help"):
        lines = [f"  {verb:9}  {words}" for verb, (_, words) in verbs.items()]
        sys.stdout.write(
            f"{about}\n\n" + "\n".join(lines) + f"\n\npython -m {program} VERB --help: the options "
            "of a verb, with examples.\n"
            "Exit codes: 0 done, 1 failed or interrupted, 2 bad usage or configuration.\n"
        )
        return 0 if name else 2
    if name not in verbs:
        close = difflib.get_close_matches(name, verbs, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(verbs)}"
        sys.stderr.write(f"{program}: no verb {name!r}; {hint}\n")
        return 2
    verb = verbs[name][0]
    verb = pkgutil.resolve_name(verb) if isinstance(verb, str) else verb
    return run(f"python -m {program} {name}", verb, options)


def run(program: str, verb: type[Verb], arguments: Sequence[str] | None = None) -> int:
    """Read a verb's options and do it; return the exit code."""
    try:
        return parse(program, verb, arguments)()
    except ConfigError as error:
        complaint, code = str(error), 2
    except EdgeError as error:
        complaint, code = f"{type(error).__name__}: {error}", 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        complaint, code = "interrupted", 1
    sys.stderr.write(f"{program.removeprefix('python -m ').split()[0]}: {complaint}\n")
    return code


def parse(program: str, verb: type[_T], arguments: Sequence[str] | None = None) -> _T:
    """Return a verb with its options; ``--help`` among them prints these and ends the process.

    Raises:
        ConfigError: an unknown option, a value of the wrong type or refused, a wrong file.
    """
    said = io.StringIO()
    known: dict[str, Any] = {}
    try:
        with contextlib.redirect_stderr(said):
            if from_file := getattr(verb, "from_file", None):
                known["default"], _ = tyro.cli(
                    from_file, args=arguments, return_unknown_args=True, add_help=False
                )
            return tyro.cli(
                verb, prog=program, args=arguments, config=(tyro.conf.DisallowNone,), **known
            )
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{' '.join(arguments or sys.argv[1:])}: {error}") from error
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(f"{_complaint(said.getvalue())} ({program} --help)") from end


def _complaint(box: str) -> str:
    """Return what tyro's box of an error says below its title, and the options that it suggests."""
    text = re.sub(r"\x1b\[[\d;]*m|[│╭╮╰╯]", "", box)  # colours and frame of a terminal
    _, first, *others = (" ".join(part.split()) for part in re.split("[─-]{3,}", text))
    first = re.sub(r"^Error parsing [A-Z]\w*: ", "", first)  # a verb's class says nothing to users
    hint = next((part for part in others if part.startswith("Perhaps")), "")
    close = re.findall(r"(?<= )--\S+", hint)
    return f"{first}; did you mean {' or '.join(close)}?" if close else first
