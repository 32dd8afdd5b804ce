"""One turn of the device: requests of one model take a denoising step together.

Text encoding and image decoding are batched apart, with caps of their own. Called in the device
thread only; knows neither asyncio nor who waits for the images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_node.engine import samplers
from edge_node.engine.families import Condition, StableDiffusion, stacked
from edge_node.engine.interface import Job

MAX_TEXTS = 16
"""Texts encoded in one call."""
MAX_IMAGES = 4
"""Images decoded in one call: an autoencoder's memory grows with pixels, its gain ends early."""

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Trajectory:
    """One image on its way from noise: what the device holds for a request."""

    job: Job
    table: samplers.SamplerTable
    conditions: list[Condition]
    """One for each sample of a denoiser call: the negative first where there is guidance."""
    generator: torch.Generator
    latent: Tensor
    """x [1, channels, height, width], float32."""
    clean: Tensor
    """x0 of the last step, like ``latent``."""
    step: int = 0
    """Denoising steps done."""

    @property
    def is_finished(self) -> bool:
        """All steps are done."""
        return self.step == self.table.num_steps


@dataclass(slots=True)
class Model:
    """A resident model as the denoising loop needs it."""

    family: StableDiffusion
    own_sampler: str
    """For requests that name none."""
    tables: dict[tuple[str, int], samplers.SamplerTable] = field(default_factory=dict)

    def table(self, job: Job) -> samplers.SamplerTable:
        """Return the table of a request's sampler and step count.

        Raises:
            ValueError: the model cannot be sampled so.
        """
        key = (job.scheduler or self.own_sampler, job.num_steps)
        if key not in self.tables:
            own = self.family.pipeline.scheduler
            self.tables[key] = samplers.sampler_table(key[0], own, key[1])
        return self.tables[key]


def is_guided(family: StableDiffusion, job: Job) -> bool:
    """Return whether a step takes a second sample of the call (classifier-free guidance)."""
    return job.guidance_scale > 1 and not family.guides_itself


def start(model: Model, jobs: Sequence[Job]) -> list[Trajectory]:
    """Return the trajectories of new requests: texts encoded, first latents drawn.

    Raises:
        ValueError: a request that the model cannot serve.
    """
    family = model.family
    tables = [model.table(job) for job in jobs]
    texts = [
        [job.negative_prompt, job.prompt] if is_guided(family, job) else [job.prompt]
        for job in jobs
    ]
    distinct = list(dict.fromkeys(text for own in texts for text in own))
    encoded = dict(zip(distinct, _chunked(family.encode, distinct, MAX_TEXTS), strict=True))
    started = []
    for job, table, own in zip(jobs, tables, texts, strict=True):
        conditions = family.conditions(job, [encoded[text] for text in own])
        like = conditions[0]["encoder_hidden_states"]
        generator = torch.Generator("cpu").manual_seed(job.seed)
        shape = (1, *family.latent_shape(job))
        # Drawn in the net's precision, on the CPU: the same numbers as the pipeline's anywhere.
        noise = torch.randn(shape, generator=generator, dtype=like.dtype)
        latent = noise.to(like.device).float() * table.init_scale
        clean = torch.zeros_like(latent)
        started.append(Trajectory(job, table, conditions, generator, latent, clean))
    return started


def advance(family: StableDiffusion, batch: Sequence[Trajectory]) -> None:
    """Take one denoising step of every trajectory, in one denoiser call.

    Changes nothing where it fails (out of memory), so the step can be tried again with fewer.
    """
    device = batch[0].latent.device
    steps = torch.stack([one.table.coefficients[one.step] for one in batch]).to(device)
    times = torch.stack([one.table.timesteps[one.step].float() for one in batch]).to(device)
    latents = torch.cat([one.latent for one in batch])
    out = _guided(family, batch, latents * steps[:, -1].view(-1, 1, 1, 1), times)
    clean = torch.cat([one.clean for one in batch])
    latents, clean = samplers.advance(latents, out, clean, _noise(batch, latents), steps)
    for index, one in enumerate(batch):
        one.latent, one.clean = latents[index : index + 1], clean[index : index + 1]
        one.step += 1


def _guided(
    family: StableDiffusion, batch: Sequence[Trajectory], inputs: Tensor, times: Tensor
) -> Tensor:
    """Return the denoiser's answers, guided: out = negative + scale * (positive - negative)."""
    counts = [len(one.conditions) for one in batch]
    last = np.cumsum(counts) - 1
    conditions = stacked([condition for one in batch for condition in one.conditions])
    if max(counts) == 1:
        return family.denoise(inputs, times, conditions).float()
    owner = torch.from_numpy(np.repeat(np.arange(len(batch)), counts)).to(inputs.device)
    out = family.denoise(inputs[owner], times[owner], conditions).float()
    first = torch.from_numpy(last - np.array(counts) + 1).to(inputs.device)
    negative, positive = out[first], out[torch.from_numpy(last).to(inputs.device)]
    scale = torch.tensor([one.job.guidance_scale for one in batch], device=inputs.device)
    return negative + scale.view(-1, 1, 1, 1) * (positive - negative)


def _noise(batch: Sequence[Trajectory], like: Tensor) -> Tensor:
    """Return fresh noise for the steps that take it, each from its request's own generator."""
    if not any(one.table.draws_noise[one.step] for one in batch):
        return torch.zeros((), device=like.device)
    noise = torch.zeros_like(like, device="cpu")
    for own, one in zip(noise, batch, strict=True):
        if one.table.draws_noise[one.step]:
            dtype = one.conditions[0]["encoder_hidden_states"].dtype
            own.copy_(torch.randn(own.shape, generator=one.generator, dtype=dtype))
    return noise.to(like.device)


def finish(family: StableDiffusion, batch: Sequence[Trajectory]) -> list[NDArray[np.uint8]]:
    """Return the images [height, width, 3] of finished trajectories."""
    latents = [one.latent for one in batch]
    return _chunked(lambda part: list(family.decode(torch.cat(list(part)))), latents, MAX_IMAGES)


def _chunked(function: Callable[[Sequence[T]], list[Any]], items: Sequence[T], size: int) -> Any:
    return [
        answer
        for begin in range(0, len(items), size)
        for answer in function(items[begin : begin + size])
    ]
