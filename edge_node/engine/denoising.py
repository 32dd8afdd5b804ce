"""A request's way from text to pixels on the device: encoding, first latents, decoding.

The steps between are taken together (stepping/batch.py). Called in the device thread only; knows
neither asyncio nor who waits for the images. Nothing here waits for a GPU, but for what the
family itself does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from edge_node.engine import samplers
from edge_node.engine.families import Condition, StableDiffusion
from edge_node.engine.interface import Job
from edge_node.engine.stepping.texts import EncodedTexts


@dataclass(eq=False, slots=True)
class Trajectory:
    """One image on its way from noise: what the device holds for a request."""

    job: Job
    table: samplers.SamplerTable
    conditions: list[Condition]
    """One for each sample of a denoiser call: the negative first where there is guidance."""
    generator: torch.Generator
    state: Tensor
    """x and x0 of the last step [2, 1, channels, height, width], float32; a view of its batch's."""
    noise: Tensor | None = None
    """Drawn for the next step already, on the host."""
    step: int = 0
    """Denoising steps done, or launched."""

    @property
    def latent(self) -> Tensor:
        """The latent x [1, channels, height, width], float32."""
        return self.state[0]

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
    texts: EncodedTexts = field(default_factory=EncodedTexts)
    """On the device, so forgotten when the model is evicted."""

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


def texts_of(family: StableDiffusion, job: Job) -> list[str]:
    """Return the texts that a request's conditions come from: the negative one first."""
    return [job.negative_prompt, job.prompt] if is_guided(family, job) else [job.prompt]


def encode(model: Model, texts: Sequence[str]) -> dict[str, Condition]:
    """Return what the denoiser reads of each text; those not known are encoded in one call."""
    found = {text: model.texts.get(text) for text in texts}
    unknown = [text for text, known in found.items() if known is None]
    encoded = {text: known for text, known in found.items() if known is not None}
    if unknown:
        for text, part in zip(unknown, model.family.encode(unknown), strict=True):
            # A copy: a part of the call's tensors would keep all of them.
            encoded[text] = {name: value.clone() for name, value in part.items()}
            model.texts.add(text, encoded[text])
    return encoded


def begin(model: Model, job: Job, encoded: Mapping[str, Condition]) -> Trajectory:
    """Return a new request's trajectory, its first latents drawn.

    Args:
        model: a resident model.
        job: the request.
        encoded: all of its texts.

    Raises:
        ValueError: the model cannot be sampled so.
    """
    family = model.family
    conditions = family.conditions(job, [encoded[text] for text in texts_of(family, job)])
    like = conditions[0]["encoder_hidden_states"]
    table = model.table(job)
    generator = torch.Generator("cpu").manual_seed(job.seed)
    shape = (1, *family.latent_shape(job))
    # Drawn in the net's precision, on the CPU: the same numbers as the pipeline's anywhere.
    noise = torch.randn(shape, generator=generator, dtype=like.dtype)
    latent = sent(noise, like.device).float() * table.init_scale
    state = torch.stack([latent, torch.zeros_like(latent)])
    return Trajectory(job, table, conditions, generator, state)


def start(model: Model, jobs: Sequence[Job]) -> list[Trajectory]:
    """Return the trajectories of requests whose texts are encoded in one call.

    Raises:
        ValueError: a request that the model cannot serve.
    """
    texts = dict.fromkeys(text for job in jobs for text in texts_of(model.family, job))
    encoded = encode(model, list(texts))
    return [begin(model, job, encoded) for job in jobs]


def decode(family: StableDiffusion, batch: Sequence[Trajectory]) -> Tensor:
    """Return the images [n, height, width, 3] of finished trajectories, uint8, on the host.

    Of a GPU they are there once it has done the copy.
    """
    pixels = family.decode(torch.cat([one.latent for one in batch]))
    return pixels.to("cpu", non_blocking=True)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a host's tensor on a device, without waiting for what the device does."""
    if device.type != "cuda":
        return tensor
    return tensor.pin_memory().to(device, non_blocking=True)
