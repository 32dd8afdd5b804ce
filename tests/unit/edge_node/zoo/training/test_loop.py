"""What the training loop promises: resume equals never having stopped, the average is returned."""

import math
import os
import signal

import pytest
import torch
from torch import nn

from edge_node.zoo.training import loop
from edge_node.zoo.training.loop import Recipe


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


@pytest.fixture
def interruptible():
    """Ctrl-C as in a terminal: a shell's background jobs, such as this suite, may ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupted_training_keeps_its_update_and_goes_on_as_if_nothing_had_been(tmp_path):
    whole, _ = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "whole")
    updates, exported = [], []

    def interrupted(model, rng):
        updates.append(1)
        if len(updates) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return loss_at(model, rng)

    with pytest.raises(KeyboardInterrupt):
        loop.fit(
            micro_net(),
            interrupted,
            recipe(),
            tmp_path / "parts",
            on_checkpoint=lambda _, trained: exported.append(trained.num_updates),
        )
    resumed, trained = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "parts")

    assert exported == [4, 6]
    assert trained.num_updates == 12
    assert torch.equal(whole.weight, resumed.weight)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interruptible")
def test_a_training_run_that_ignores_interrupts_goes_on(tmp_path):
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def interrupted(model, rng):
        os.kill(os.getpid(), signal.SIGINT)
        return loss_at(model, rng)

    _, trained = loop.fit(micro_net(), interrupted, recipe(), tmp_path / "run")

    assert trained.num_updates == 12
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


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


def test_the_learning_rate_ends_at_0_though_a_restart_was_planned_later():
    plan = Recipe(num_updates=100, batch=1, learning_rate=1.0, seed=0, restarts=(150,))

    assert loop.learning_rate_frac(99, plan) < 1e-3


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


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, "no"),
        ({"architecture": "aarch64"}, "no"),
    ],
)
def test_a_cpu_trains_in_bfloat16_only_where_it_has_it(monkeypatch, known, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)

    assert loop.precision() == expected


@pytest.mark.parametrize(("has_it", "expected"), [(True, "bf16"), (False, "no")])
def test_a_gpu_trains_in_bfloat16_only_where_it_has_it(monkeypatch, has_it, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has_it or including_emulation
    )
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": not has_it})

    assert loop.precision() == expected


def test_parameters_that_require_no_gradient_stay_as_they_are(tmp_path):
    net = nn.Sequential(micro_net(), nn.Linear(1, 1))
    net[1].requires_grad_(requires_grad=False)
    before = net[1].weight.clone()

    trained, _ = loop.fit(net, loss_at, recipe(), tmp_path / "run")

    assert torch.equal(trained[1].weight, before)
    assert not torch.equal(trained[0].weight, micro_net().weight)


def test_each_checkpoint_hands_out_the_average_and_training_goes_on_from_the_weights(tmp_path):
    seen = []

    def remember(net, trained):
        seen.append((trained.num_updates, net.weight.clone()))

    watched, _ = loop.fit(
        micro_net(), loss_at, recipe(), tmp_path / "watched", on_checkpoint=remember
    )
    alone, _ = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "alone")

    assert [update for update, _ in seen] == [4, 8]  # of 12; the last one is returned
    stopped, _ = loop.fit(micro_net(), loss_at, recipe(), tmp_path / "stopped", stop_after=4)
    assert torch.equal(seen[0][1], stopped.weight)
    assert torch.equal(watched.weight, alone.weight)


def test_a_resumed_training_of_convolutions_equals_an_uninterrupted_one(tmp_path):
    def conv_net():
        net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 3))
        with torch.no_grad():
            for index, p in enumerate(net.parameters()):
                p.copy_(torch.linspace(-0.3, 0.2 + index / 10, p.numel()).view_as(p))
        return net

    def conv_loss_at(model, rng):
        x = torch.randn(4, 2, 6, 6, generator=loop.torch_generator(rng))
        return (model(x) - x[:, :1, 2:4, 2:4]).square().mean()

    whole, _ = loop.fit(conv_net(), conv_loss_at, recipe(), tmp_path / "whole")
    loop.fit(conv_net(), conv_loss_at, recipe(), tmp_path / "parts", stop_after=5)
    resumed, _ = loop.fit(conv_net(), conv_loss_at, recipe(), tmp_path / "parts")

    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.is_contiguous()  # as safetensors wants them
