"""A compiled update is the plain one: exactly as traced, to rounding as compiled."""

import shutil

import numpy as np
import pytest
import torch

from controller.agents.d3pg import D3pg, D3pgConfig, replay_fields
from controller.agents.networks import NetConfig, SlotSizes
from controller.agents.replay import Replay
from controller.agents.soft_amender import SoftAmender

SIZES = SlotSizes(num_users=3, user_dim=2, context_dim=1)
AMEND = SoftAmender(min_num_steps=1, num_nodes=2)


def learn(nets: NetConfig, discount: float, amend: SoftAmender | None = None) -> list[D3pg]:
    """Return a plain and a compiled agent after updates from the same minibatches."""
    agents = []
    for is_compiled in (False, True):
        config = D3pgConfig(
            nets=nets,
            discount=discount,
            critic_warmup_updates=2,
            decay_updates=6,
            is_compiled=is_compiled,
        )
        agents.append(D3pg(config, SIZES, np.random.default_rng(0), amend))
    rng = np.random.default_rng(1)
    fields = replay_fields(config, SIZES, is_amended=amend is not None)
    replay = Replay(fields, 40, rng)
    drawn = {
        name: rng.uniform(-1, 1, (40, *shape)).astype(np.float32)
        for name, (shape, _) in fields.items()
    }
    flags = {name: rng.random(drawn[name].shape) < 0.7 for name in fields if "mask" in name}
    nodes = {name: np.abs(drawn[name]).round() for name in fields if "needs" in name}
    replay.add(drawn | flags | nodes)

    for _ in range(8):
        minibatch = replay.sample(16)
        plain, compiled = (agent.update(minibatch) for agent in agents)

    assert compiled == pytest.approx(plain, rel=1e-3, abs=1e-5)
    return agents


@pytest.mark.parametrize(
    ("architecture", "actor", "discount"), [("mlp", "mlp", 0.9), ("deep_sets", "diffusion", 0.0)]
)
def test_what_is_traced_is_the_plain_update(architecture, actor, discount):
    torch.compiler.set_default_backend("eager")  # runs what the compiler would be given
    try:
        nets = NetConfig(architecture=architecture, actor=actor, hidden=8, chain_len=2)
        plain, traced = learn(nets, discount, AMEND)
    finally:
        torch.compiler.set_default_backend(None)

    for name, vector in plain.tensors().items():
        assert torch.equal(traced.tensors()[name], vector), name


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch, of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_the_compiled_update_is_the_plain_one_to_rounding():
    plain, compiled = learn(NetConfig(architecture="mlp", actor="mlp", hidden=8), discount=0.0)

    for name, vector in plain.tensors().items():
        torch.testing.assert_close(compiled.tensors()[name], vector, rtol=1e-3, atol=1e-4)
