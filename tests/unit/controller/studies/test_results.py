"""Tables and figures of studies, from records made by hand."""

from dataclasses import replace

import numpy as np
import pytest

from controller.policies.evaluation import Rating
from controller.policies.scores import Measured, estimate
from controller.studies import figures, table
from controller.studies.results import scenario_results
from controller.studies.study import (
    BaselineRecord,
    Cell,
    CellRecord,
    CurvePoint,
    StudyConfig,
    cells,
    write,
)
from protos import manifest
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
        labels=cell.labels,
        one_at_a_time=cell.one_at_a_time,
        config=cell.config,
        manifest=manifest.collect(),
        points=(CurvePoint(episode=1, cpu_s=60.0, score=score, allocation_score=score),),
        whole=rating("t2drl", score, utility=-score),
        allocation=rating("t2drl", score, utility=0.0),
    )


@pytest.fixture
def study(tmp_path) -> StudyConfig:
    return StudyConfig(title="t", seeds=(0, 1), one_at_a_time=ALONE, train=told(tmp_path))


@pytest.fixture
def todo(study, tmp_path) -> tuple[Cell, ...]:
    """All trainings recorded but one: users / 20, more with a longer chain and a later seed."""
    found = cells(study)
    for cell in found:
        chain = cell.config.learning.allocation.nets.chain_len
        score = cell.scenario.num_users / 20 + chain / 50 + cell.config.seed / 100
        if (cell.one_at_a_time, cell.config.seed) != (("learning.allocation.nets.chain_len", 1), 1):
            write(record(cell, score), tmp_path / f"{cell.name}.json")
        base = BaselineRecord(
            scenario="default",
            manifest=manifest.collect(),
            whole=(rating("greedy-oracle", 0.3, -0.3),),
            allocation=(),
        )
        write(base, tmp_path / f"{cell.baselines}.json")
    return found


def test_points_that_come_to_the_same_training_are_one(todo, tmp_path):
    fewer, own = scenario_results(todo, tmp_path)

    assert fewer.name == "default, num_users 6"
    assert own.name == "default"  # 10 users and a chain of 2 are its own
    assert [(one.name, len(one.records)) for one in own.trained] == [
        ("unchanged", 2),
        ("chain_len 1", 1),
    ]


def test_the_table_has_the_mean_over_seeds_and_says_how_many_there_are(study, todo, tmp_path):
    text = table.table(study, todo, tmp_path)

    assert "| T2DRL: unchanged | 2 of 2 | 0.345 | 0.340 .. 0.350 |" in text.split("\n\n")[0]
    assert "| T2DRL: unchanged | 2 of 2 | 0.545 | 0.540 .. 0.550 |" in text.split("\n\n")[1]
    assert "| T2DRL: chain_len 1 | 1 of 2 | 0.520 |" in text
    assert text.count("| greedy-oracle | | 0.300 |") == 2


def test_the_figure_has_a_column_for_each_key_and_a_line_against_its_values(study, todo, tmp_path):
    figure = figures.draw(study, todo, tmp_path)

    scores = figure.axes[:2]
    lines = [{line.get_label(): line for line in axes.get_lines()} for axes in scores]
    assert lines[0]["T2DRL"].get_xydata() == pytest.approx(np.array([[6, 0.345], [10, 0.545]]))
    assert lines[0]["greedy-oracle"].get_xydata() == pytest.approx(np.array([[6, 0.3], [10, 0.3]]))
    assert lines[1]["T2DRL"].get_xydata() == pytest.approx(np.array([[1, 0.52], [2, 0.545]]))
    assert [axes.get_xlabel() for axes in figure.axes[-2:]] == ["num_users", "chain_len"]


@pytest.mark.usefixtures("todo")
def test_without_values_alone_the_figure_shows_scores_while_learning(study, tmp_path):
    plain = replace(study, one_at_a_time={}, grid={"scenario": ("default",)})

    figure = figures.draw(plain, cells(plain), tmp_path)

    (curve, *_) = figure.axes[0].get_lines()
    assert curve.get_xydata() == pytest.approx(np.array([[1.0, 0.545]]))  # minutes
    assert curve.get_label() == "unchanged (2 seeds)"


def test_an_estimate_is_the_interquartile_mean_and_its_interval():
    middle, low, high = estimate([0.0, 1.0, 2.0, 3.0, 100.0])
    assert middle == 2.0
    assert 0.0 <= low < 2.0 < high


def test_words_stand_on_the_axis_as_words(study, tmp_path):
    worded = replace(study, one_at_a_time={"learning.allocation.nets.actor": ("diffusion", "mlp")})
    for index, cell in enumerate(cells(worded)):
        write(record(cell, 0.1 * index), tmp_path / f"{cell.name}.json")

    figure = figures.draw(worded, cells(worded), tmp_path)

    curve = figure.axes[0].get_lines()[0]
    assert list(curve.get_xdata()) == ["diffusion", "mlp"]
    assert curve.get_ydata() == pytest.approx([0.05, 0.25])
