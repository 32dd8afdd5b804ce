"""What the training loop promises: resume equals never having stopped, the average is returned."""

import math

import pytest
import torch
from torch import nn

from edge_node.zoo import loop
from edge_node.zoo.loop import Recipe


def recipe(**changes):
    base = {"num_updates": 12, "batch": 4, "learning_rate": 0.01, "seed": 5, "warmup_updates": 2}
    return Recipe(**{**base, "checkpoint_every": 4, **changes})


def micro_net():
    net = nn.Linear(3, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.1, -0.2, 0.3]]))
        net.bias.zero_()
    return net


def loss_at(model, rng):
    x = torch.randn(4, 3, generator=loop.torch_generator(rng))
    return (model(x) - x.sum(dim=1, keepdim=True)).square().mean()


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    whole, _ = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "whole")
    loop.fit(micro_net(), loss_at, recipe(), tmp_path / "parts", stop_after=5)
    resumed, trained = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "parts")

    assert trained.num_updates == 12
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_a_finished_training_is_not_repeated(tmp_path):
    first, _ = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "run")

    def refuse(*_):
        raise AssertionError("trained again")

    again, trained = loop.fit(micro_net(), refuse, recipe(), tmp_path / "run")

    assert torch.equal(first.weight, again.weight)
    assert trained.losses[-1][0] == 12


def test_training_lowers_the_loss(tmp_path):
    net, _ = loop.fit(
        micro_net(), loss_at, recipe(num_updates=300, learning_rate=0.1), tmp_path / "run"
    )

    assert net.weight.flatten().tolist() == pytest.approx([1, 1, 1], abs=0.02)


def test_the_learning_rate_restarts_with_a_warm_up_of_its_own():
    plan = recipe(num_updates=300, warmup_updates=10, restarts=(100, 200))

    assert loop.learning_rate_frac(99, plan) < 1e-3
    assert loop.learning_rate_frac(100, plan) == pytest.approx(0.6 * 0.1)
    assert loop.learning_rate_frac(150, plan) == pytest.approx(0.6 * 0.5)
    assert loop.learning_rate_frac(250, plan) == pytest.approx(0.36 * 0.5)
    assert loop.learning_rate_frac(299, plan) < 1e-3


def test_the_learning_rate_warms_up_and_anneals_to_zero():
    plan = recipe(num_updates=100, warmup_updates=10)

    assert loop.learning_rate_frac(0, plan) == pytest.approx(0.1)
    # past the warm-up: half a cosine; at the middle cos(pi/2) = 0, so exactly one half
    assert loop.learning_rate_frac(50, plan) == pytest.approx(0.5)
    assert loop.learning_rate_frac(99, plan) == pytest.approx(0.5 * (1 + math.cos(0.99 * math.pi)))
