"""The model under measurement: one image at a time by a node's engine, or batches by a pipeline.

Responsible for the link to what generates, and for what is timed. Not: how often. Every time ends
when the pixels lie in host memory, so a device's queued work is waited for and counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

import psutil
import torch

from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine import families, samplers
from edge_node.engine.diffusers_engine import ALL_THREADS, DiffusersEngine
from edge_node.engine.interface import Job, image_of, png
from edge_node.engine.onnx_runtime.graph import Graph
from edge_node.telemetry import TelemetryReader
from profiling.measure import sources
from profiling.measure.prompts import Images, Prompt


@dataclass(frozen=True, slots=True)
class TimedImage:
    """One generated image, as a node would send it."""

    encoded: bytes
    generate_s: float
    """From the job to the encoded image, as a node's timings count it."""
    energy_j: float | None
    """Of the device over that time; None where it does not tell."""


class EngineBackend:
    """One model in the engine that edge nodes serve with; a context manager."""

    def __init__(self, model: ModelConfig, engine: EngineConfig) -> None:
        self._model = model
        self._entry = sources.entry(model)
        self._engine = DiffusersEngine(engine)
        self._run = self._engine.thread.run  # the device in this thread, as a node has it
        self._telemetry = TelemetryReader(self._engine.device_name, self._engine.device_uuid)

    def __enter__(self) -> "EngineBackend":
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._engine.close())

    def load(self) -> tuple[int, float]:
        """Return the bytes of the loaded nets and the seconds of loading, exports not counted."""
        begin, export_s = perf_counter(), self._engine.export_s
        resident_bytes = self._run(self._engine.load(self._entry))
        return resident_bytes, perf_counter() - begin - (self._engine.export_s - export_s)

    @property
    def runtime(self) -> str:
        """What the loaded denoiser runs in."""
        return self._engine.model(self._model.model_id).family.runtime

    def evict(self) -> tuple[int, float]:
        """Return the bytes that came back and the seconds of evicting."""
        before, begin = self._used_bytes(), perf_counter()
        self._run(self._engine.evict(self._model.model_id))
        evict_s = perf_counter() - begin
        return before - self._used_bytes(), evict_s

    def generate(self, prompt: Prompt, num_steps: int) -> TimedImage:
        """Return one image, generated with no other beside it."""
        job = Job.of(
            self._model,
            request_id="profile",
            prompt=prompt.text,
            num_steps=num_steps,
            seed=prompt.seed,
        )
        return self._run(self._generate(job))

    async def _generate(self, job: Job) -> TimedImage:
        energy_j, begin = self._telemetry.energy_j(), perf_counter()
        encoded = png((await image_of(self._engine, job)).pixels)
        generate_s, after_j = perf_counter() - begin, self._telemetry.energy_j()
        spent_j = None if energy_j is None or after_j is None else after_j - energy_j
        return TimedImage(encoded, generate_s, spent_j)

    def _used_bytes(self) -> int:
        if self._engine.device_uuid:
            return torch.cuda.memory_allocated()
        return int(psutil.Process().memory_info().rss)


class PipelineBackend:
    """One model as a plain diffusers pipeline, for many images at once."""

    def __init__(
        self, model: ModelConfig, engine: EngineConfig, graphs: Mapping[str, Graph] | None = None
    ) -> None:
        """Load the model; the device must be named, not "auto".

        Args:
            model: what is loaded.
            engine: device, precision and threads.
            graphs: exported nets by part, to run in ONNX Runtime with its own settings.
        """
        self._model = model
        all_threads = engine.num_threads or ALL_THREADS
        self._num_threads = 1 if graphs else all_threads  # beside ONNX Runtime's: its best
        dtype = getattr(torch, engine.dtype)
        self.pipeline = families.load(sources.entry(model), dtype, engine.device)
        family = families.adapt(self.pipeline)
        for part, graph in (graphs or {}).items():
            family.run_in_onnx(part, graph, all_threads)
            getattr(self.pipeline, part).settings = {}
        if engine.is_compiled:
            family.compile()
        if model.scheduler:
            self.pipeline.scheduler = samplers.make(model.scheduler, self.pipeline.scheduler)

    def generate(self, prompts: Sequence[Prompt], num_steps: int) -> tuple[Images, float]:
        """Return images [n, h, w, 3] and the seconds that all of them took together.

        Each starts from its prompt's seed, so that it is the image which a node would make.
        """
        begin = perf_counter()
        texts, seeds = [prompt.text for prompt in prompts], [prompt.seed for prompt in prompts]
        images = self.images(texts, seeds, num_steps, self._model.default_guidance_scale)
        return images, perf_counter() - begin

    def images(
        self, texts: Sequence[str], seeds: Sequence[int], num_steps: int, guidance_scale: float
    ) -> Images:
        """Return images [n, h, w, 3] of one call of the pipeline."""
        before = torch.get_num_threads()
        torch.set_num_threads(self._num_threads)  # an engine in this thread may keep to one
        try:
            return families.generated(
                self.pipeline,
                texts,
                seeds,
                num_inference_steps=num_steps,
                guidance_scale=guidance_scale,
                height=self._model.height_px,
                width=self._model.width_px,
            )
        finally:
            torch.set_num_threads(before)
