import asyncio
import dataclasses

import numpy as np
import pytest

from controller.cell.config import RadioConfig
from controller.cell.simulator import Simulator
from controller.policies.policy import Pair
from controller.policies.scores import run_episode
from controller.testbed.interface import run_frames
from controller.testbed.simulated import SimulatedTestbed
from controller.training import checkpoints as files
from protos.config import ConfigError
from tests.unit.controller.scenarios import MODELS, curves, scenario, table
from tests.unit.controller.training_runs import train_config, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training run's folder, of the whole module."""
    return trained(tmp_path_factory.mktemp("runs"), num_episodes=2, evaluate_every=0)[1]


def test_a_loaded_policy_always_decides_alike(folder):
    measured = [
        run_episode(files.load(folder), Simulator(scenario(), table(), num_envs=2, seed=0))
        for _ in range(2)
    ]
    assert measured[0] == measured[1]


def test_it_may_be_used_on_another_scenario_of_the_same_models_and_sizes(folder):
    drifting = scenario(capacity_bytes=60, num_frames=2)
    simulator = Simulator(drifting, table(capacity_bytes=60), num_envs=2, seed=0)
    assert run_episode(files.load(folder, drifting), simulator).num_requests > 0


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_users": 9}, r"sizes.num_users is 4 in the checkpoint and 9 here"),
        ({"history_frames": 3}, r"feature_dim is 16 in the checkpoint and 19 here"),
        (
            {"synthetic_models": (*MODELS[:2], curves("d"))},
            r"trained for the models \('a', 'b', 'c'\), here they are \('a', 'b', 'd'\)",
        ),
    ],
)
def test_another_scenario_is_refused_with_both_sides_named(folder, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        files.load(folder, scenario(**changes))


def test_a_training_without_a_checkpoint_is_refused_by_name(tmp_path):
    from controller.training.run_folder import begin

    with pytest.raises(ConfigError, match="holds no checkpoint yet"):
        files.load(begin(train_config(tmp_path), scenario(), "test"))
    with pytest.raises(ConfigError, match=r"cannot read .*config\.json"):
        files.load(tmp_path)


def for_run(folder, **changes):
    values = {
        "model_ids": ("a", "b", "c"),
        "num_nodes": 1,
        "history_frames": 2,
        "radio": scenario().radio,
        "slot_s": 2.0,
    }
    return files.for_run(folder, **(values | changes))


def test_a_run_that_names_it_is_decided_by_it_on_the_simulated_testbed(folder):
    learned = for_run(folder)
    held, shares = [], []

    def cache(frame):
        held.append(learned.decide_caches(frame))
        return held[-1]

    def allocate(slot):
        shares.append(learned.decide_allocations(slot))
        return shares[-1]

    testbed = SimulatedTestbed(scenario(), table(), seed=0)
    asyncio.run(run_frames(testbed, Pair(cache, allocate), num_frames=3, slots_per_frame=5))

    assert (len(held), len(shares)) == (3, 15)
    given = [one.shares[one.shares > 0] for one in shares]
    assert any(np.ptp(one) > 0.01 for one in given if len(one) > 1)  # not equal shares


def test_the_runs_own_cell_is_what_gains_are_read_against(folder):
    radio = RadioConfig(transmit_power_w=0.5)
    policy = for_run(folder, radio=radio, slot_s=0.7)

    assert policy.allocation._scenario.radio == radio
    assert policy.caching._scenario.slot_s == 0.7


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_ids": ("a", "b")}, r"models \('a', 'b', 'c'\), here they are \('a', 'b'\)"),
        ({"model_ids": ("b", "a", "c")}, r"here they are \('b', 'a', 'c'\)"),
        ({"num_nodes": 2}, "edge nodes 1, here they are 2"),
        ({"history_frames": 4}, "history_frames 2, here they are 4"),
    ],
)
def test_a_run_of_another_setting_is_refused_with_both_sides_named(folder, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        for_run(folder, **changes)


@pytest.mark.parametrize("num_nodes", [0, 2])
def test_nodes_that_are_lost_are_not_decided_for(folder, num_nodes):
    seen = Simulator(scenario(num_nodes=max(1, num_nodes)), table(), num_envs=1, seed=0)
    frame = seen.observe_frame()
    if not num_nodes:
        caches, room = frame.caches[:, :0], frame.capacity_bytes[:0]
        frame = dataclasses.replace(frame, caches=caches, capacity_bytes=room)
        assert for_run(folder).decide_caches(frame).shape == (1, 0, 3)
    else:
        with pytest.raises(ValueError, match="the agent caches on 1 nodes, got 2"):
            for_run(folder).decide_caches(frame)
