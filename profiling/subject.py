"""The model under measurement: loaded, timed, generating, evicted, the way that edge nodes do it.

Owns the link to the engine that serves, and what is timed. Refuses to decide how often.
"""

import gc
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from profiling import sources
from profiling.config import ModelChoice
from profiling.timing import Stopwatch

Images = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Shot:
    """One generated image, as a node would send it."""

    encoded: bytes
    generate_s: float
    parts_s: dict[str, float]
    energy_j: float | None


class Subject:
    """One model on one device."""

    def __init__(self, model: ModelChoice, device: str) -> None:
        self.model_id = model.model_id
        self._model = model
        self._device = device
        self._pipeline: DiffusionPipeline | None = None

    def load(self) -> tuple[int, float]:
        """Return the bytes of the loaded nets and the seconds of loading."""
        folder, watch = sources.folder_of(self._model.source), Stopwatch(self._device)
        name = str(folder) if folder else self._model.source.partition(":")[2]
        with watch:
            pipeline = DiffusionPipeline.from_pretrained(
                name, torch_dtype=getattr(torch, self._model.dtype), use_safetensors=True
            ).to(self._device)
            pipeline.set_progress_bar_config(disable=True)
        self._pipeline = pipeline
        nets = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
        tensors = [t for net in nets for t in (*net.parameters(), *net.buffers())]
        return sum(t.numel() * t.element_size() for t in tensors), watch.elapsed_s

    def evict(self) -> tuple[int, float]:
        """Return the bytes that came back and the seconds of evicting."""
        watch, before = Stopwatch(self._device), self._used_bytes()
        with watch:
            self._pipeline = None
            gc.collect()
        return before - self._used_bytes(), watch.elapsed_s

    def generate(self, prompt: str, seed: int, num_steps: int) -> Shot:
        """Return one image, generated alone."""
        images, generate_s = self.generate_batch([prompt], [seed], num_steps)
        return Shot(png(images[0]), generate_s, {}, None)

    def generate_batch(
        self, prompts: Sequence[str], seeds: Sequence[int], num_steps: int
    ) -> tuple[Images, float]:
        """Return images [n, h, w, 3], generated together, and the seconds that it took."""
        if self._pipeline is None:
            raise ValueError(f"{self.model_id} is not loaded")
        watch = Stopwatch(self._device)
        with watch:
            images = self._pipeline(
                list(prompts),
                num_inference_steps=num_steps,
                guidance_scale=self._model.guidance_scale,
                height=self._model.height_px,
                width=self._model.width_px,
                generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
                output_type="np",
            ).images
        return np.rint(images * 255).astype(np.uint8), watch.elapsed_s

    def _used_bytes(self) -> int:
        if self._device.startswith("cuda"):
            return torch.cuda.memory_allocated(self._device)
        return int(psutil.Process().memory_info().rss)


def png(image: NDArray[np.uint8]) -> bytes:
    """Return the image [h, w, 3] as PNG, which loses nothing."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()
