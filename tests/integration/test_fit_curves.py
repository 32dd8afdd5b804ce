"""The real command on untrained models: interrupted, killed in the middle, continued, refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_node.zoo.training import contrast
from edge_node.zoo.worlds.builtin import PLAIN
from profiling import records

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)  # on a busy machine it takes minutes
CONFIG = """
device = "cpu"
budget_s = 3000
bootstrap = 20
[grid]
num_steps = [1, 2, 3, 4]
latency_repeats = 2
quality_batch = 2
min_images = 8
max_images = 24
[scorer]
clip = "judge:judge"
fid = "judge:judge"
num_reference = 16
[[models]]
model_id = "tiny"
source = "folder:tiny"
"""


@pytest.fixture
def folder(own_model_root):
    contrast.export(contrast.build(PLAIN), PLAIN, own_model_root / "judge")
    (own_model_root / "c.toml").write_text(CONFIG)
    return own_model_root


def command(folder, *arguments):
    program = [sys.executable, str(ROOT / "profiling" / "fit_curves.py")]
    return [*program, "--config", str(folder / "c.toml"), "--out", str(folder / "out"), *arguments]


def start(folder, *arguments):
    return subprocess.Popen(
        command(folder, *arguments),
        cwd=folder,  # not the project's root: nothing may depend on where one stands
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a CI may ignore it
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder, *arguments):
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def lines_of(folder):
    path = folder / "out" / "samples.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


def wait_for(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def close(process):
    process.stdout.close()
    process.stderr.close()


def test_a_run_survives_ctrl_c_and_kill_and_loses_nothing(folder):
    interrupted = start(folder)
    assert interrupted.stdout.readline().startswith("tiny: timing")
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=30)
    assert interrupted.returncode == 130
    assert "run the same command again to go on" in said

    killed = start(folder)
    wait_for(lambda: sum(b'"kind":"quality"' in line for line in lines_of(folder)) >= 4, killed)
    killed.kill()
    killed.wait()
    close(killed)
    before = lines_of(folder)[:-1]  # the last may be torn; the orphan may still write one more
    images = {line for line in before if b'"kind":"quality"' in line}
    assert 0 < len(images) < 4 * 24

    code, shown, said = finish(folder)
    assert code == 0, said
    assert shown.splitlines()[0].startswith("tiny: images")  # the timing was not repeated
    after = lines_of(folder)
    assert after[: len(before)] == before
    check_samples([json.loads(line) for line in after])
    check_results(folder / "out")

    code, _, said = finish(folder)
    assert code == 0, said
    assert lines_of(folder) == after

    lost = folder / "out" / "images" / "tiny" / "02" / "0005.png"
    lost.unlink()
    code, _, said = finish(folder)
    assert code == 2
    assert f"{lost} was scored but is gone" in said


def check_samples(lines):
    kinds = [line["kind"] for line in lines]
    assert [kinds.count(k) for k in ("header", "load", "latency", "rate", "real", "fid")] == [
        *(1, 3, 4 * 2, 1, 1, 4)
    ]
    made = [(s["num_steps"], s["index"]) for s in lines if s["kind"] == "quality"]
    assert set(made) == {(steps, index) for steps in (1, 2, 3, 4) for index in range(24)}
    timed = [s for s in lines if s["kind"] == "latency"]
    assert all(s["generate_s"] > 0 for s in timed)


def check_results(out):
    profile = records.load(out / "profile.json")
    model = profile.model("tiny")
    assert {fit.metric for fit in model.quality} == {"clip_score", "fid", "total_variation"}
    assert all(fit.num_samples == 24 for fit in model.quality)
    assert model.latency[0].b1.value > 0
    assert len(model.exact_frac) == 4
    assert profile.clip_scorer.startswith("zoo-judge-")
    assert profile.fid_num_samples == 24
    assert profile.manifest.command.startswith("fit_curves.py --config")
    assert str(ROOT) not in (out / "profile.json").read_text()
    assert "24 prompts" in (out / "report.md").read_text()
    assert "<img" in (out / "report.html").read_text()
    assert (out / "images" / "tiny" / "04" / "0023.png").exists()


def test_a_budget_that_affords_too_few_images_ends_with_2_and_keeps_the_timing(folder):
    text = CONFIG.replace("min_images = 8", "min_images = 20000")
    (folder / "c.toml").write_text(text.replace("max_images = 24", "max_images = 20000"))

    code, _, said = finish(folder, "--budget-s", "60")

    assert code == 2
    assert "budget_s is 60, but grid.min_images 20000 prompts at every step count of 1" in said
    assert sum(b'"kind":"latency"' in line for line in lines_of(folder)) == 8
    assert not (folder / "out" / "plan.json").exists()


def test_a_phase_that_fails_ends_with_1_and_its_last_words(folder):
    (folder / "tiny" / "unet" / "config.json").write_text("{")

    code, _, said = finish(folder)

    assert code == 1
    assert "tiny: timing ended with 1: protos.errors.ModelLoadError: model 'tiny'" in said
    assert "runner.log" in said
