"""Whoever shares a batch, comes or goes: everybody's latents are those of a batch of one's own."""

import pytest
import torch

from edge_node.engine import denoising, samplers
from edge_node.engine.stepping.batch import Batch
from tests.fake_family import FakeFamily, fake_model
from tests.fakes import job

SAMPLERS = ("ddim", "euler_ancestral", "dpmpp_2m", "lcm", "euler")


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def jobs(number: int, num_steps: int = 6):
    return [
        job(
            seed,
            prompt=f"{seed} circles",
            scheduler=SAMPLERS[seed % len(SAMPLERS)],
            guidance_scale=(3.0, 1.0, 7.5)[seed % 3],
            num_steps=num_steps + seed % 4,
        )
        for seed in range(number)
    ]


def by_formula(family: FakeFamily, one: denoising.Trajectory) -> torch.Tensor:
    """Return where a request ends, by the module docstring of samplers and nothing else."""
    x, before = one.latent.clone(), torch.zeros_like(one.latent)
    for step in range(one.table.num_steps):
        skip, scale, keep, now, last, fresh, in_scale = one.table.coefficients[step].tolist()
        time = one.table.timesteps[step].view(1)
        outs = [family.denoise(in_scale * x, time, own) for own in one.conditions]
        out = outs[0] + one.job.guidance_scale * (outs[-1] - outs[0])
        clean = skip * x + scale * out
        z = torch.zeros(())
        if one.table.draws_noise[step]:
            z = torch.randn(x.shape, generator=one.generator)
        x, before = keep * x + now * clean + last * before + fresh * z, clean
    return x


def expected(number: int, **changes) -> list[torch.Tensor]:
    family = FakeFamily()
    started = denoising.start(fake_model(family), jobs(number, **changes))
    return [by_formula(family, one) for one in started]


def finished(batch: Batch, started, chosen=lambda _, active: active, after=lambda: None):
    turn = 0
    while active := [one for one in started if not one.is_finished]:
        batch.advance(chosen(turn, active))
        after()
        turn += 1
    return [one.latent for one in started]


def agree(found, wanted):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def begun(family: FakeFamily, number: int, **changes):
    return Batch(family), denoising.start(fake_model(family), jobs(number, **changes))


def test_samplers_guidance_and_progress_mix():
    batch, started = begun(FakeFamily(), 10)

    agree(finished(batch, started), expected(10))


@pytest.mark.parametrize("is_ahead", [False, True])
def test_who_sits_out_goes_on_where_it_was(is_ahead):
    """Also with the next inputs made ahead, noise drawn, for a composition that then changes."""
    batch, started = begun(FakeFamily(), 8)

    def some(turn, active):
        return [one for i, one in enumerate(active) if (i + turn) % 3] or active

    after = batch.prepare if is_ahead else lambda: None
    agree(finished(batch, started, some, after), expected(8))


def test_conditions_are_stacked_once_while_nobody_comes_or_goes():
    family = FakeFamily()
    batch, started = begun(family, 4)

    for _ in range(3):
        batch.advance(started)
    assert len({id(seen) for seen in family.conditions_seen}) == 1
    batch.advance(started[:3])

    assert len({id(seen) for seen in family.conditions_seen}) == 2


@pytest.mark.parametrize("fails_at", range(6))
def test_a_step_that_fails_changes_nothing(fails_at):
    """The same step is taken again with half of the requests, then with the others."""
    family = FakeFamily()
    batch, started = begun(family, 6)
    num_calls = 0

    def full(*_):
        nonlocal num_calls
        num_calls += 1
        if num_calls == fails_at + 1:
            raise torch.OutOfMemoryError("no memory")

    family.before = full
    while active := [one for one in started if not one.is_finished]:
        before = [(one.step, one.state.clone(), one.generator.get_state()) for one in active]
        try:
            batch.advance(active)
        except torch.OutOfMemoryError:
            for one, (step, state, _) in zip(active, before, strict=True):
                assert one.step == step
                assert torch.equal(one.state, state)
            batch.advance(active[:3])
            batch.advance(active[3:])
        batch.prepare()

    assert num_calls > fails_at
    agree([one.latent for one in started], expected(6))


def test_a_composition_that_fails_changes_nothing(monkeypatch):
    batch, started = begun(FakeFamily(), 6)
    batch.advance(started)
    batch.prepare()

    def full(*_):
        raise torch.OutOfMemoryError("no memory")

    with monkeypatch.context() as patch:
        patch.setattr("edge_node.engine.stepping.batch.stacked", full)
        with pytest.raises(torch.OutOfMemoryError):
            batch.advance(started[:4])
        batch.prepare()

    agree(finished(batch, started), expected(6))


def test_who_leaves_a_batch_keeps_no_memory_of_the_others():
    batch, started = begun(FakeFamily(), 5)
    batch.advance(started)

    batch.advance(started[1:])

    own_bytes = started[0].state.nbytes
    assert started[0].state.untyped_storage().nbytes() == own_bytes


def test_noise_is_drawn_once_for_a_step_however_often_it_is_tried():
    batch, (one,) = begun(FakeFamily(), 1)
    one.table = samplers.sampler_table("euler_ancestral", FakeFamily.pipeline.scheduler, 6)
    batch.advance([one])

    batch.prepare()
    drawn = one.generator.get_state()
    batch.prepare()
    batch.advance([one])

    assert torch.equal(one.generator.get_state(), drawn)
