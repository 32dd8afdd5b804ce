import asyncio

import numpy as np
import pytest

from controller.cell.config import RadioConfig
from controller.cell.simulator import Simulator
from controller.policies.policy import RandomFeasible
from controller.policies.scores import run_episode
from controller.record.config import NodeSpec, RunConfig
from controller.testbed import run_policy
from controller.testbed.interface import run_frames
from controller.training import checkpoints as files
from controller.training.environments import SimulatedTestbed
from protos.config import ConfigError
from protos.seeds import stream
from tests.unit.controller.scenarios import MODELS, curves, scenario, table
from tests.unit.controller.training_runs import told, trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A training's folder, of the whole module."""
    return trained(tmp_path_factory.mktemp("runs"), num_episodes=2, evaluate_every=0)[1]


def run_config(folder, **changes) -> RunConfig:
    values = {
        "num_frames": 3,
        "slots_per_frame": 5,
        "slot_s": 2.0,
        "num_users": 4,
        "policy": "t2drl",
        "checkpoint": str(folder),
        "nodes": (NodeSpec(attach="127.0.0.1:1"),),
        "radio": scenario().radio,
    }
    return RunConfig(**(values | changes))


def of_run(folder, models=("c", "a", "b"), num_nodes=1, **changes):
    config = run_config(folder, **changes)
    return run_policy.of_run(config, models, num_nodes, stream(0, "policy"))


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
        files.load(begin(told(tmp_path), scenario(), "test"))
    with pytest.raises(ConfigError, match="is not a training's folder"):
        files.load(tmp_path)


def test_a_run_that_names_it_is_decided_by_it_on_the_simulated_testbed(folder):
    testbed = SimulatedTestbed(scenario(), table(), seed=0)
    policy = of_run(folder)
    held, shares = [], []
    decide_cache, decide_allocation = policy.decide_cache, policy.decide_allocation

    def cache(observation):
        held.append(decide_cache(observation))
        return held[-1]

    def allocation(observation):
        shares.append(decide_allocation(observation).shares)
        return decide_allocation(observation)

    policy.decide_cache, policy.decide_allocation = cache, allocation
    asyncio.run(run_frames(testbed, policy, num_frames=3, slots_per_frame=5))

    assert len(held) == 3
    assert len(shares) == 15
    assert any(np.ptp(one) > 0.01 for one in shares if len(one) > 1)  # not equal shares


def test_the_runs_own_cell_is_what_gains_are_read_against(folder):
    radio = RadioConfig(transmit_power_w=0.5)
    policy = of_run(folder, radio=radio, slot_s=0.7)._policy

    assert policy.allocation._scenario.radio == radio
    assert policy.caching._scenario.slot_s == 0.7


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"models": ("a", "b")}, r"models \('a', 'b', 'c'\), here they are \('a', 'b'\)"),
        ({"num_nodes": 2}, "edge nodes 1, here they are 2"),
    ],
)
def test_a_run_of_another_setting_is_refused_with_both_sides_named(folder, changes, complaint):
    with pytest.raises(ConfigError, match=complaint):
        of_run(folder, **changes)


def test_plain_policies_need_no_checkpoint(folder):
    config = run_config(folder, policy="random", checkpoint="")
    policy = run_policy.of_run(config, ("a",), 1, stream(0, "policy"))
    assert isinstance(policy, RandomFeasible)
