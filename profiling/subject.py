"""The model under measurement, served alone by an edge node's engine or in batches for scores.

Owns the link to what generates, and what is timed. Refuses to decide how often. Every time ends
when the pixels lie in host memory, so a device's queued work is waited for and counted.
"""

import asyncio
import io
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import psutil
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from edge_node import samplers
from edge_node.config import EngineConfig
from edge_node.diffusers_engine import DiffusersEngine
from edge_node.engine import ImageDone, Job
from edge_node.telemetry import TelemetryReader
from profiling import sources
from profiling.config import ModelChoice
from profiling.world import Prompt

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shot:
    """One generated image, as a node would send it."""

    encoded: bytes
    generate_s: float
    """From the job to the encoded image, as a node's timings count it."""
    energy_j: float | None
    """Of the device over that time; None where it does not tell."""


class Served:
    """One model in the engine that edge nodes serve with; a context manager."""

    def __init__(self, model: ModelChoice, device: str) -> None:
        self._model = model
        self._entry = sources.entry(model)
        self._device = device
        self._engine = DiffusersEngine(EngineConfig(device=device, dtype=model.dtype))
        self._telemetry = TelemetryReader(self._engine.device_name, self._engine.device_uuid)

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run(self._engine.close())

    def load(self) -> tuple[int, float]:
        """Return the bytes of the loaded nets and the seconds of loading."""
        begin = perf_counter()
        resident_bytes = asyncio.run(self._engine.load(self._entry))
        return resident_bytes, perf_counter() - begin

    def evict(self) -> tuple[int, float]:
        """Return the bytes that came back and the seconds of evicting."""
        before, begin = self._used_bytes(), perf_counter()
        asyncio.run(self._engine.evict(self._model.model_id))
        evict_s = perf_counter() - begin
        return before - self._used_bytes(), evict_s

    def generate(self, prompt: Prompt, num_steps: int) -> Shot:
        """Return one image, generated alone."""
        job = Job(
            request_id="profile",
            model_id=self._model.model_id,
            prompt=prompt.text,
            negative_prompt="",
            num_steps=num_steps,
            guidance_scale=self._model.guidance_scale,
            seed=prompt.seed,
            scheduler=self._model.scheduler,
            width_px=self._model.width_px,
            height_px=self._model.height_px,
        )
        return asyncio.run(self._generate(job))

    async def _generate(self, job: Job) -> Shot:
        energy_j, begin = self._telemetry.energy_j(), perf_counter()
        async with aclosing(self._engine.generate(job)) as events:
            async for event in events:
                last = event
        if not isinstance(last, ImageDone):
            raise TypeError(f"an engine must end with ImageDone, got {type(last).__name__}")
        encoded = png(last.pixels)
        generate_s, after_j = perf_counter() - begin, self._telemetry.energy_j()
        spent_j = None if energy_j is None or after_j is None else after_j - energy_j
        return Shot(encoded, generate_s, spent_j)

    def _used_bytes(self) -> int:
        if self._device.startswith("cuda"):
            return torch.cuda.memory_allocated(self._device)
        return int(psutil.Process().memory_info().rss)


class Batched:
    """One model as a plain diffusers pipeline, for many images at once."""

    def __init__(self, model: ModelChoice, device: str) -> None:
        self._model = model
        found = sources.entry(model)
        self._pipeline = DiffusionPipeline.from_pretrained(
            found.location,
            dtype=getattr(torch, model.dtype),
            use_safetensors=True,
            variant=model.variant or None,
            local_files_only=found.folder is not None,
        ).to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        if model.scheduler:
            self._pipeline.scheduler = samplers.make(model.scheduler, self._pipeline.scheduler)

    def generate(self, prompts: Sequence[Prompt], num_steps: int) -> tuple[Images, float]:
        """Return images [n, h, w, 3] and the seconds that all of them took together.

        Each starts from its prompt's seed, so that it is the image which a node would make.
        """
        begin = perf_counter()
        images = self._pipeline(
            [prompt.text for prompt in prompts],
            num_inference_steps=num_steps,
            guidance_scale=self._model.guidance_scale,
            height=self._model.height_px,
            width=self._model.width_px,
            generator=[torch.Generator("cpu").manual_seed(prompt.seed) for prompt in prompts],
            output_type="np",
        ).images
        return np.rint(images * 255).astype(np.uint8), perf_counter() - begin


def png(image: NDArray[np.uint8]) -> bytes:
    """Return the image [h, w, 3] as PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
