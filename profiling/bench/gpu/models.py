"""What one model costs a device: its way there and back, its steps by batch size, its energy.

Responsible for the measuring. Every time ends when the device is done. Not: several requests of
different lengths (comparison.py), words (summary.py).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch

from edge_node.catalog import Catalog, Entry
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine import denoising, families, memory, samplers
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.families import stacked
from edge_node.engine.interface import Job, image_of
from edge_node.telemetry import TelemetryReader
from profiling.bench import loading
from profiling.bench.gpu.stages import is_full
from profiling.measure.subject import PipelineBackend

BATCH_SIZES = (1, 2, 4, 8, 16)
CALLS = 5
"""Denoiser calls between two looks at the clock."""
_SHORT, _LONG = 2, 10
"""Step counts whose difference in time is that of their steps: text and decoding cancel out."""
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """How long things are measured."""

    repeats: int
    """Of each load, call and batch."""
    energy_s: float
    """At least so long for each reading: NVML's counter moves ten times a second."""


def on_engine(config: EngineConfig, action: Callable[[DiffusersEngine], Awaitable[_T]]) -> _T:
    """Return what an action on a new engine returns; the engine is closed however it ends.

    The configuration's device must be named, not "auto".
    """
    memory.release(torch.device(config.device))  # what an earlier error or pipeline held
    engine = DiffusersEngine(config)

    async def main() -> _T:
        try:
            return await action(engine)
        finally:
            await engine.close()

    return engine.thread.run(main())


def entry_of(model: ModelConfig) -> Entry:
    """Return the catalog's entry of a model in a folder of its own."""
    (entry,) = Catalog([model], [Path(model.source.removeprefix("folder:"))])
    return entry


def load_record(model: ModelConfig, config: EngineConfig, effort: Effort) -> dict[str, Any]:
    """Return a model's loads beside the plain copies of as many bytes, evictions, first images."""

    async def action(engine: DiffusersEngine) -> dict[str, Any]:
        entry = entry_of(model)
        rates = await loading.rates(engine, entry, effort.repeats)
        return {"rates": rates, "reloads": await _reloads(engine, entry, effort.repeats)}

    return on_engine(config, action)


async def _reloads(engine: DiffusersEngine, entry: Entry, repeats: int) -> list[dict[str, Any]]:
    """Return loads from a cold disk and from host memory until the first image, and evictions."""
    job = _job(entry.config, 0)
    files = sorted(Path(entry.location).rglob("*.safetensors"))
    found: list[dict[str, Any]] = []
    for way in ("disk", "host"):
        if way == "host":
            await engine.stage(entry)
        for _ in range(repeats):
            loading.drop_cached(files)
            before_bytes, began_s = used_bytes(engine), time.perf_counter()
            resident_bytes = await engine.load(entry)
            loaded_s = time.perf_counter()
            await image_of(engine, job)
            first_s = time.perf_counter()
            await image_of(engine, job)
            next_s = time.perf_counter()
            taken_bytes = used_bytes(engine) - before_bytes
            evict_s = time.perf_counter()
            await engine.evict(entry.model_id)
            found.append(
                {
                    "way": way,
                    "load_s": loaded_s - began_s,
                    "first_image_s": first_s - began_s,
                    "next_image_s": next_s - first_s,
                    "evict_s": time.perf_counter() - evict_s,
                    "resident_bytes": resident_bytes,
                    "taken_bytes": taken_bytes,
                    "kept_bytes": used_bytes(engine) - before_bytes,
                }
            )
    await engine.unstage(entry.model_id)
    return found


def used_bytes(engine: DiffusersEngine) -> int:
    """Return what is allocated on the GPU, or the process's resident memory on a CPU."""
    if engine.device_uuid:
        return torch.cuda.memory_allocated()
    return int(psutil.Process().memory_info().rss)


def step_record(model: ModelConfig, config: EngineConfig, effort: Effort) -> dict[str, Any]:
    """Return bare denoiser calls and the engine's steps by batch size, and joules an image.

    Where memory is too small for a batch, the larger ones are left out too.
    """

    async def calls(engine: DiffusersEngine) -> list[dict[str, Any]]:
        return await engine.thread.call(bare_calls, model, config, effort.repeats)

    bare = on_engine(config, calls)
    sizes = [row["batch_size"] for row in bare if "call_s" in row]
    while sizes:
        limited = replace(config, max_batch_size=sizes[-1])
        try:
            steps = on_engine(
                limited, partial(_engine_steps, model=model, sizes=sizes, effort=effort)
            )
        except Exception as error:  # other errors are raised again
            if not is_full(error) or len(sizes) == 1:
                raise
            sizes = sizes[:-1]
        else:
            return {"calls": bare, **steps}
    return {"calls": bare, "steps": [], "energy": []}


@torch.inference_mode()
def bare_calls(model: ModelConfig, config: EngineConfig, repeats: int) -> list[dict[str, Any]]:
    """Return the seconds of a diffusers denoiser's calls by batch size."""
    backend = PipelineBackend(model, config)
    family = families.adapt(backend.pipeline)
    own = denoising.Model(family, samplers.own_name(backend.pipeline.scheduler) or "ddim")
    (one,) = denoising.start(own, [_job(model, 0, 1, guidance_scale=1.0)])
    found: list[dict[str, Any]] = []
    for batch_size in BATCH_SIZES:
        try:
            found.append({"batch_size": batch_size} | _calls(family, one, batch_size, repeats))
        except Exception as error:  # other errors are raised again
            if not is_full(error):
                raise
            found.append({"batch_size": batch_size, "out_of_memory": str(error)})
            break
    return found


def _calls(
    family: families.StableDiffusion, one: denoising.Trajectory, batch_size: int, repeats: int
) -> dict[str, Any]:
    """Return the seconds of one call, in groups of calls that the device is waited for after."""
    latents = one.latent.repeat(batch_size, 1, 1, 1)
    times = one.table.timesteps[:1].float().repeat(batch_size).to(latents.device)
    conditions = stacked(one.conditions * batch_size)
    is_cuda = latents.is_cuda
    if is_cuda:
        torch.cuda.reset_peak_memory_stats()
    held_bytes = torch.cuda.memory_allocated() if is_cuda else 0
    for _ in range(2):  # the first ones choose algorithms and take memory
        family.denoise(latents, times, conditions)
    call_s = []
    for _ in range(repeats):
        _wait(is_cuda=is_cuda)
        began_s = time.perf_counter()
        for _ in range(CALLS):
            family.denoise(latents, times, conditions)
        _wait(is_cuda=is_cuda)
        call_s.append((time.perf_counter() - began_s) / CALLS)
    peak_bytes = torch.cuda.max_memory_allocated() - held_bytes if is_cuda else None
    return {"call_s": call_s, "peak_bytes": peak_bytes}


def _wait(*, is_cuda: bool) -> None:
    if is_cuda:
        torch.cuda.synchronize()


async def _engine_steps(
    engine: DiffusersEngine, model: ModelConfig, sizes: Sequence[int], effort: Effort
) -> dict[str, Any]:
    await engine.load(entry_of(model))
    telemetry = TelemetryReader(engine.device_name, engine.device_uuid)
    steps, energy = [], []
    for batch_size in sizes:
        alone = [
            [_job(model, seed, num_steps, guidance_scale=1.0) for seed in range(batch_size)]
            for num_steps in (_SHORT, _LONG)
        ]
        await _images_s(engine, alone[0])  # warms up
        step_s = []
        for _ in range(effort.repeats):
            short_s = await _images_s(engine, alone[0])
            long_s = await _images_s(engine, alone[1])
            step_s.append((long_s - short_s) / (_LONG - _SHORT))
        steps.append({"batch_size": batch_size, "step_s": step_s})
    for in_flight in sorted({sizes[0], sizes[-1]}):
        jobs = [_job(model, seed) for seed in range(in_flight)]
        spent = await _energy(engine, telemetry, jobs, effort.energy_s)
        energy.append({"in_flight": in_flight} | spent)
    return {"steps": steps, "energy": energy}


async def _energy(
    engine: DiffusersEngine, telemetry: TelemetryReader, jobs: Sequence[Job], until_s: float
) -> dict[str, Any]:
    """Return joules, seconds and images of requests that run together, over and over."""
    num_images, began_s, before_j = 0, time.perf_counter(), telemetry.energy_j()
    while time.perf_counter() < began_s + until_s:
        await _images_s(engine, jobs)
        num_images += len(jobs)
    taken_s, after_j = time.perf_counter() - began_s, telemetry.energy_j()
    spent_j = None if before_j is None or after_j is None else after_j - before_j
    return {"energy_j": spent_j, "taken_s": taken_s, "num_images": num_images}


async def _images_s(engine: DiffusersEngine, jobs: Sequence[Job]) -> float:
    """Return the seconds of requests that are submitted together."""
    began_s = time.perf_counter()
    await asyncio.gather(*(image_of(engine, job) for job in jobs))
    return time.perf_counter() - began_s


def _job(
    model: ModelConfig, seed: int, num_steps: int = 0, guidance_scale: float | None = None
) -> Job:
    """Return a request, by default with the model's own steps and guidance."""
    return Job.of(
        model,
        request_id=f"r{seed}",
        prompt="a red circle left of a blue square",
        num_steps=num_steps or model.default_num_steps,
        guidance_scale=guidance_scale,
        seed=seed,
    )
