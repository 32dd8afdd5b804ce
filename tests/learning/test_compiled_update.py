"""The compiled update is the plain one, to rounding."""

import shutil

import numpy as np
import pytest
import torch

from controller.agents.d3pg import D3pg, D3pgConfig, replay_fields
from controller.agents.networks import NetConfig, SlotSizes
from controller.agents.replay import Replay

SIZES = SlotSizes(num_users=3, user_dim=2, context_dim=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch, of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize(
    ("architecture", "actor", "discount"), [("mlp", "mlp", 0.9), ("deep_sets", "diffusion", 0.0)]
)
def test_the_compiled_update_is_the_plain_one(architecture, actor, discount):
    agents = []
    for is_compiled in (False, True):
        config = D3pgConfig(
            nets=NetConfig(architecture=architecture, actor=actor, chain_len=2),
            discount=discount,
            critic_warmup_updates=2,
            decay_updates=6,
            is_compiled=is_compiled,
        )
        agents.append(D3pg(config, SIZES, np.random.default_rng(0)))
    rng = np.random.default_rng(1)
    slots = {
        "user_features": rng.standard_normal((40, 3, 2), dtype=np.float32),
        "user_mask": rng.random((40, 3)) < 0.7,
        "context": rng.standard_normal((40, 1), dtype=np.float32),
    }
    replay = Replay(replay_fields(config, SIZES), 40, rng)
    transitions = {
        **slots,
        **{f"next_{name}": part[::-1] for name, part in slots.items()},
        "raw_action": rng.uniform(-1, 1, (40, 3, 2)).astype(np.float32),
        "reward": rng.random((40, 3), dtype=np.float32),
        "continues": rng.random(40) < 0.8,
    }
    replay.add({name: transitions[name] for name in replay_fields(config, SIZES)})

    for _ in range(8):
        minibatch = replay.sample(16)
        plain, compiled = (agent.update(minibatch) for agent in agents)

    assert compiled == pytest.approx(plain, rel=1e-3, abs=1e-5)
    for name, vector in agents[0].tensors().items():
        torch.testing.assert_close(agents[1].tensors()[name], vector, rtol=1e-3, atol=1e-4)
