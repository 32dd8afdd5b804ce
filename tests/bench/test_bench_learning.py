"""Speed of the learners: decisions, and updates side by side with Stable-Baselines3's DDPG."""

import time
from collections.abc import Callable, Mapping
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG

from controller.agents.d3pg import D3pg, D3pgConfig, replay_fields
from controller.agents.ddqn import Ddqn, DdqnConfig
from controller.agents.networks import ACTION_DIM, NetConfig, SlotSizes
from controller.agents.replay import Replay

ROUNDS, PER_ROUND = 11, 10
OBSERVATION, ACTION = 40, 16
# With 8 users of 3 features, a mask bit each, 7 of context and the active fraction, our flat nets
# take 40 numbers too.
SIZES = SlotSizes(num_users=8, user_dim=3, context_dim=7)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def timed(calls: Mapping[str, Callable[[], object]]) -> dict[str, np.ndarray]:
    """Return CPU seconds a call [round] of each, measured in turn within every round.

    One thread computes, so on a free core CPU time is wall time; on a busy machine it still holds.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS + 2):
        for name, call in calls.items():
            began_s = time.process_time()
            for _ in range(PER_ROUND):
                call()
            seconds[name].append((time.process_time() - began_s) / PER_ROUND)
    return {name: np.array(values[2:]) for name, values in seconds.items()}


def observation(num_envs: int, num_users: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "user_features": rng.standard_normal((num_envs, num_users, 3), dtype=np.float32),
        "user_mask": np.ones((num_envs, num_users), bool),
        "context": rng.standard_normal((num_envs, 7), dtype=np.float32),
    }


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
def test_how_long_a_decision_takes(capsys):
    slot = observation(1, 10)
    sizes = SlotSizes(num_users=10, user_dim=3, context_dim=7)
    calls: dict[str, Callable[[], object]] = {}
    for architecture in ("mlp", "deep_sets"):
        for actor in ("mlp", "diffusion"):
            agent = D3pg(
                D3pgConfig(nets=NetConfig(architecture=architecture, actor=actor)),
                sizes,
                np.random.default_rng(0),
            )
            calls[f"D3PG {architecture} {actor}"] = partial(agent.act, **slot, explore=False)
    features = np.zeros((1, 60), np.float32)
    for num_actions in (64, 4096):
        learner = Ddqn(DdqnConfig(), 60, num_actions, np.random.default_rng(0))
        feasible = np.ones((1, num_actions), bool)
        calls[f"DDQN {num_actions} actions"] = partial(
            learner.act, features, feasible, explore=False
        )

    seconds = timed(calls)

    with capsys.disabled():
        print("\none decision, 10 users, chain of 5, 1 thread\n{:<24}{:>10}".format("", "CPU ms"))
        for name, values in seconds.items():
            print(f"{name:<24}{1000 * np.median(values):>10.3f}")
    assert np.median(seconds["D3PG deep_sets diffusion"]) < 0.001
    assert np.median(seconds["DDQN 4096 actions"]) < 0.0005


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch, of itself
@pytest.mark.parametrize(("minibatch", "compiles"), [(64, True), (256, False)])
def test_updates_a_second_beside_stable_baselines3(minibatch, compiles, capsys):
    calls: dict[str, Callable[[], object]] = {
        "SB3 DDPG": partial(_sb3(minibatch).train, 1, minibatch)
    }
    for architecture, actor in (("mlp", "mlp"), ("deep_sets", "mlp"), ("deep_sets", "diffusion")):
        for is_compiled in {False, compiles}:
            agent, replay = _ours(architecture, actor, is_compiled=is_compiled)
            name = f"{architecture} {actor}{', compiled' * is_compiled}"
            calls[name] = lambda agent=agent, replay=replay: agent.update(replay.sample(minibatch))

    seconds = timed(calls)

    with capsys.disabled():
        print(f"\n3 hidden layers of 64, minibatch {minibatch}, discount 0.99, 1 thread")
        print(f"{'':<24}{'CPU ms':>10}{'updates/s':>11}{'ratio to SB3 [quartiles]':>28}")
        for name, values in seconds.items():
            low, middle, high = np.percentile(seconds["SB3 DDPG"] / values, [25, 50, 75])
            median_s = np.median(values)
            print(
                f"{name:<24}{1000 * median_s:>10.3f}{1 / median_s:>11.0f}"
                f"{middle:>12.2f} [{low:.2f}, {high:.2f}]"
            )
    assert np.median(seconds["SB3 DDPG"] / seconds["mlp mlp"]) > 0.9


class RandomSlots(gymnasium.Env):
    """Random observations, so that only the learner's work is timed."""

    observation_space = gymnasium.spaces.Box(-1, 1, (OBSERVATION,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (ACTION,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        return self.observation_space.sample(), {}

    def step(self, action):
        return self.observation_space.sample(), float(action.mean()), False, False, {}


def _sb3(minibatch: int) -> DDPG:
    agent = DDPG(
        "MlpPolicy",
        RandomSlots(),
        policy_kwargs={"net_arch": [64] * 3},
        batch_size=minibatch,
        buffer_size=1000,
        train_freq=(1000, "step"),
        gradient_steps=0,
        device="cpu",
        seed=0,
    )
    agent.learn(1000)
    return agent


def _ours(architecture: str, actor: str, *, is_compiled: bool) -> tuple[D3pg, Replay]:
    config = D3pgConfig(
        nets=NetConfig(architecture=architecture, actor=actor),
        discount=0.99,
        critic_warmup_updates=0,
        is_compiled=is_compiled,
    )
    replay = Replay(replay_fields(config, SIZES), 1000, np.random.default_rng(0))
    slots, rng = observation(1000, SIZES.num_users), np.random.default_rng(1)
    replay.add(
        {
            **slots,
            **{f"next_{name}": values for name, values in slots.items()},
            "raw_action": rng.uniform(-1, 1, (1000, 8, ACTION_DIM)).astype(np.float32),
            "reward": rng.random((1000, 8), dtype=np.float32),
            "continues": np.ones(1000, bool),
        }
    )
    return D3pg(config, SIZES, np.random.default_rng(0)), replay
