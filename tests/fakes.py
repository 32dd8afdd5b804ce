"""An engine without nets, for claims about everything around it, and small configurations."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence

import numpy as np

from edge_node.catalog import Catalog, Entry
from edge_node.config import CacheConfig, ModelConfig, NodeConfig
from edge_node.engine.interface import Event, ImageDone, Job, Started, StepDone
from edge_node.node import Node
from protos.errors import GenerationError, ModelLoadError, OverloadedError


class FakeEngine:
    """Holds sizes instead of tensors; "crash" prompts fail to generate.

    Models that are "broken" cannot be read, "full" ones not be loaded, "stuck" ones not be evicted.
    """

    device_name, device_uuid = "cpu", ""

    def __init__(self, sizes: dict[str, int]) -> None:
        self.sizes = sizes
        self.broken: set[str] = set()
        self.full: set[str] = set()
        self.stuck: set[str] = set()
        self.resident: set[str] = set()
        self.staged: set[str] = set()
        self.num_loads = 0
        self.running: list[str] = []
        self.num_stopped = 0
        self.step_s = 0.0
        self.device = asyncio.Lock()

    async def prepare(self, entry: Entry) -> None:
        """Nothing to prepare."""

    def estimate_bytes(self, entry: Entry) -> int:
        return self.sizes[entry.model_id]

    async def stage(self, entry: Entry) -> int:
        await asyncio.sleep(0)
        if entry.model_id in self.broken:
            raise ModelLoadError(f"model {entry.model_id!r} is broken")
        self.staged.add(entry.model_id)
        return self.sizes[entry.model_id]

    async def unstage(self, model_id: str) -> None:
        self.staged.discard(model_id)
        await asyncio.sleep(0)

    def working_bytes(self, _: str) -> int | None:
        return None

    async def load(self, entry: Entry) -> int:
        await asyncio.sleep(0)
        if entry.model_id in self.broken - self.staged:
            raise ModelLoadError(f"model {entry.model_id!r} is broken")
        if entry.model_id in self.full:
            raise OverloadedError(f"no memory left to load {entry.model_id!r}")
        self.num_loads += 1
        self.resident.add(entry.model_id)
        return self.sizes[entry.model_id]

    async def evict(self, model_id: str) -> None:
        if model_id in self.running:
            raise AssertionError(f"{model_id} evicted while it runs")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.resident.discard(model_id)  # like a device: what has begun runs to its end
            raise
        if model_id in self.stuck:
            raise GenerationError(f"model {model_id!r} cannot be evicted")
        self.resident.discard(model_id)

    async def generate(self, job: Job) -> AsyncGenerator[Event, None]:
        """One step at a time, first come first served, like a device that cannot batch."""
        began_s = time.perf_counter()
        self.running.append(job.model_id)
        try:
            async with self.device:
                yield Started(time.perf_counter())
                for step in range(1, job.num_steps + 1):
                    await asyncio.sleep(self.step_s)
                    if job.model_id not in self.resident:
                        raise AssertionError(f"{job.model_id} is not resident")
                    yield StepDone(step)
                if job.prompt == "crash":
                    raise GenerationError(f"model {job.model_id!r} failed")
                pixels = np.random.default_rng(job.seed).integers(
                    256, size=(job.height_px, job.width_px, 3), dtype=np.uint8
                )
                yield ImageDone(pixels, time.perf_counter() - began_s)
        except GeneratorExit:
            self.num_stopped += 1
            raise
        finally:
            self.running.remove(job.model_id)

    async def close(self) -> None:
        self.resident.clear()


def job(seed: int = 1, model_id: str = "tiny", **changes) -> Job:
    """Return a small request for an engine."""
    fields = {
        "request_id": f"r{seed}",
        "model_id": model_id,
        "prompt": "a red circle",
        "negative_prompt": "",
        "num_steps": 4,
        "guidance_scale": 3.0,
        "seed": seed,
        "scheduler": "",
        "width_px": 64,
        "height_px": 64,
    }
    return Job(**(fields | changes))


def model(name: str, **changes: object) -> ModelConfig:
    return ModelConfig(model_id=name, source=f"hub:test/{name}", **changes)


def config(models: Sequence[str] = ("a", "b"), capacity_bytes: int = 100, **changes) -> NodeConfig:
    return NodeConfig(
        models=tuple(model(name) for name in models),
        cache=CacheConfig(capacity_bytes=capacity_bytes),
        **changes,
    )


def node(
    node_config: NodeConfig | None = None, secret: bytes | None = None
) -> tuple[Node, FakeEngine]:
    """Return a node over a fake engine; each model takes 40 bytes."""
    chosen = node_config or config()
    engine = FakeEngine({m.model_id: 40 for m in chosen.models})
    return Node(chosen, Catalog(chosen.models), engine, secret), engine
