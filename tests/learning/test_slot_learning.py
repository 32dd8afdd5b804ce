"""What D3PG and its MLP twin really learn, each against a known optimum."""

import numpy as np
import pytest
import torch

from controller.agents.d3pg import D3pg, D3pgConfig, replay_fields
from controller.agents.networks import NetConfig, SlotSizes
from controller.agents.replay import Replay
from protos.seeds import stream
from tests.learning import sharing

pytestmark = pytest.mark.slow


def learn(config, sizes, draw, reward, *, seed: int, updates: int) -> D3pg:
    """Act, store and update, 16 environments at a time; return the agent."""
    agent = D3pg(config, sizes, stream(seed, "agent"))
    replay = Replay(replay_fields(config, sizes), 20_000, stream(seed, "replay"))
    rng = stream(seed, "slots")
    for _ in range(updates):
        slots = draw(rng, 16)
        raw = agent.act(**slots, explore=True)
        replay.add({**slots, "raw_action": raw, "reward": reward(slots, raw)})
        agent.update(replay.sample(64))
    return agent


@pytest.mark.parametrize("actor", ["mlp", "diffusion"])
def test_the_identity_is_learnt(actor):
    sizes = SlotSizes(num_users=2, user_dim=2, context_dim=0)

    def draw(rng, count):
        return {
            "user_features": rng.uniform(-0.9, 0.9, (count, 2, 2)).astype(np.float32),
            "user_mask": np.ones((count, 2), bool),
            "context": np.zeros((count, 0), np.float32),
        }

    def reward(slots, raw):
        return -np.square(raw - slots["user_features"]).mean(2)

    config = D3pgConfig(nets=NetConfig(actor=actor), critic_warmup_updates=100, learning_starts=100)
    agent = learn(config, sizes, draw, reward, seed=0, updates=700)

    test = draw(stream(1, "test"), 500)
    error = np.abs(agent.act(**test, explore=False) - test["user_features"])
    assert error.mean() < 0.1  # acting at random: 0.57, always 0: 0.45


def two_peaks(action: np.ndarray) -> np.ndarray:
    """Return a reward of 1 at -0.6 and at 0.6, and next to nothing between or beyond."""
    return np.maximum(
        np.exp(-(((action - 0.6) / 0.2) ** 2)), np.exp(-(((action + 0.6) / 0.2) ** 2))
    )


def mean_of_good_actions(action: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return actions of the Gaussian fitted to rewarded actions, by weighted likelihood.

    This is what advantage-weighted regression (Peng et al. 2019) makes of one Gaussian.
    """
    weight = np.exp(two_peaks(action) / 0.1)
    mean = np.average(action, weights=weight)
    std = np.average((action - mean) ** 2, weights=weight) ** 0.5
    return np.clip(rng.normal(mean, std, 1000), -1, 1)


@pytest.mark.parametrize("seed", range(5))
def test_of_two_equal_peaks_d3pg_finds_one_where_a_gaussian_fit_falls_between(seed):
    sizes = SlotSizes(num_users=1, user_dim=1, context_dim=0)
    config = D3pgConfig(nets=NetConfig(architecture="mlp"), critic_warmup_updates=300)
    raw = stream(seed, "actions").uniform(-1, 1, (4096, 1, 2)).astype(np.float32)
    slots = {
        "user_features": np.ones((4096, 1, 1), np.float32),
        "user_mask": np.ones((4096, 1), bool),
        "context": np.zeros((4096, 0), np.float32),
    }
    replay = Replay(replay_fields(config, sizes), 4096, stream(seed, "replay"))
    reward = two_peaks(raw[..., 0]).astype(np.float32)
    replay.add({**slots, "raw_action": raw, "reward": reward})
    agent = D3pg(config, sizes, stream(seed, "agent"))

    for _ in range(700):
        agent.update(replay.sample(64))

    learnt = agent.act(**{name: part[:1000] for name, part in slots.items()}, explore=False)
    gaussian = mean_of_good_actions(raw[:, 0, 0], stream(seed, "gaussian"))
    assert two_peaks(learnt[:, 0, 0]).mean() > 0.9
    assert two_peaks(gaussian).mean() < 0.4


def test_exchangeable_users_learn_to_share_where_flat_nets_do_not():
    scores = {
        architecture: [_sharing_score(architecture, seed) for seed in range(2)]
        for architecture in ("mlp", "deep_sets")
    }

    assert min(scores["deep_sets"]) > 0.8, scores
    assert min(scores["deep_sets"]) > max(scores["mlp"]) + 0.3, scores


def _sharing_score(architecture: str, seed: int) -> float:
    config = D3pgConfig(nets=NetConfig(architecture=architecture, actor="mlp"), learning_starts=20)

    def reward(slots, raw):
        return sharing.utility(slots, torch.from_numpy(raw)).numpy()

    agent = learn(config, sharing.SIZES, sharing.draw, reward, seed=seed, updates=800)
    test = sharing.draw(stream(99, "test"), 200)
    return sharing.score(test, agent.act(**test, explore=False))
