"""One vector instead of many tensors must change no number."""

import torch
from torch import nn

from controller.agents.optimiser import LearntNet


def net() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with torch.no_grad():
        for index, parameter in enumerate(layers.parameters()):
            count = parameter.numel()
            parameter.copy_(torch.linspace(-1, 1 + index, count).view_as(parameter))
    return layers


def test_an_update_is_that_of_torchs_adam():
    ours, theirs = net(), net()
    learnt, reference = LearntNet(ours, 0.01, 1.0), torch.optim.Adam(theirs.parameters(), lr=0.01)
    inputs = torch.linspace(-2, 2, 15).view(5, 3)

    for update in range(50):
        scale = 1.0 if update < 25 else 0.3
        learnt.update(learnt.gradient(ours(inputs).square().mean()), scale)
        reference.param_groups[0]["lr"] = 0.01 * scale
        reference.zero_grad()
        theirs(inputs).square().mean().backward()
        reference.step()

    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-7)


def test_an_update_gives_no_gradient_to_other_nets():
    actor, critic = LearntNet(net(), 0.01, 1.0), nn.Linear(1, 1)
    before = critic.weight.clone()

    actor.update(actor.gradient(critic(actor.net(torch.ones(2, 3))).sum()))

    assert critic.weight.grad is None
    assert torch.equal(critic.weight, before)


def test_the_target_starts_equal_and_moves_a_part_of_the_way_at_each_update():
    learnt = LearntNet(net(), 0.1, tau=0.25)
    start = net()[0].weight
    assert torch.equal(learnt.target[0].weight, start)

    learnt.update(learnt.gradient(learnt.net(torch.ones(2, 3)).sum()))

    moved = learnt.net[0].weight
    assert not torch.equal(moved, start)
    torch.testing.assert_close(learnt.target[0].weight, 0.75 * start + 0.25 * moved)
    assert not any(parameter.requires_grad for parameter in learnt.target.parameters())
