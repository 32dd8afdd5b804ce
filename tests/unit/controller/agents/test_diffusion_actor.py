"""One reverse transition by hand, the chain around it, and where gradients pass."""

import numpy as np
import pytest
import torch
from torch import nn

from controller.agents.diffusion_actor import (
    DiffusionActor,
    clean_from_noise,
    reverse_chain,
    reverse_transition,
)
from controller.agents.schedule import vp_schedule

TWO = vp_schedule(2, beta_min=0.1, beta_max=10.0)


class Constant(nn.Module):
    """A trunk that answers the same number whatever it is asked."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))
        self.asked: list[int] = []

    def encode(self, slot):
        return slot

    def estimate(self, condition, x, index):  # noqa: ARG002
        self.asked.append(index)
        return self.value.expand_as(x)


def test_clean_from_noise_undoes_the_forward_process_and_clamps():
    x = torch.tensor([0.5 * 0.8 + 0.75**0.5 * 0.3, 3.0])  # alpha_bar 0.25: 0.5 x_0 + 0.866 noise

    clean = clean_from_noise(x, torch.tensor([0.3, 0.0]), 0.25)

    torch.testing.assert_close(clean, torch.tensor([0.8, 1.0]))


def test_one_transition_is_that_computed_by_hand():
    # Index 1 of two steps: weights 0.516433 and 0.111053, variance 0.711790 (test_schedule.py).
    x = reverse_transition(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([1.0]), TWO, 1)

    assert x.item() == pytest.approx(0.516433 * 0.5 + 0.111053 * 2.0 + 0.711790**0.5, abs=1e-4)


def test_the_last_transition_returns_the_clean_action():
    x = reverse_transition(torch.tensor([2.0]), torch.tensor([0.5]), torch.tensor([1.0]), TWO, 0)

    assert x.item() == pytest.approx(0.5)


def test_the_chain_is_its_transitions_one_after_the_other():
    schedule = vp_schedule(3, beta_min=0.1, beta_max=10.0)
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 4))).float()

    action = reverse_chain(lambda x, index: torch.tanh(x + index), noise, schedule)

    x = reverse_transition(noise[0], torch.tanh(noise[0] + 2), noise[1], schedule, 2)
    x = reverse_transition(x, torch.tanh(x + 1), noise[2], schedule, 1)
    torch.testing.assert_close(action, reverse_transition(x, torch.tanh(x), noise[0], schedule, 0))


@pytest.mark.parametrize("parametrisation", ["clean", "noise"])
@pytest.mark.parametrize("value", [-50.0, 0.0, 50.0])
def test_actions_are_bounded_whatever_the_net_says(parametrisation, value):
    actor = DiffusionActor(Constant(value), TWO, parametrisation)

    raw = actor(None, 5 * torch.ones(2, 3, 4, 2))

    assert raw.shape == (3, 4, 2)
    assert raw.abs().max() <= 1.0


def test_the_net_is_asked_once_for_each_actor_step_from_noise_to_action():
    trunk = Constant(0.0)
    actor = DiffusionActor(trunk, vp_schedule(5, beta_min=0.1, beta_max=10.0), "clean")

    actor(None, torch.zeros(5, 1, 1, 2))

    assert trunk.asked == [4, 3, 2, 1, 0]


def test_the_clamp_stops_the_gradient_that_tanh_lets_through():
    noise = torch.full((2, 1, 1, 2), 3.0)
    gradients = {}
    for parametrisation in ("noise", "clean"):
        actor = DiffusionActor(Constant(-1.0), TWO, parametrisation)
        (gradients[parametrisation],) = torch.autograd.grad(
            actor(None, noise).sum(), [actor.trunk.value]
        )

    # tanh(-1) = -0.76 as noise: x_0 = (x + 12.45 * 0.76) clamps at 1 in the first transition and
    # again in the last: no gradient reaches the net at all.
    assert gradients["noise"] == 0.0
    assert gradients["clean"] == pytest.approx(2 * (1 - np.tanh(-1.0) ** 2), rel=1e-5)
