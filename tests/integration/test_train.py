"""Training and evaluation as users start them: real processes on a tiny synthetic scenario."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller import __main__ as command

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SCENARIO = """
num_users = 3
capacity_bytes = 100
num_frames = 4
slots_per_frame = 3
slot_s = 5.0
history_frames = 2
[allocation]
max_num_steps = 10
compute_budget_s = 1.5
[[synthetic_models]]
model_id = "large"
curve = [2.0, 0.1, 10.0, 1.0]
step_s = 0.2
overhead_s = 0.2
image_bytes = 100e3
resident_bytes = 60
load_s = 2.0
max_num_steps = 10
[[synthetic_models]]
model_id = "small"
curve = [1.0, 0.4, 4.0, 0.8]
step_s = 0.1
overhead_s = 0.3
image_bytes = 50e3
resident_bytes = 50
load_s = 3.0
max_num_steps = 8
"""
TRAINING = """
scenario = "{folder}/tiny.toml"
output = "{folder}/runs"
num_episodes = 2
num_envs = 4
checkpoint_every = 1
evaluate_every = 2
evaluation_envs = 2
[learning]
caching_warmup_frames = 0
caching_minibatch = 8
allocation_minibatch = 8
[learning.allocation.nets]
hidden = 8
chain_len = 2
"""


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A tiny training's configuration."""
    (tmp_path / "tiny.toml").write_text(SCENARIO)
    file = tmp_path / "tiny-training.toml"
    file.write_text(TRAINING.format(folder=tmp_path))
    return file


def controller(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "controller", *map(str, arguments)],
        cwd=ROOT,
        env=ENV,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_training_runs_goes_on_and_is_rated_beside_the_baselines(training, tmp_path, capsys):
    done = controller("train", "--config", training, "--seed", "7")
    assert done.returncode == 0, done.stderr
    assert "frame 8/8, 0:00 left: utility" in done.stdout
    (folder,) = (tmp_path / "runs" / "tiny-training").iterdir()
    assert f"evaluate --checkpoint {folder}" in done.stdout
    assert "-s7-" in folder.name
    assert json.loads((folder / "config.json").read_text())["seed"] == 7

    assert command.main(["train", "--resume", str(folder), "--num-episodes", "3"]) == 0
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(1, 13))
    assert list((folder / "tensorboard").iterdir())

    rated = controller("evaluate", "--checkpoint", folder, "--seeds", "2", "--envs", "2")
    assert rated.returncode == 0, rated.stderr
    table = {
        (line.split("|")[1].strip()): line.split("|")[2].strip()
        for line in rated.stdout.splitlines()
        if line.startswith("|")
    }
    assert (table["random-equal"], table["clairvoyant-exact"], table["exact"]) == (
        "0.000",
        "1.000",
        "1.000",
    )
    assert {"t2drl", "lru-equal", "greedy-exact", "static-genetic"} <= set(table)

    assert command.main(["train", "--resume", str(folder), "--seed", "8"]) == 2
    assert "train.seed is 7 in the checkpoint and 8 here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "--config", "none.toml"], "shipped with the program"),
        (["train", "--num-envs", "0"], "num_envs must be > 0, got 0"),
        (["train", "--scenario", "none"], "shipped with the program: default.toml"),
        (
            ["train", "--learning.caching-replay", "9"],
            "replays of at least 64 transitions, got 9 and",
        ),
        (["train", "--resume", "/none"], "cannot read /none/config.json: No such file"),
        (["evaluate", "--checkpoint", "/none"], "cannot read /none/scenario.json: No such file"),
        (["evaluate"], "Missing from python -m controller evaluate: --checkpoint"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_reason(capsys, arguments, complaint):
    try:
        code = command.main(arguments)
    except SystemExit as ended:
        code = ended.code

    assert code == 2
    assert complaint in capsys.readouterr().err
