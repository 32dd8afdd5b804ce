"""One vector instead of many tensors must change no number."""

import torch
from torch import nn

from controller.agents.optimiser import Adam, as_vector, slow_copy


def net() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        for index, parameter in enumerate(layers.parameters()):
            count = parameter.numel()
            parameter.copy_(torch.linspace(-1, 1 + index, count).view_as(parameter))
    return layers


def test_adam_follows_torchs_adam():
    ours, theirs = net(), net()
    adam, reference = Adam(ours, 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01)
    inputs = torch.linspace(-2, 2, 15).view(5, 3)

    for update in range(50):
        scale = 1.0 if update < 25 else 0.3
        adam.minimise(ours(inputs).square().mean(), scale)
        reference.param_groups[0]["lr"] = 0.01 * scale
        reference.zero_grad()
        theirs(inputs).square().mean().backward()
        reference.step()

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_adam_gives_no_gradient_to_other_nets():
    actor, critic = net(), nn.Linear(1, 1)
    as_vector(critic)
    before = critic.weight.clone()

    Adam(actor, 0.01).minimise(critic(actor(torch.ones(2, 3))).sum())

    assert critic.weight.grad is None
    assert torch.equal(critic.weight, before)


def test_a_slow_copy_starts_equal_and_moves_only_when_told():
    learnt = net()
    adam = Adam(learnt, 0.1)
    slow, vector = slow_copy(learnt)
    start = vector.clone()

    adam.minimise(learnt(torch.ones(2, 3)).sum())

    assert torch.equal(vector, start)
    vector.lerp_(adam.vector, 0.25)
    torch.testing.assert_close(slow[0].weight, (0.75 * start + 0.25 * adam.vector)[:12].view(4, 3))
    assert not any(parameter.requires_grad for parameter in slow.parameters())
