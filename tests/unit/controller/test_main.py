import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from controller import __main__ as command
from controller.record.config import RunConfig
from protos import config as configs


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
    for part in ("--radio.bandwidth-hz", "--allocation.compute-budget-s", "--policy random"):
        assert part in text


def test_no_verb_shows_how_it_is_used(capsys):
    assert exit_code() == 2
    assert "python -m controller VERB --help" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["lever"], "no verb 'lever'; did you mean 'levers'?"),
        (
            ["run", "--conf", "live-demo.toml"],
            "options: --conf, live-demo.toml; did you mean --con",
        ),
        (["run", "--run", "runs"], "Unrecognized options: --run, runs"),
        (["report", "--scenario", "default"], "Unrecognized options: --scenario, default"),
        (["levers", "--config", "live-demo.toml"], "Unrecognized options: --config, live-demo"),
        (["compare", "--workers", "2"], "Unrecognized options: --workers, 2"),
        (["run", "--config", "none.toml"], "shipped with the program: live-crowded.toml"),
        (["run", "--slot-s", "0"], "slot_s must be > 0, got 0"),
        (["run", "--profile", "no/such.json"], "there is no file no/such.json; shipped"),
        (["report"], "report needs the folder of a run"),
        (["report", "/"], "is not a run's folder"),
        (["report", "--run", "/"], "Unrecognized options: --run"),
        (["compare"], "compare needs the folder of a run"),
        (["compare", "/"], "is not a run's folder"),
        (["levers", "--scenario", "none"], "shipped with the program: default.toml"),
        (["levers", "--num-users", "0"], "num_users must be >= 1, got 0"),
        (["levers", "--capacity-bytes", "1"], "no model fits"),
        (["sweep"], "sweep needs either --config or --quick"),
        (["sweep", "--quick", "--workers", "-1"], "workers must be >= 0, got -1"),
    ],
)
def test_wrong_usage_ends_with_2_and_one_line_that_says_why(capsys, arguments, complaint):
    assert exit_code(*arguments) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_claims_are_checked_in_the_file_that_is_named(monkeypatch):
    asked = []
    stub = types.ModuleType("controller.studies.claims")
    stub.check = lambda file: asked.append(file) or 1
    monkeypatch.setitem(sys.modules, stub.__name__, stub)
    monkeypatch.setattr("controller.studies.claims", stub, raising=False)

    assert exit_code("claims") == 1
    assert exit_code("claims", "--file", "my.toml") == 1
    assert asked == [Path("results/claims.toml"), Path("my.toml")]


def test_a_misspelt_key_ends_with_2_and_a_suggestion(capsys, tmp_path):
    text = configs.find("live-demo.toml", "controller/configs").read_text()
    file = tmp_path / "mine.toml"
    file.write_text(text.replace("num_users", "num_user"))
    assert exit_code("run", "--config", str(file)) == 2
    assert "unknown key 'num_user'; did you mean 'num_users'?" in capsys.readouterr().err


def test_the_controller_loads_no_net_library():
    code = "import sys, controller.__main__; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=configs.packages(),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stdout.split())
    assert "controller.testbed.run" in loaded
    assert not {"torch", "diffusers", "transformers", "edge_node"} & loaded
