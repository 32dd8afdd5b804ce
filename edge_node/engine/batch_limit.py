"""The largest calls of a model: measured on the device when it is first loaded.

Responsible for the measuring calls and what follows from them. Not: when; the engine makes the
calls in the device thread, between turns of other models.
"""

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

import torch

from edge_node.catalog import Entry
from edge_node.engine import denoising
from edge_node.engine.denoising import Model, Trajectory
from edge_node.engine.families import stacked
from edge_node.engine.interface import Job
from protos.errors import OverloadedError

MAX_TEXTS = 16
"""Texts encoded in one call."""
MAX_IMAGES = 4
"""Images decoded in one call: an autoencoder's memory grows with pixels, its gain ends early."""
SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 5
ENOUGH_S = 2.0
"""No further round after this much timed: a call of a large model on a CPU takes many seconds."""
LONG_CALL_S = 0.25
"""Nothing larger than a call this long is tried: everybody in it would wait for twice that."""
LOSS_FRAC = 0.05
"""What a sample may cost above the least, for the sake of a smaller call, which is over sooner."""


async def measured(call_s: Callable[[int], Awaitable[float]]) -> int:
    """Return the smallest batch whose time per sample is within 5 % of the least of all sizes.

    Sizes take turns, and each one's best call counts: whatever disturbs the device for a moment
    disturbs one call of some sizes. Sizes that memory is too small for are left out.

    Args:
        call_s: makes a call of a batch size and returns its seconds; OverloadedError where
            memory is full.
    """
    best_s: dict[int, float] = {}
    timed_s = 0.0
    with suppress(OverloadedError):
        for _ in range(ROUNDS):
            for batch_size in SIZES:
                if batch_size not in best_s:
                    await call_s(batch_size)  # the first one allocates, and may tune or compile
                    best_s[batch_size] = math.inf
                now_s = await call_s(batch_size)
                timed_s += now_s
                best_s[batch_size] = min(best_s[batch_size], now_s)
                if best_s[batch_size] > LONG_CALL_S:
                    break
            if timed_s > ENOUGH_S:
                break
    sample_s = {batch_size: took_s / batch_size for batch_size, took_s in best_s.items()}
    least_s = min(sample_s.values(), default=math.inf)
    return next((n for n, each_s in sample_s.items() if each_s <= least_s * (1 + LOSS_FRAC)), 1)


async def within(limit_s: float, call_s: Callable[[int], Awaitable[float]], most: int) -> int:
    """Return the largest of 1, 2, 4, … ``most`` whose call takes no longer than ``limit_s``.

    At least 1. Others wait for a call of texts or images no longer than for a step, then.
    """
    size = 1
    with suppress(OverloadedError):
        if await least_s(call_s, 1) <= limit_s:
            while 2 * size <= most and await least_s(call_s, 2 * size) <= limit_s:
                size *= 2
    return size


async def least_s(call_s: Callable[[int], Awaitable[float]], size: int) -> float:
    """Return the seconds of a call without what its first one allocates, unless it is long."""
    first_s = await call_s(size)
    return first_s if first_s > ENOUGH_S else min(first_s, await call_s(size))


@torch.inference_mode()
def probe(model: Model, entry: Entry) -> Trajectory:
    """Return the start of a request to measure with."""
    job = Job.of(
        entry.config, request_id="measure", prompt="", num_steps=1, seed=0, guidance_scale=1.0
    )
    (one,) = denoising.start(model, [replace(job, scheduler="")])  # the folder's own always fits
    return one


@torch.inference_mode()
def call_s(model: Model, one: Trajectory, batch_size: int) -> float:
    """Return the seconds of one denoiser call."""
    began_s = time.perf_counter()
    out = model.family.denoise(
        one.latent.repeat(batch_size, 1, 1, 1),
        one.table.timesteps[:1].float().repeat(batch_size).to(one.latent.device),
        stacked(one.conditions * batch_size),
    )
    out[0, 0, 0, 0].item()  # waits for the device
    return time.perf_counter() - began_s


@torch.inference_mode()
def texts_s(model: Model, one: Trajectory, num_texts: int) -> float:
    """Return the seconds of encoding so many texts."""
    began_s = time.perf_counter()
    *_, last = model.family.encode([one.job.prompt] * num_texts)
    last["encoder_hidden_states"].flatten()[0].item()  # waits for the device
    return time.perf_counter() - began_s


@torch.inference_mode()
def images_s(model: Model, one: Trajectory, num_images: int) -> float:
    """Return the seconds of decoding so many images."""
    began_s = time.perf_counter()
    denoising.decode(model.family, [one] * num_images)
    if one.latent.is_cuda:
        torch.cuda.synchronize(one.latent.device)
    return time.perf_counter() - began_s


@torch.inference_mode()
def peak_bytes(model: Model, one: Trajectory, batch_size: int, num_images: int) -> int:
    """Return a GPU's most memory of a denoiser call and of a decoding, above the weights."""
    device = one.latent.device
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call_s(model, one, batch_size)
    images_s(model, one, num_images)
    return torch.cuda.max_memory_allocated(device) - before
