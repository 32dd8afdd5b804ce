"""What the distillation promises: its steps are the schedulers' own, only the student learns."""

import pytest
import torch

from edge_node.zoo import text
from edge_node.zoo.training import consistency, denoiser
from edge_node.zoo.worlds.builtin import PLAIN

WORDS = text.tokenizer(PLAIN)
CAPTION = "a red circle left of a blue square on a white background"


@pytest.fixture(scope="module")
def net():
    student, teacher = (denoiser.build(PLAIN, (32, 32), 64) for _ in range(2))
    return consistency.Consistency(student, teacher, text.encoder(PLAIN))


@pytest.fixture(scope="module")
def noisy():
    return torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def context(net):
    ids = text.token_ids(WORDS, [CAPTION] * 3)
    with torch.no_grad():
        return net.encoder(input_ids=ids).last_hidden_state


@pytest.mark.parametrize("time", [999, 499, 99])
def test_a_teacher_step_is_the_guided_ddim_step_of_diffusers(net, noisy, context, time):
    scheduler = denoiser.scheduler()
    scheduler.set_timesteps(1000 // consistency.JUMP)
    empty = context.flip(1)
    times = torch.full((3,), time)

    with torch.no_grad():
        found = net._teacher_step(noisy, times, times - consistency.JUMP, context, empty)
        free = net.teacher(noisy, times, empty).sample
        told = net.teacher(noisy, times, context).sample
        guided = free + consistency.GUIDANCE_SCALE * (told - free)
        expected = scheduler.step(guided, time, noisy)

    # before timestep 0 diffusers keeps the noise of timestep 0, the distillation none
    target = expected.pred_original_sample if time == 99 else expected.prev_sample
    assert torch.allclose(found, target, atol=1e-4)


@pytest.mark.parametrize("index", [0, 2])
def test_the_student_is_what_the_lcm_scheduler_computes(net, noisy, context, index):
    scheduler = consistency.lcm_scheduler()
    scheduler.set_timesteps(4)
    assert scheduler.timesteps.tolist() == [999, 759, 499, 259]
    assert {*scheduler.timesteps.tolist()} <= {*consistency.GRID.tolist()}
    time = scheduler.timesteps[index]
    scheduler._init_step_index(time)

    with torch.no_grad():
        found = net._clean(noisy, time.expand(3), context)
        out = net.unet(noisy, time.expand(3), context).sample
        expected = scheduler.step(out, time, noisy).denoised

    assert torch.allclose(found, expected, atol=1e-5)


def test_without_noise_the_student_changes_nothing(net, noisy, context):
    with torch.no_grad():
        found = net._clean(noisy, torch.zeros(3, dtype=torch.long), context)

    assert torch.equal(found, noisy)


def test_only_the_student_learns(net, noisy):
    ids = text.token_ids(WORDS, [CAPTION] * 3)
    times = torch.tensor([999, 499, 19])
    loss = net(noisy, ids, text.token_ids(WORDS, [""]), times, torch.randn_like(noisy))

    loss.backward()

    assert loss > 0
    assert all(p.grad is not None for p in net.unet.parameters())
    assert all(p.grad is None for part in (net.teacher, net.encoder) for p in part.parameters())
