"""Studies: cells of the grid and their names; what policies are rated on."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from controller.cell.observations import Allocation
from controller.policies.evaluation import EvaluationSuite, Rating
from controller.studies import study as studies
from controller.studies.study import Cell, StudyConfig, cells
from protos import config as configs
from protos.config import ConfigError, to_json
from tests.unit.controller.scenarios import scenario
from tests.unit.controller.training_runs import train_config

GRID = {
    "scenario": ("default", "tight-memory"),
    "learning.allocation.nets.actor": ("diffusion", "mlp"),
}


def study(tmp_path, **changes) -> StudyConfig:
    values = {"title": "a study", "seeds": (0, 1), "grid": GRID, "train": train_config(tmp_path)}
    return StudyConfig(**(values | changes))


def test_cells_are_all_combinations_of_the_grid_with_all_seeds(tmp_path):
    found = cells(study(tmp_path))

    seen = [
        (one.config.scenario, one.config.learning.allocation.nets.actor, one.config.seed)
        for one in found
    ]
    assert seen[:3] == [
        ("default", "diffusion", 0),
        ("default", "diffusion", 1),
        ("default", "mlp", 0),
    ]
    assert len(set(seen)) == 8
    assert found[0].labels == {"scenario": "default", "actor": "diffusion"}
    assert found[-1].suite.scenario.capacity_bytes == 7_000_000_000  # tight-memory's
    assert {one.config.num_envs for one in found} == {train_config(tmp_path).num_envs}


def test_variants_are_taken_one_by_one_at_each_combination_of_the_grid(tmp_path):
    actor, hidden = "learning.allocation.nets.actor", "learning.allocation.nets.hidden"
    variants = ({actor: "mlp", hidden: 128}, {actor: "diffusion"})
    grid = {"scenario": ("default", "tight-memory")}

    found = cells(study(tmp_path, grid=grid, variants=variants, seeds=(0,)))

    assert [one.labels for one in found] == [
        {"scenario": "default", "actor": "mlp", "hidden": 128},
        {"scenario": "default", "actor": "diffusion"},
        {"scenario": "tight-memory", "actor": "mlp", "hidden": 128},
        {"scenario": "tight-memory", "actor": "diffusion"},
    ]
    assert [one.config.learning.allocation.nets.hidden for one in found[:2]] == [
        128,
        train_config(tmp_path).learning.allocation.nets.hidden,
    ]


def test_each_value_alone_changes_the_training_run_or_its_scenario(tmp_path):
    one_at_a_time = {
        "scenario.num_users": (10, 6),  # 10 is the default scenario's own
        "scenario.workload.zipf_skews": ((0.5, 1.0, 1.5),),
        "learning.allocation.nets.chain_len": (3,),
    }
    found = cells(study(tmp_path, grid={}, one_at_a_time=one_at_a_time, seeds=(0,)))

    as_it_is, fewer, flatter, longer_chain = found
    assert [one.suite.scenario.num_users for one in found] == [10, 6, 10, 10]
    assert flatter.suite.scenario.workload.zipf_skews == (0.5, 1.0, 1.5)
    assert longer_chain.config.learning.allocation.nets.chain_len == 3
    assert fewer.config == as_it_is.config == flatter.config
    assert [one.one_at_a_time[0].rpartition(".")[2] for one in found[1:]] == [
        "num_users",
        "zipf_skews",
        "chain_len",
    ]
    assert len({one.name for one in found}) == 4
    assert as_it_is.name == cells(study(tmp_path, grid={"scenario": ("default",)}))[0].name
    assert as_it_is.suite == longer_chain.suite != fewer.suite


def test_a_cells_name_follows_all_that_its_numbers_depend_on(tmp_path):
    def name(**changes) -> str:
        return cells(study(tmp_path, **changes))[0].name

    same = train_config(tmp_path / "elsewhere", checkpoint_every=1)
    others = [
        {"test_envs": 3},
        {"test_episodes": 3},
        {"seeds": (2,)},
        {"train": train_config(tmp_path, num_episodes=5)},
        {"grid": GRID | {"scenario": ("tight-memory",)}},
    ]
    assert name() == name(train=same) == name(title="another")
    assert name().startswith("default-s0-")
    assert len({name(), *(name(**changes) for changes in others)}) == 6


def test_a_cell_that_is_read_again_has_its_key_also_when_options_were_added_meanwhile(tmp_path):
    cell = cells(study(tmp_path))[0]
    raw = json.loads(to_json(cell))
    del raw["config"]["are_loads_free"]  # as in a record of before this option

    again = configs.parse(raw, Cell, "record")

    assert (again.key, again.name, again.group) == (cell.key, cell.name, cell.group)
    changed = configs.parse(raw | {"suite": raw["suite"] | {"envs": 3}}, Cell, "record")
    assert changed.key != cell.key


@pytest.mark.parametrize(
    ("grid", "complaint"),
    [
        ({"learning.allocation.nets.actr": ("mlp",)}, "unknown key .*actr.*did you mean 'actor'"),
        ({"num_envs": (0,)}, "num_envs must be > 0, got 0"),
        ({"seed.more": (1,)}, "'seed.more' names nothing of a TrainConfig"),
        ({"scenario": ("nowhere",)}, "there is no file nowhere.toml"),
    ],
)
def test_a_grid_of_what_a_training_run_has_not_is_refused(tmp_path, grid, complaint):
    with pytest.raises(ConfigError, match=complaint):
        cells(study(tmp_path, grid=grid))


def test_a_scenarios_numbers_are_checked_and_vary_alone_only(tmp_path):
    with pytest.raises(ConfigError, match="num_users must be >= 1, got 0"):
        cells(study(tmp_path, grid={}, one_at_a_time={"scenario.num_users": (0,)}))
    with pytest.raises(ConfigError, match=r"'scenario.num_users' names nothing of a TrainConfig"):
        cells(study(tmp_path, grid={"scenario.num_users": (6,)}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"seeds": ()}, "seeds must not be empty"),
        ({"seeds": (1, 1)}, r"seeds must differ, got \[1, 1\]"),
        ({"grid": {}}, "grid, variants and one_at_a_time must not all be empty"),
        ({"test_episodes": 0}, "test_episodes must be > 0, got 0"),
    ],
)
def test_a_study_of_nothing_is_refused(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        study(tmp_path, **changes)


def test_every_shipped_study_can_be_read():
    files = sorted((configs.packages() / studies.STUDIES).glob("*.toml"))
    assert files
    for file in files:
        config = studies.load(Path(file.name))
        assert len(cells(config)) >= len(config.seeds)


def test_the_suite_rates_the_floor_0_and_the_oracle_1():
    suite = EvaluationSuite(scenario(), seeds=(0, 1), num_envs=2)

    ratings = {rating.policy: rating for rating in suite.baselines()}
    allocations = {rating.policy: rating for rating in suite.allocations()}

    assert ratings["random-equal"].scores == (0.0, 0.0)
    assert ratings["clairvoyant-exact"].score == pytest.approx(1.0)
    assert allocations["equal"].scores == (0.0, 0.0)
    assert allocations["exact"].score == pytest.approx(1.0)
    assert ratings["cloud-equal"].mean("hit_frac") == 0.0

    def starved(slot):  # all bandwidth to one user
        asked = slot.asks * np.arange(1, slot.asks.shape[1] + 1)
        first = (asked == asked.max(axis=1, keepdims=True)) & slot.asks
        share = np.where(first, 1.0, 1e-6 * slot.asks)
        share = share / np.maximum(share.sum(axis=1, keepdims=True), 1.0)
        return Allocation(shares=share, num_steps=np.where(slot.nodes < 0, slot.max_num_steps, 1))

    assert suite.rate_allocation("starved", lambda _: starved).score < -1


def test_a_rating_is_the_mean_over_its_episodes():
    measured = next(EvaluationSuite(scenario(), seeds=(0,), num_envs=1).baselines()).measured[0]
    twice = (measured, dataclasses.replace(measured, utility=measured.utility + 1))
    rating = Rating(policy="p", scores=(0.25, 0.75), measured=twice)
    assert rating.score == 0.5
    assert rating.mean("utility") == pytest.approx(measured.utility + 0.5)
    assert configs.parse(json.loads(to_json(rating)), Rating, "here") == rating
