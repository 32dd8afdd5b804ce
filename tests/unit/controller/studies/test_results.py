"""Tables and figures of studies, from records made by hand."""

import gzip
from dataclasses import replace

import numpy as np
import pytest

from controller.policies.evaluation import Rating
from controller.policies.scores import Measured, estimate
from controller.studies import figures, table
from controller.studies.results import (
    BaselineRecord,
    CellRecord,
    CurvePoint,
    StudyRecords,
    read,
    scenario_results,
)
from controller.studies.study import Cell, StudyConfig, cells
from protos import manifest
from protos.config import ConfigError
from tests.unit.controller.training_runs import told

ALONE = {"scenario.num_users": (6, 10), "learning.allocation.nets.chain_len": (1, 2)}


def rating(policy: str, score: float, utility: float) -> Rating:
    measured = Measured(
        utility=utility,
        hit_frac=0.5,
        quality=0.6,
        num_steps=9.0,
        total_s=12.0,
        by_cause={},
        num_requests=10,
    )
    return Rating(policy=policy, scores=(score,), measured=(measured,))


def record(cell: Cell, score: float) -> CellRecord:
    return CellRecord(
        cell=cell,
        manifest=manifest.collect(),
        curve=(CurvePoint(episode=1, cpu_s=60.0, score=score, allocation_score=score),),
        whole=rating("t2drl", score, utility=-score),
        allocation=rating("t2drl", score, utility=0.0),
    )


@pytest.fixture
def study(tmp_path) -> StudyConfig:
    return StudyConfig(title="t", seeds=(0, 1), one_at_a_time=ALONE, train=told(tmp_path))


@pytest.fixture
def todo(study) -> tuple[Cell, ...]:
    return cells(study)


@pytest.fixture
def records(todo, tmp_path) -> StudyRecords:
    """All training runs but one: users / 20, more with a longer chain and a later seed."""
    found = StudyRecords(tmp_path, "tiny")
    for cell in todo:
        chain = cell.config.learning.allocation.nets.chain_len
        score = cell.suite.scenario.num_users / 20 + chain / 50 + cell.config.seed / 100
        if (cell.one_at_a_time, cell.config.seed) != (("learning.allocation.nets.chain_len", 1), 1):
            found.add(record(cell, score))
        if cell.suite not in found.baselines:
            found.add(
                BaselineRecord(
                    suite=cell.suite,
                    manifest=manifest.collect(),
                    whole=(rating("greedy-exact", 0.3, -0.3),),
                    allocation=(),
                )
            )
    return found


def test_records_come_back_as_they_were_added_and_each_once(records, todo, tmp_path):
    again = StudyRecords(tmp_path, "tiny")

    assert again.runs == records.runs
    assert again.baselines == records.baselines
    lines = gzip.decompress((tmp_path / "tiny.jsonl.gz").read_bytes()).splitlines()
    # Ten users and a chain of 2 are the scenario's and the run's own: added twice for each seed.
    assert (len(todo), len(records.runs), len(lines)) == (8, 5, 7)
    assert len(gzip.decompress((tmp_path / "baselines.jsonl.gz").read_bytes()).splitlines()) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "baselines.jsonl.gz",
        "tiny.jsonl.gz",
    ]


def test_baselines_are_shared_by_studies_of_the_same_test_episodes(records, tmp_path):
    other = StudyRecords(tmp_path, "another")

    assert not other.runs
    assert other.baselines == records.baselines


def test_the_same_records_make_the_same_file(todo, tmp_path):
    one, two = (record(todo[0], 0.5) for _ in range(2))
    for folder, each in (("a", one), ("b", replace(two, manifest=one.manifest))):
        StudyRecords(tmp_path / folder, "tiny").add(each)

    first, second = ((tmp_path / folder / "tiny.jsonl.gz").read_bytes() for folder in "ab")
    assert first == second


def test_a_damaged_file_of_records_is_refused_by_name(records, tmp_path):
    file = tmp_path / "tiny.jsonl.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-9])
    with pytest.raises(ConfigError, match=r"cannot read the records .*tiny\.jsonl\.gz"):
        StudyRecords(tmp_path, "tiny")
    file.write_bytes(gzip.compress(gzip.decompress(whole).replace(b'"whole"', b'"wole"')))
    with pytest.raises(ConfigError, match=r"jsonl\.gz:1: unknown key 'wole'; did you mean 'whole'"):
        StudyRecords(tmp_path, "tiny")
    assert list(read(tmp_path / "none.jsonl.gz", CellRecord)) == []
    assert len(records.runs) == 5


def test_cells_that_come_to_the_same_training_run_are_one(todo, records):
    fewer, own = scenario_results(todo, records)

    assert fewer.name == "default, num_users 6"
    assert own.name == "default"  # 10 users and a chain of 2 are its own
    assert [(one.name, len(one.records)) for one in own.policies] == [
        ("unchanged", 2),
        ("chain_len 1", 1),
        ("greedy-exact", 0),
    ]


def test_the_table_has_the_mean_over_seeds_and_says_how_many_there_are(study, todo, records):
    text = table.table(study, todo, records)

    assert "| T2DRL: unchanged | 2 of 2 | 0.345 | 0.340 .. 0.350 |" in text.split("\n\n")[0]
    assert "| T2DRL: unchanged | 2 of 2 | 0.545 | 0.540 .. 0.550 |" in text.split("\n\n")[1]
    assert "| T2DRL: chain_len 1 | 1 of 2 | 0.520 |" in text
    assert text.count("| greedy-exact |  | 0.300 |") == 2


def test_the_figure_has_a_column_for_each_key_and_a_line_against_its_values(study, todo, records):
    figure = figures.draw(study, todo, records)

    scores = figure.axes[:2]
    lines = [{line.get_label(): line for line in axes.get_lines()} for axes in scores]
    assert lines[0]["T2DRL"].get_xydata() == pytest.approx(np.array([[6, 0.345], [10, 0.545]]))
    assert lines[0]["greedy-exact"].get_xydata() == pytest.approx(np.array([[6, 0.3], [10, 0.3]]))
    assert lines[1]["T2DRL"].get_xydata() == pytest.approx(np.array([[1, 0.52], [2, 0.545]]))
    assert [axes.get_xlabel() for axes in figure.axes[-2:]] == ["num_users", "chain_len"]


def test_without_values_alone_the_figure_shows_scores_while_learning(study, records):
    plain = replace(study, one_at_a_time={}, grid={"scenario": ("default",)})

    figure = figures.draw(plain, cells(plain), records)

    (curve, *_) = figure.axes[0].get_lines()
    assert curve.get_xydata() == pytest.approx(np.array([[1.0, 0.545]]))  # minutes
    assert curve.get_label() == "unchanged (2 seeds)"


def test_an_estimate_is_the_interquartile_mean_and_its_interval():
    middle, low, high = estimate([0.0, 1.0, 2.0, 3.0, 100.0])
    assert middle == 2.0
    assert 0.0 <= low < 2.0 < high


def test_words_stand_on_the_axis_as_words(study, tmp_path):
    worded = replace(study, one_at_a_time={"learning.allocation.nets.actor": ("diffusion", "mlp")})
    records = StudyRecords(tmp_path, "worded")
    for index, cell in enumerate(cells(worded)):
        records.add(record(cell, 0.1 * index))

    figure = figures.draw(worded, cells(worded), records)

    curve = figure.axes[0].get_lines()[0]
    assert list(curve.get_xdata()) == ["diffusion", "mlp"]
    assert curve.get_ydata() == pytest.approx([0.05, 0.25])
