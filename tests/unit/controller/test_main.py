import re
import subprocess
import sys

import pytest

from controller import __main__ as command
from controller.cell.config import ROOT
from controller.record.config import RunConfig


def exit_code(*arguments: str) -> int:
    try:
        return command.main(list(arguments))
    except SystemExit as ended:
        return int(ended.code or 0)


def test_help_lists_every_field_with_its_default(capsys):
    assert exit_code("run", "--help") == 0
    text = capsys.readouterr().out
    for name in RunConfig.__dataclass_fields__:
        assert re.search(rf"--{name.replace('_', '-')}\b", text), name
    for part in ("--radio.bandwidth-hz", "--allocation.compute-budget-s", "Exit codes", "report"):
        assert part in text


def test_no_verb_shows_how_it_is_used(capsys):
    assert exit_code() == 2
    assert "python -m controller run" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "--config", "none.toml"], "shipped with the program: live-crowded.toml"),
        (["run", "--slot-s", "0"], "slot_s must be > 0, got 0"),
        (["run", "--profile", "no/such.json"], "cannot read the profile"),
        (["report"], "report needs --run FOLDER"),
        (["report", "--run", "/"], "is not a run's folder"),
        (["compare", "/"], "is not a run's folder"),
        (["levers", "--scenario", "none"], "shipped with the program: default.toml"),
        (["levers", "--num-users", "0"], "num_users must be >= 1, got 0"),
        (["levers", "--capacity-bytes", "1"], "no model fits"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_reason(capsys, arguments, complaint):
    assert exit_code(*arguments) == 2
    assert complaint in capsys.readouterr().err


def test_a_misspelt_key_ends_with_2_and_a_suggestion(capsys, tmp_path):
    text = (ROOT / "controller" / "configs" / "live-demo.toml").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(text.replace("num_users", "num_user"))
    assert exit_code("run", "--config", str(file)) == 2
    assert "unknown key 'num_user'; did you mean 'num_users'?" in capsys.readouterr().err


def test_a_misspelt_option_ends_with_2(capsys):
    assert exit_code("run", "--slot", "2") == 2
    assert "--slot" in capsys.readouterr().err


def test_the_controller_loads_no_net_library():
    code = "import sys, controller.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "controller.testbed.run" in loaded
    assert not {"torch", "diffusers", "transformers", "edge_node"} & loaded
