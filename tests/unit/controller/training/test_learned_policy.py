import asyncio
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from controller.agents.d3pg import D3pgConfig
from controller.agents.ddqn import Ddqn, DdqnConfig
from controller.agents.networks import NetConfig, slot_of
from controller.agents.sequential_cache import SequentialCache
from controller.cell.observations import action_mask, subsets
from controller.cell.simulator import Simulator
from controller.testbed.interface import run_frames
from controller.testbed.simulated import SimulatedTestbed
from controller.training.learned_policy import AllocationAgent, CachingAgent, LearnedPolicy
from protos.config import ConfigError
from protos.seeds import stream
from tests.unit.controller.scenarios import MANY, scenario, slot, table


def caching(**changes) -> CachingAgent:
    config = DdqnConfig(hidden=8)
    return CachingAgent(config, scenario(**changes), table(**changes), stream(0, "caching"))


def allocation(architecture: str = "deep_sets", **changes) -> AllocationAgent:
    config = D3pgConfig(
        nets=NetConfig(hidden=8, chain_len=2, architecture=architecture), discount=0.9
    )
    return AllocationAgent(config, scenario(**changes), stream(0, "allocation"))


@pytest.mark.parametrize("explore", [False, True])
@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Ddqn),
        ({"num_nodes": 2}, Ddqn),
        ({"synthetic_models": MANY}, SequentialCache),
        ({"synthetic_models": MANY, "num_nodes": 2}, SequentialCache),
    ],
    ids=["subsets", "subsets, 2 nodes", "sequence", "sequence, 2 nodes"],
)
def test_whole_episodes_of_decisions_are_feasible(changes, kind, explore):
    simulator = Simulator(scenario(**changes), table(**changes), num_envs=3, seed=0)
    agent, policy = caching(**changes), allocation(**changes)
    assert type(agent.agent) is kind

    held = []
    while not simulator.is_over:
        decision = agent.decide(simulator.observe_frame(), explore=explore)
        simulator.apply_caches(decision.caches)  # refuses what is infeasible
        held.append(decision.caches)
        for _ in range(5):
            slot_decision = policy.decide(simulator.observe_slot(), explore=explore)
            simulator.apply_allocations(slot_decision.allocation)

    assert len(held) == 3
    assert np.any(held) or not explore  # untrained values may well say: nothing


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_a_frames_transition_names_the_subset_that_was_held(num_nodes):
    simulator = Simulator(scenario(num_nodes=num_nodes), table(), num_envs=3, seed=0)
    agent = caching(num_nodes=num_nodes)
    frame = simulator.observe_frame()
    first, second = (agent.decide(frame, explore=True) for _ in range(2))

    found = agent.transitions(first, np.array([1.0, 2.0, 3.0]), second)

    assert set(found) == set(agent.fields)
    held = subsets(3)[found["action"]].reshape(3, num_nodes, 3)
    assert np.array_equal(held, first.caches)
    assert found["reward"].tolist() == np.repeat([1.0, 2.0, 3.0], num_nodes).tolist()
    assert np.array_equal(found["next_features"], second.features.reshape(3 * num_nodes, -1))
    assert np.array_equal(found["next_feasible"][-1], action_mask(frame)[0])


def test_a_node_is_decided_with_the_caches_of_the_nodes_before_it_in_sight():
    simulator = Simulator(scenario(num_nodes=2), table(), num_envs=4, seed=0)
    decision = caching(num_nodes=2).decide(simulator.observe_frame(), explore=True)

    # features: 2 past frames of 3 models, then 2 caches of 3, ..., and at the end which node
    seen = decision.features[:, :, 6:12].reshape(4, 2, 2, 3)
    assert not seen[:, 0].any()
    assert np.array_equal(seen[:, 1, 0], decision.caches[:, 0])
    assert not seen[:, 1, 1].any()
    assert decision.features[0, :, -2:].tolist() == [[1, 0], [0, 1]]


def test_a_lost_node_counts_as_empty_and_one_too_many_is_refused():
    frame = Simulator(scenario(num_nodes=2), table(), num_envs=1, seed=0).observe_frame()
    one = replace(frame, caches=frame.caches[:, :1])

    assert caching(num_nodes=2).decide(one, explore=False).caches.shape == (1, 1, 3)
    with pytest.raises(ValueError, match="caches on 1 nodes, got 2"):
        caching().decide(frame, explore=False)


@pytest.mark.parametrize("changes", [{}, {"synthetic_models": MANY}], ids=["subsets", "sequence"])
def test_larger_models_than_trained_on_are_left_out(changes):
    frame = Simulator(scenario(**changes), table(**changes), num_envs=9, seed=0).observe_frame()
    sizes = np.full(len(frame.table.model_ids), 70)  # of 100 bytes
    grown = replace(frame, table=replace(frame.table, resident_bytes=sizes))

    caches = caching(**changes).decide(grown, explore=True).caches

    assert caches.sum(axis=-1).max() == 1


@pytest.mark.parametrize("architecture", ["deep_sets", "mlp"])
@pytest.mark.parametrize("num_requests", [1, 3, 4, 5, 9])
def test_any_number_of_requests_is_allocated(architecture, num_requests):
    seen = slot([0] * num_requests)

    decision = allocation(architecture).decide(seen, explore=False)

    decision.allocation.validate(seen)
    assert decision.allocation.shares.shape == (1, num_requests)
    assert decision.allocation.shares.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("reads", "is_alike"), [("amended", True), ("raw", False)])
def test_an_amended_critic_rates_alike_what_the_amender_makes_alike(reads, is_alike):
    config = D3pgConfig(nets=NetConfig(hidden=8, critic_action_input=reads))
    agent = AllocationAgent(config, scenario(), stream(0, "allocation"))
    seen = agent.decide(slot([0, 1, 2, -1]), explore=False).seen
    state = slot_of(**{name: torch.from_numpy(array) for name, array in seen.items()})
    raw = torch.tensor([[[-0.5, 0.1], [0.2, -0.3], [0.4, 0.0], [0.0, 0.0]]])
    wider = raw + torch.tensor([0.3, 0.0])  # every logit alike: the same shares

    d3pg = agent.agent
    values = [d3pg._rate(d3pg._critic.net, state, any_raw)[0, :3] for any_raw in (raw, wider)]

    assert torch.allclose(*values, atol=1e-6) == is_alike


def test_stable_baselines3_is_imported_for_its_agents_alone():
    code = "import sys, controller.training.train; print('stable_baselines3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100
    )

    assert done.stdout.strip() == "False"


def test_a_reference_agent_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)  # as if it were not installed
    monkeypatch.delitem(sys.modules, "controller.training.sb3_agents", raising=False)

    with pytest.raises(
        ConfigError, match=r"'sb3-td3' needs stable_baselines3: pip install \.\[sb3\]"
    ):
        AllocationAgent(D3pgConfig(), scenario(), stream(0, "allocation"), "sb3-td3")


def test_a_run_of_few_requests_reads_what_the_simulator_would_show():
    agent = allocation()
    few = agent.decide(slot([0, 2]), explore=False).seen
    filled_up = agent.decide(slot([0, 2, -1, -1]), explore=False).seen

    assert few.keys() == filled_up.keys()
    assert all(np.array_equal(few[name], filled_up[name]) for name in few)


def test_a_slots_transition_holds_what_the_learner_reads():
    agent = allocation()
    now, after = (agent.decide(slot(models), explore=True) for models in ([0, 1, 2, -1], [2] * 4))

    found = agent.transitions(now, np.ones((1, 4)), after)

    assert set(found) == set(agent.fields)
    assert found["user_mask"].tolist() == [[True, True, True, False]]
    assert found["next_user_mask"].all()
    assert found["raw_action"] is now.raw_action


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_it_decides_a_run_on_the_simulated_testbed(num_nodes):
    testbed = SimulatedTestbed(scenario(num_nodes=num_nodes), table(), seed=0)
    policy = LearnedPolicy(caching(num_nodes=num_nodes), allocation(num_nodes=num_nodes))

    asyncio.run(run_frames(testbed, policy, num_frames=3, slots_per_frame=5))  # validates all

    assert asyncio.run(testbed.observe_frame(3)).frame == 3
