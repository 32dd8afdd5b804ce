import numpy as np
import pytest

from controller.agents.d3pg import D3pgConfig
from controller.agents.networks import NetConfig
from controller.training.two_timescale import LearningConfig
from tests.unit.controller.scenarios import curves
from tests.unit.controller.training_runs import ENVS, learner, learning, simulator

MANY = {"synthetic_models": tuple(curves(f"m{i}", resident_bytes=30 + i) for i in range(13))}


class Spy:
    """A replay that keeps all that it is given."""

    def __init__(self, replay):
        self.replay, self.added = replay, []

    def add(self, transitions):
        self.added.append({name: np.array(values) for name, values in transitions.items()})
        self.replay.add(transitions)

    def sample(self, minibatch):
        return self.replay.sample(minibatch)

    def __len__(self):
        return len(self.replay)


def spied(**changes):
    agent = learner(config=learning(**changes))
    agent._frames, agent._slots = Spy(agent._frames), Spy(agent._slots)
    return agent


def test_every_slot_and_every_frame_after_the_warm_up_is_stored_once():
    agent = spied(caching_warmup_frames=2)

    rows = [row for seed in range(2) for row in agent.learn_episode(simulator(seed))]

    assert len(rows) == agent.num_frames == 6  # 2 episodes of 3 frames
    assert len(agent._frames.added) == 4
    assert len(agent._slots.added) == 30  # of 5 slots a frame
    assert all(len(one["reward"]) == ENVS for one in agent._frames.added + agent._slots.added)


def test_a_transition_leads_to_the_next_one_and_never_into_the_next_episode():
    allocation = D3pgConfig(nets=NetConfig(hidden=8, chain_len=2), discount=0.9)
    agent = spied(caching_warmup_frames=0, allocation=allocation)
    for seed in range(2):
        list(agent.learn_episode(simulator(seed)))

    for replay, name, length in ((agent._frames, "features", 3), (agent._slots, "context", 15)):
        for index, (one, after) in enumerate(zip(replay.added, replay.added[1:], strict=False)):
            is_last = (index + 1) % length == 0
            assert np.array_equal(one[f"next_{name}"], after[name]) != is_last
            assert one["continues"].all()  # episodes are cut off, they do not end


def test_ddqn_is_rewarded_with_the_mean_over_the_frames_slots_and_d3pg_with_each_users_own():
    # With "utility" the sum of a user's rewards over the frame is DDQN's, but for the scale.
    agent = spied(caching_warmup_frames=0, reward="utility")
    list(agent.learn_episode(simulator()))

    for frame, stored in enumerate(agent._frames.added):
        slots = agent._slots.added[5 * frame : 5 * frame + 5]
        of_users = np.mean([slot["reward"].sum(axis=1) for slot in slots], axis=0)
        assert stored["reward"] == pytest.approx(of_users / 3.2, abs=1e-6)


def test_learning_starts_when_a_minibatch_is_there():
    agent = learner(config=learning(caching_warmup_frames=1, caching_minibatch=4))

    rows = list(agent.learn_episode(simulator()))

    assert [any(key.startswith("d3pg/") for key in row) for row in rows] == [True] * 3
    # frames 2 and 3 are stored, of 3 environments each: 4 are there after the third
    assert [any(key.startswith("ddqn/") for key in row) for row in rows] == [False, False, True]


@pytest.mark.parametrize("changes", [{"num_nodes": 2}, MANY], ids=["2 nodes", "13 models"])
def test_several_nodes_and_many_models_are_learnt_as_well(changes):
    agent = learner(config=learning(caching_warmup_frames=0), **changes)

    rows = list(agent.learn_episode(simulator(**changes)))

    assert np.isfinite([value for row in rows for value in row.values()]).all()
    assert "ddqn/td_loss" in rows[-1]


def test_the_same_seed_learns_the_same_and_another_seed_does_not():
    def rows(seed: int) -> list[dict[str, float]]:
        agent = learner(seed)
        return [row for episode in range(2) for row in agent.learn_episode(simulator(episode))]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"caching_updates": -1}, "caching_updates must be >= 0, got -1"),
        ({"allocation_minibatch": 0}, "allocation_minibatch must be > 0, got 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        LearningConfig(**changes)
