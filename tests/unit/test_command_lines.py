"""The command lines are an interface: what others typed into scripts goes on working."""

import re
from pathlib import Path

import pytest

from protos import command_line
from tests import command_lines

FROZEN = Path(command_lines.__file__).with_suffix(".txt")
VERBS = command_lines.verbs()


def test_verbs_options_types_and_defaults_are_those_of_the_committed_list():
    assert command_lines.text() == FROZEN.read_text()


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_takes_the_listed_options_and_no_others(name, capsys):
    with pytest.raises(SystemExit):
        command_line.parse(name, VERBS[name], ["--help"])

    taken = re.findall(r"^[│ ]*(--\w[\w.-]*)", capsys.readouterr().out, re.MULTILINE)
    listed = [option for option, _, _ in command_lines.options(VERBS[name])]
    assert sorted(taken) == sorted(option for option in listed if option.startswith("--"))
