import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from controller.policies import baselines
from controller.policies.baselines import equal
from controller.training.environments import FrameEnvironment, SlotEnvironment
from tests.unit.controller.scenarios import scenario, table


def slot_environment(**changes) -> SlotEnvironment:
    return SlotEnvironment(
        scenario(**changes),
        table(**changes),
        baselines.RandomCaching,
    )


def frame_environment(**changes) -> FrameEnvironment:
    return FrameEnvironment(scenario(**changes), table(**changes), equal)


MAKERS = {
    "slot": slot_environment,
    "frame": frame_environment,
    "slot of 2 nodes": lambda: slot_environment(num_nodes=2),
    "frame of 2 nodes": lambda: frame_environment(num_nodes=2),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_gymnasium_accepts_the_environment(make, monkeypatch):
    # the checker would have us announce a registered id, which these do not have
    monkeypatch.setattr(gymnasium.logger, "min_level", gymnasium.logger.ERROR)
    check_env(make(), skip_render_check=True)


def episode(environment, seed: int) -> tuple[list[float], list[np.ndarray]]:
    environment.action_space.seed(seed)
    rewards, seen = [], [environment.reset(seed=seed)[0]]
    is_over = False
    while not is_over:
        observation, reward, is_terminal, is_over, _ = environment.step(
            environment.action_space.sample()
        )
        assert not is_terminal
        assert environment.observation_space.contains(observation)
        rewards.append(reward)
        seen.append(observation)
    return rewards, seen


@pytest.mark.parametrize(("make", "length"), [(slot_environment, 15), (frame_environment, 3)])
def test_episodes_are_cut_at_their_end_and_repeat_with_their_seed(make, length):
    rewards, seen = episode(make(), 3)
    again, seen_again = episode(make(), 3)
    assert len(rewards) == length
    assert rewards == again
    assert all(np.array_equal(*pair) for pair in zip(seen, seen_again, strict=True))
    assert episode(make(), 4)[0] != rewards


def test_the_slot_environment_tells_each_users_utility():
    environment = slot_environment()
    environment.reset(seed=0)
    _, reward, _, _, info = environment.step(environment.action_space.sample())
    assert info["utility"].shape == info["asks"].shape == (4,)
    assert reward == pytest.approx(info["utility"].sum() / 3.2)


def test_a_subset_that_does_not_fit_is_cut_and_the_mask_says_so():
    environment = frame_environment()
    _, info = environment.reset(seed=1)
    assert info["action_mask"].tolist() == [True, True, True, False, True, True, True, False]

    def reward(action: int) -> float:
        environment.reset(seed=1)
        return environment.step(action)[1]

    # a, b and c: b does not fit beside a; a and c do
    assert reward(0b111) == reward(0b101) != reward(0b110)
