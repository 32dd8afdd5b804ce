import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import pytest

from protos import command_line
from protos.command_line import Settings
from protos.config import ConfigError, require
from protos.errors import OverloadedError


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    capacity_bytes: int = 1
    """Bytes."""

    def __post_init__(self) -> None:
        require(self.capacity_bytes > 0, f"capacity_bytes must be > 0, got {self.capacity_bytes}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    seed: int = 0
    """Of everything."""
    cache: Inner = field(default_factory=Inner)


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Serve from a file.

    $ serve --config a.toml     one way
    $ serve --seed 3            another way
    """

    config: Path
    """File; its stem is the seed."""
    level: Literal["low", "high"] = "low"
    """Of noise."""
    settings: Settings[Outer]
    """The file."""

    @classmethod
    def from_file(cls, config: Path = Path("7.toml")) -> Self:
        if not config.stem.isdigit():
            raise ConfigError(f"cannot read {config}")
        return cls(config=config, settings=Outer(seed=int(config.stem)))

    def __call__(self) -> int:
        return self.settings.seed


@dataclass(frozen=True, kw_only=True, slots=True)
class Fail:
    """Fail."""

    how: str = "overloaded"

    def __call__(self) -> int:
        raise {"overloaded": OverloadedError("full"), "stopped": KeyboardInterrupt()}[self.how]


VERBS = {"serve": (Serve, "serve"), "fail": (f"{__name__}:Fail", "fail")}


def main(*arguments: str) -> int:
    return command_line.main("program", "About it.", VERBS, list(arguments))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """This module's classes can be named as "module:class"."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Serve.__module__])


def parse(*arguments: str) -> Serve:
    return command_line.parse("program serve", Serve, list(arguments))


def test_the_file_gives_the_defaults_and_the_other_options_change_them():
    assert parse() == Serve(config=Path("7.toml"), settings=Outer(seed=7))
    told = parse("--cache.capacity-bytes", "9", "--level", "high", "--config=5.toml")
    assert told == Serve(
        config=Path("5.toml"),
        level="high",
        settings=Outer(seed=5, cache=Inner(capacity_bytes=9)),
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sed", "3"], "Unrecognized options: --sed, 3; did you mean --seed?"),
        (["--conf", "5.toml"], "Unrecognized options: --conf, 5.toml; did you mean --config?"),
        (["--how", "stopped"], "Unrecognized options: --how, stopped"),
        (["extra"], "Unrecognized options: extra"),
        (["--seed", "one"], "Error parsing --seed: "),
        (["--seed"], "Missing value for argument '--seed'"),
        (["--config"], "Missing value for argument '--config'"),
        (["--level", "mid"], "invalid choice 'mid' for argument '--level'"),
        (["--cache.capacity-bytes", "-1"], "capacity_bytes must be > 0, got -1"),
        (["--config", "x.toml"], "cannot read x.toml"),
    ],
)
def test_wrong_usage_is_one_line_that_names_it_and_code_2(capsys, arguments, complaint):
    assert main("serve", *arguments) == 2

    said = capsys.readouterr().err
    assert said.startswith("program: ")
    assert complaint in said
    assert said.count("\n") == 1


def test_a_coloured_terminal_gets_the_same_line(capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert main("serve", "--conf", "x") == 2

    assert capsys.readouterr().err.startswith("program: Unrecognized options: --conf, x; did")


def test_a_verb_that_does_not_exist_is_named_with_a_suggestion_or_all(capsys):
    assert main("serv") == 2
    assert capsys.readouterr().err == "program: no verb 'serv'; did you mean 'serve'?\n"
    assert main("--seed") == 2
    assert capsys.readouterr().err == "program: no verb '--seed'; known: serve, fail\n"


def test_the_help_has_a_line_for_each_verb_and_no_verb_is_bad_usage(capsys):
    assert main("--help") == 0
    text = capsys.readouterr().out
    assert "About it." in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  ")] == list(VERBS)
    assert main() == 2
    assert capsys.readouterr().out == text


def test_the_help_of_a_verb_shows_its_examples_and_the_defaults_of_its_file(capsys):
    with pytest.raises(SystemExit) as ended:
        main("serve", "--help", "--config", "5.toml")

    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "\n$ serve --config a.toml     one way\n$ serve --seed 3 " in text
    assert "Of everything. (default: 5)" in text


def test_what_a_verb_returns_is_the_exit_code():
    assert main("serve", "--seed", "4") == 4


@pytest.mark.parametrize(
    ("how", "said"), [("overloaded", "OverloadedError: full"), ("stopped", "interrupted")]
)
def test_a_failure_is_one_line_and_code_1(capsys, how, said):
    assert main("fail", "--how", how) == 1
    assert capsys.readouterr().err == f"program: {said}\n"
