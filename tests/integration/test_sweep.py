"""Studies as users run them, on a tiny synthetic scenario: each run once, whatever happens."""

import dataclasses
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from controller import __main__ as command
from controller.studies import sweep
from controller.studies.results import BASELINES, CellRecord, CurvePoint, read
from controller.studies.study import Cell, StudyConfig, cells
from controller.training import train
from protos import config as configs
from tests.integration.test_train import SCENARIO

STUDY = """
title = "tiny"
seeds = [0, 1]
test_episodes = 2
test_envs = 2
results = "{folder}/results"
[grid]
"learning.allocation.nets.actor" = ["diffusion", "mlp"]
[train]
scenario = "{folder}/tiny.toml"
output = "{folder}/runs"
num_episodes = 2
num_envs = 4
checkpoint_every = 1
evaluate_every = 1
evaluation_envs = 2
[train.learning]
caching_warmup_frames = 0
caching_minibatch = 8
allocation_minibatch = 8
[train.learning.allocation.nets]
hidden = 8
chain_len = 2
"""


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "tiny.toml").write_text(SCENARIO)
    study = tmp_path / "actors.toml"
    study.write_text(STUDY.format(folder=tmp_path))
    return study


def first_cell(file: Path) -> Cell:
    return cells(configs.load(file, StudyConfig))[0]


@pytest.mark.slow
def test_a_study_runs_each_cell_once_and_reports_from_the_records(file, capsys):
    arguments = ["sweep", "--config", str(file)]
    results = file.parent / "results"
    files = runs, baselines = results / "actors.jsonl.gz", results / BASELINES
    page, figure = results / "actors.md", results / "actors.png"

    assert command.main([*arguments, "--workers", "2"]) == 0
    printed = capsys.readouterr().out
    assert "0 of 4 training runs are recorded already" in printed
    assert "4/4 " in printed
    records = list(read(runs, CellRecord))
    assert len(records) == 4
    assert all([point.episode for point in one.curve] == [1, 2] for one in records)

    figure.unlink()
    table = page.read_text()
    assert command.main([*arguments, "--report"]) == 0
    assert page.read_text() == table
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "| T2DRL: actor diffusion | 2 of 2 |" in table
    assert "| random-equal |  | 0.000 | 0.000 .. 0.000 |" in table

    before = {one: one.stat().st_mtime_ns for one in files}
    assert command.main(arguments) == 0
    assert "4 of 4 training runs are recorded already" in capsys.readouterr().out
    assert {one: one.stat().st_mtime_ns for one in files} == before

    baselines.unlink()
    assert command.main(arguments) == 0
    assert baselines.is_file()


def test_a_sweep_that_is_stopped_keeps_what_was_done(file):
    records = sweep.StudyRecords(file.parent / "results", "actors")
    first, second = cells(configs.load(file, StudyConfig))[:2]

    def submit(call, subject, *others) -> Future:
        future: Future = Future()
        if subject != second:  # the second one never ends
            future.set_result(call(subject, *others))
        return future

    lines = sweep.run((first, second), records, submit)
    said = [next(lines), next(lines)]
    lines.close()

    assert "0 of 2 training runs are recorded already" in said[0]
    assert said[1].startswith("1/2 ")
    again = sweep.StudyRecords(file.parent / "results", "actors")
    assert again.runs.keys() == {first.key}
    assert next(sweep.run((first, second), again, submit)).startswith("1 of 2 training runs")


def test_a_training_run_that_was_stopped_goes_on_to_the_same_scores(file):
    cell = first_cell(file)
    whole = sweep.run_cell(cell, "unbroken")

    half = dataclasses.replace(cell.config, num_episodes=1)
    stopped = file.parent / "runs" / "stopped" / cell.name
    sweep.run_folder.describe(folder_of(stopped), cell.config, cell.suite.scenario)
    recorder = sweep.CurveRecorder(stopped / "curve.json", cell.suite.scenario.num_frames)
    train.train(half, cell.suite.scenario, stopped, recorder)
    lost = CurvePoint(episode=2, cpu_s=9.0, score=0.0, allocation_score=0.0)
    # evaluated, then lost before the checkpoint
    configs.write_json(stopped / "curve.json", [*recorder.curve, lost])
    resumed = sweep.run_cell(cell, "stopped")

    assert scores(resumed) == scores(whole)
    assert resumed.whole == whole.whole
    assert resumed.allocation == whole.allocation
    assert resumed.curve[1].cpu_s > resumed.curve[0].cpu_s > 0


def folder_of(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def scores(record: CellRecord) -> list[tuple[int, float, float]]:
    return [(one.episode, one.score, one.allocation_score) for one in record.curve]


@pytest.mark.slow
@pytest.mark.timeout(300)  # Ray's processes are polite: on a busy machine they start late
def test_a_ray_cluster_runs_a_study_and_the_records_come_here(file, capsys):
    pytest.importorskip("ray", reason="the optional package ray is not installed")

    assert command.main(["sweep", "--config", str(file), "--ray", "local"]) == 0

    assert "4/4 " in capsys.readouterr().out
    assert len(list(read(file.parent / "results" / "actors.jsonl.gz", CellRecord))) == 4


def test_ray_is_asked_for_by_name_where_it_is_missing(file, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert command.main(["sweep", "--config", str(file), "--ray", "local"]) == 2
    assert "--ray needs the package ray" in capsys.readouterr().err


def test_wrong_usage_ends_with_2_and_a_reason(file, capsys):
    assert command.main(["sweep", "--config", "none.toml"]) == 2
    assert "shipped with the program: " in capsys.readouterr().err
    file.write_text(file.read_text().replace("num_envs = 4", "num_envs = 0"))
    assert command.main(["sweep", "--config", str(file)]) == 2
    assert "num_envs must be > 0, got 0" in capsys.readouterr().err
