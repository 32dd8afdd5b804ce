"""One agent for all: wishes become caches, and what is stored of them."""

import dataclasses

import numpy as np
import pytest

from controller.agents.d3pg import D3pgConfig
from controller.agents.ddqn import DdqnConfig
from controller.agents.networks import NetConfig
from controller.cell.simulator import Simulator
from controller.training.one_agent import OneAgent, Wished, agents
from controller.training.two_timescale import LearningConfig
from protos.seeds import stream
from tests.unit.controller.scenarios import scenario, table
from tests.unit.controller.trainings import learner, learning, simulator

FLAT = D3pgConfig(
    nets=NetConfig(actor="mlp", hidden=8, form="flat", critic_reads="raw"),
    discount=0.9,
    critic_head_start=5,
)
ENVS = 4


def one_agent(**changes) -> tuple[Wished, OneAgent]:
    return agents(
        "d3pg",
        DdqnConfig(),
        FLAT,
        scenario(**changes),
        table(**changes),
        lambda name: stream(0, name),
    )


def sim(**changes) -> Simulator:
    return Simulator(scenario(**changes), table(**changes), num_envs=ENVS, seed=0)


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_nodes_cache_what_the_slot_before_wished_for(num_nodes):
    nodes = sim(num_nodes=num_nodes)
    caching, allocation = one_agent(num_nodes=num_nodes)
    sizes, capacity = table().resident_bytes, scenario().capacity_bytes
    wishes = np.zeros((ENVS, num_nodes, 3))
    while not nodes.is_over:
        frame = nodes.observe_frame()
        caches = caching.decide(frame, explore=True).caches
        nodes.apply_caches(caches)  # refuses what does not fit
        if frame.frame:
            held_most = np.where(sizes <= capacity, wishes, -np.inf).argmax(axis=-1)
            assert np.take_along_axis(caches, held_most[..., None], axis=-1).all()
        free = capacity - caches @ sizes
        assert not (~caches & (sizes <= free[..., None])).any()  # nothing more would fit
        for _ in range(scenario().slots_per_frame):
            decision = allocation.decide(nodes.observe_slot(), explore=True)
            nodes.apply_allocations(decision.allocation)
        rows = decision.raw_action[:, scenario().num_users :]
        wishes = rows.reshape(ENVS, -1)[:, : num_nodes * 3].reshape(ENVS, num_nodes, 3)
    assert np.ptp(wishes) > 0


def test_it_sees_what_is_cached_and_how_much_of_the_frame_is_left():
    nodes = sim()
    caching, allocation = one_agent()
    caches = caching.decide(nodes.observe_frame(), explore=False).caches
    nodes.apply_caches(caches)
    slots = scenario().slots_per_frame
    contexts = []
    for _ in range(slots):
        decision = allocation.decide(nodes.observe_slot(), explore=False)
        nodes.apply_allocations(decision.allocation)
        contexts.append(decision.features.context)
    assert [one[0, -1] for one in contexts] == pytest.approx(
        [left / slots for left in range(slots, 0, -1)]
    )
    counts = 3 * scenario().history_frames
    begin = contexts[0].shape[1] - 1 - allocation._frame_width
    seen = contexts[0][:, begin + counts : begin + counts + 3]
    assert np.array_equal(seen, caches[:, 0])
    nodes.apply_caches(caches)  # given by others: nothing is known of the frame
    decision = allocation.decide(nodes.observe_slot(), explore=False)
    assert not decision.features.context[:, begin:].any()


def test_wishes_earn_nothing_of_their_own():
    nodes = sim()
    caching, allocation = one_agent()
    nodes.apply_caches(caching.decide(nodes.observe_frame(), explore=True).caches)
    slot = nodes.observe_slot()
    first = allocation.decide(slot, explore=True)
    reward = np.where(slot.asks, 1.0, 0.0)
    found = allocation.transitions(first, reward, first)
    assert set(found) == set(allocation.fields)
    users = scenario().num_users
    assert np.array_equal(found["reward"][:, :users], reward)
    assert not found["reward"][:, users:].any()
    assert found["user_mask"][:, users:].all()


def test_it_learns_in_the_same_loop_and_goes_on_after_a_stop(tmp_path):
    config = learning(caches_by="d3pg", reward="utility", allocation=FLAT)
    whole, stopped, resumed = (learner(config=config) for _ in range(3))
    rows = [list(whole.learn_episode(simulator(seed))) for seed in (0, 1)]
    list(stopped.learn_episode(simulator(0)))
    stopped.save(tmp_path, {})
    resumed.load(tmp_path, {})
    assert list(resumed.learn_episode(simulator(1))) == rows[1]
    assert "d3pg/critic_loss" in rows[1][-1]
    assert not any(name.startswith("ddqn") for row in rows[1] for name in row)


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"reward": "gain"}, "got gain, flat, raw and 0.9"),
        ({"allocation": dataclasses.replace(FLAT, discount=0.0)}, "got utility, flat, raw and 0$"),
        ({"allocation": D3pgConfig(discount=0.9)}, "got utility, set, amended and 0.9"),
    ],
)
def test_what_leaves_the_caches_out_is_refused(changes, got):
    with pytest.raises(ValueError, match=f"caches_by d3pg needs reward utility.*{got}"):
        LearningConfig(**({"caches_by": "d3pg", "reward": "utility", "allocation": FLAT} | changes))
