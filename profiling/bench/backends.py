"""The ways to serve a model that benchmarks compare: pipelines, engine, node.

Responsible for one async function each, from a job to its image. Not: statistics.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path

import torch

from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine import denoising, families
from edge_node.engine.device_thread import DeviceThread
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job, StepDone, image_of
from profiling.bench.loops import Serve
from profiling.bench.remote import Remote, remote
from profiling.measure.prompts import Images
from profiling.measure.subject import PipelineBackend
from protos.clients import EdgeNodeClient


class Pipeline:
    """diffusers as it comes: one request at a time, or all that wait in one padded batch."""

    def __init__(self, backend: PipelineBackend, max_batch: int, thread: DeviceThread) -> None:
        self._backend = backend
        self._max_batch = max_batch
        self._thread = thread
        self._device = asyncio.Lock()
        self._waiting: list[tuple[Job, asyncio.Future[Images]]] = []

    async def one_by_one(self, job: Job) -> Images:
        """Serve in order of arrival."""
        async with self._device:
            return (await self._thread.call(self.run, [job]))[0]

    async def padded(self, job: Job) -> Images:
        """Serve with all that wait when the device gets free, at the longest step count.

        A pipeline has one guidance scale for a batch, so requests with and without it part ways.
        """
        done: asyncio.Future[Images] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, done))
        async with self._device:
            if not done.done():
                await asyncio.sleep(0)  # whoever is submitted at this moment comes along
                mates = [w for w in self._waiting if w[0].guidance_scale == job.guidance_scale]
                mates = mates[: self._max_batch]
                if (job, done) not in mates:
                    mates[-1] = (job, done)
                self._waiting = [waiting for waiting in self._waiting if waiting not in mates]
                images = await self._thread.call(self.run, [one for one, _ in mates])
                for (_, waiting), image in zip(mates, images, strict=True):
                    waiting.set_result(image)
        return await done

    def run(self, batch: Sequence[Job]) -> list[Images]:
        """Return the images of a batch at its longest step count."""
        images = self._backend.images(
            [job.prompt for job in batch],
            [job.seed for job in batch],
            max(job.num_steps for job in batch),
            batch[0].guidance_scale,
        )
        return list(images)


@torch.inference_mode()
def bare_step_s(model: denoising.Model, job: Job) -> float:
    """Return the seconds of a bare denoiser call of one request, the mean of its steps."""
    (one,) = denoising.start(model, [job])
    rows = families.stacked(one.conditions)
    latents = one.latent.repeat(len(one.conditions), 1, 1, 1)
    began_s = time.perf_counter()
    for time_step in one.table.timesteps.float().to(latents.device):
        out = model.family.denoise(latents, time_step.repeat(len(latents)), rows)
    out[0, 0, 0, 0].item()  # waits for the device
    return (time.perf_counter() - began_s) / job.num_steps


async def step_ends_s(engine: DiffusersEngine, job: Job) -> list[float]:
    """Return when each step of a request ended, by ``time.perf_counter``."""
    async with aclosing(engine.generate(job)) as events:
        return [time.perf_counter() async for event in events if isinstance(event, StepDone)]


def by_engine(engine: DiffusersEngine) -> Serve:
    """Return the engine as a backend."""

    async def serve(job: Job) -> Images:
        return (await image_of(engine, job)).pixels

    return serve


@contextlib.asynccontextmanager
async def node(model: ModelConfig, engine: EngineConfig) -> AsyncIterator[Remote]:
    """Run a node with the model in a process of its own, and a client's in another one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "node.toml"
        tables = {
            "[engine]": asdict(engine),
            "[cache]": {"capacity_bytes": 10**12},
            "[[models]]": asdict(model),
        }
        lines = ['address = "127.0.0.1:0"']
        for name, table in tables.items():
            lines += [name, *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        file.write_text("\n".join(lines) + "\n")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge_node", "serve", "--config", str(file)),
            *("--log-level", "WARNING"),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            if process.stdout is None:
                raise RuntimeError("the node has no standard output")
            address = (await process.stdout.readline()).decode().split()[-1]
            async with EdgeNodeClient(address, deadline_s=600) as client:
                await client.load_model(model.model_id)
            async with remote(address, process.pid) as node:
                yield node
        finally:
            process.terminate()
            await process.wait()
