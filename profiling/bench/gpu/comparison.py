"""The engine beside diffusers' pipeline on one model: images a second, and the same images.

Responsible for one short closed loop of each backend. Not: the backends (backends.py), Poisson
arrivals and gRPC (serving.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job
from profiling.bench import loops, serving
from profiling.bench.backends import Pipeline, by_engine
from profiling.bench.gpu.models import entry_of, on_engine
from profiling.bench.gpu.stages import is_full
from profiling.bench.loops import Serve
from profiling.bench.serving import ENGINE, PADDED, PIPELINE, Serving
from profiling.measure.prompts import Images
from profiling.measure.subject import PipelineBackend


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the backends are compared."""

    engine: EngineConfig
    num_requests: int
    max_num_steps: int
    """Of requests that take from 4 steps on, mixed; three of four have guidance."""
    rounds: int


def compare(model: ModelConfig, chosen: Settings) -> dict[str, Any]:
    """Return throughput, latencies and parity of pipeline, padded batches and engine.

    Rounds alternate between them. Images are compared with those of the pipeline one by one; in
    padded batches most requests get more steps than they asked for, and so other images.
    """
    settings = Serving(
        model=model,
        engine=chosen.engine,
        num_requests=chosen.num_requests,
        in_flight=min(16, chosen.num_requests),
        max_num_steps=chosen.max_num_steps,
        rounds=chosen.rounds,
    )

    async def action(engine: DiffusersEngine) -> dict[str, Any]:
        requests = serving.jobs(settings)
        await engine.load(entry_of(settings.model))
        loaded = await engine.thread.call(PipelineBackend, settings.model, settings.engine)
        largest = await _largest(engine, loaded, requests[: settings.in_flight])
        pipeline = Pipeline(loaded, largest, engine.thread)
        backends: dict[str, Serve] = {
            PIPELINE: pipeline.one_by_one,
            PADDED: pipeline.padded,
            ENGINE: by_engine(engine),
        }
        rounds: list[dict[str, Any]] = []
        images: dict[str, list[Images]] = {}
        short = [replace(job, num_steps=2) for job in requests[: settings.in_flight]]
        for serve in backends.values():  # warms up
            await loops.closed_loop(serve, short, settings.in_flight)
        for _ in range(settings.rounds):
            for name, serve in backends.items():
                loop = await loops.closed_loop(serve, requests, settings.in_flight)
                throughput_hz, latency_s, made = loop
                rounds.append(
                    {"backend": name, "throughput_hz": throughput_hz, "latency_s": latency_s}
                )
                images.setdefault(name, made)
        return {
            "num_requests": len(requests),
            "in_flight": settings.in_flight,
            "num_steps": [settings.min_num_steps, settings.max_num_steps],
            "dtype": settings.engine.dtype,
            "padded_batch": largest,
            "rounds": rounds,
            "parity": {name: parity(made, images[PIPELINE]) for name, made in images.items()},
            "contrast": float(np.std(images[PIPELINE])),
        }

    return on_engine(settings.engine, action)


async def _largest(engine: DiffusersEngine, loaded: PipelineBackend, jobs: Sequence[Job]) -> int:
    """Return how many requests fit into one call of the pipeline: all, or a half, a quarter."""
    size, few = len(jobs), [replace(job, num_steps=1) for job in jobs]
    pipeline = Pipeline(loaded, size, engine.thread)
    while True:
        try:
            await engine.thread.call(pipeline.run, few[:size])
        except Exception as error:  # other errors are raised again
            if size == 1 or not is_full(error):
                raise
            size //= 2
        else:
            return size


def parity(images: Sequence[Images], reference: Sequence[Images]) -> dict[str, float]:
    """Return how near images are to their references: least SSIM, grey levels of difference."""
    difference = np.abs(np.stack(images).astype(np.int16) - np.stack(reference))
    return {
        "ssim_min": min(serving.similarity(images, reference)),
        "difference_max": int(difference.max()),
        "differing_frac": float((difference > 0).mean()),
    }
