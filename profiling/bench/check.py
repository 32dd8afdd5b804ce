"""The regression gate: short measurements of the ratios of regression.py, side by side.

Responsible for measuring. Not: what counts as a loss (regression.py); long records (serving.py,
loading.py).
"""

import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch

from edge_node.catalog import Catalog
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job
from profiling.bench import loading, loops, regression, results, serving, shapes
from profiling.bench.backends import Pipeline, by_engine, node
from profiling.bench.loops import Answers, Serve, here
from profiling.bench.regression import Rounds
from profiling.bench.remote import Remote, latency_rounds
from profiling.bench.shapes import SD15_DENOISER, Shape
from profiling.measure.subject import PipelineBackend
from protos import logs, manifest
from protos.config import ConfigError

IN_FLIGHT = 16
NUM_REQUESTS = 24
MAX_NUM_STEPS = 20
ROUNDS = 5
"""Of each pair; a median of five stands two disturbed ones."""
ENOUGH_S = 30.0
"""No further round of a ratio after this: on a busy machine a round may take a minute."""
LOADS = 15
"""Of which the first takes new memory, and some others meet the system at work."""
MOST_BUSY_FRAC = 0.25
"""Ratios of a machine that others keep busier than this are no standard."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """Compare ratios of the engine with those committed for the same kind of machine.

    $ python -m profiling.bench check             two minutes; exit code 1 where one lost over 10 %
    $ python -m profiling.bench check --record    measure this kind of machine, to be committed

    Four ratios, both sides measured in turns in one run: images/s of engine and pipeline, a step of
    the engine and a bare denoiser call, latency over gRPC and in process, a load from host memory
    and a plain copy. One that lost is measured once more before it counts. A kind of machine is its
    GPU's or processor's name and its number of cores.
    """

    record: bool = False
    """Write this machine's ratios instead; refused from a tree with uncommitted changes, and where
    other programs keep the machine busy."""
    folder: Path = Path("results/bench-check")
    """Where the committed ratios are, a file for each kind of machine."""

    def __call__(self) -> int:
        """Measure and print the verdicts; 1 where a ratio lost."""
        logs.setup("WARNING")
        busy_frac = psutil.cpu_percent(interval=1.0) / 100
        if busy_frac > MOST_BUSY_FRAC:
            complaint = f"other programs keep the processors busy by {busy_frac:.0%}"
            if self.record:
                raise ConfigError(f"--record: {complaint}, the ratios would be theirs as well")
            sys.stderr.write(f"{complaint}: not a time to measure\n")
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        origin = manifest.collect(device)
        if self.record:
            sys.stdout.write(f"written: {regression.record(measured, origin, self.folder)}\n")
            return 0
        verdicts = regression.check(measured, origin, self.folder)
        sys.stdout.write(f"{regression.machine_of(origin)}\n\n{regression.table(verdicts)}\n")
        return int(any(one.is_lost for one in verdicts))


@dataclass(frozen=True, slots=True)
class Contest:
    """What the ratios are measured on: the zoo's scene-base, and a large model to load."""

    engine: DiffusersEngine
    pipeline: Pipeline
    remote: Remote
    """The same engine in a node of its own process."""
    requests: Sequence[Job]

    async def engine_over_pipeline(self) -> float:
        """Return images/s of the engine over the pipeline's."""
        engine_hz, _, _ = await self._loop(by_engine(self.engine))
        pipeline_hz, _, _ = await self._loop(self.pipeline.one_by_one)
        return engine_hz / pipeline_hz

    async def step_over_bare_call(self) -> float:
        """Return seconds of the engine's step of one request over those of a bare call."""
        (ratio,) = await serving.overhead_ratios(self.engine, self.requests[0], 1)
        return ratio

    async def grpc_over_in_process(self) -> float:
        """Return median latency over gRPC over that in this process."""
        run = here(by_engine(self.engine))
        (found,) = await latency_rounds(run, self.remote, self.requests, IN_FLIGHT, 1)
        return found["median_latency_s"]["grpc"] / found["median_latency_s"]["engine"]

    async def load_over_limit(self) -> list[float]:
        """Return seconds of a plain copy over those of a load from host memory."""
        with tempfile.TemporaryDirectory() as folder:
            shape = _half_width(SD15_DENOISER)
            await self.engine.thread.call(shapes.write, shape, Path(folder))
            (entry,) = Catalog([shape.model(Path(folder))], [Path(folder)])
            engine = DiffusersEngine(EngineConfig(graph_folder=str(Path(folder) / "graphs")))
            found = await loading.host_to_device(engine, entry, LOADS)
            await engine.close()
        return [
            limit_s / load_s
            for limit_s, load_s in zip(found["limit_s"], found["load_s"], strict=True)
        ][1:]

    async def _loop(self, serve: Serve) -> Answers:
        return await loops.closed_loop(serve, self.requests, IN_FLIGHT)


def _half_width(shape: Shape) -> Shape:
    """Return a denoiser of half the width: 0.9 GB, far beyond any processor's caches.

    Its images are small, so that the first load measures its largest batch soon.
    """
    unet, config = shape.nets["unet"]
    half = config | {"block_out_channels": tuple(n // 2 for n in config["block_out_channels"])}
    return replace(shape, nets={**shape.nets, "unet": (unet, half)}, size_px=64)


def measured(names: Sequence[str]) -> Rounds:
    """Return the rounds of these ratios."""
    engine = DiffusersEngine(EngineConfig())
    return engine.thread.run(_measured(engine, names))


async def _measured(engine: DiffusersEngine, names: Sequence[str]) -> Rounds:
    async with _contest(engine) as contest:
        pairs: dict[str, Callable[[], Awaitable[float]]] = {
            "engine_over_pipeline": contest.engine_over_pipeline,
            "step_over_bare_call": contest.step_over_bare_call,
            "grpc_over_in_process": contest.grpc_over_in_process,
        }
        found: dict[str, list[float]] = {}
        for name in names:
            pair = pairs.get(name)
            found[name] = await (_rounds(pair) if pair else contest.load_over_limit())
            sys.stderr.write(f"{name}: {results.spread(found[name])}\n")
        return found


async def _rounds(pair: Callable[[], Awaitable[float]]) -> list[float]:
    """Return a ratio of each round."""
    began_s = time.perf_counter()
    found: list[float] = []
    while len(found) < ROUNDS and time.perf_counter() - began_s < ENOUGH_S:
        found.append(await pair())
    return found


@asynccontextmanager
async def _contest(engine: DiffusersEngine) -> AsyncIterator[Contest]:
    """Load the model three times and serve a few requests with each; yield the contest."""
    model = ModelConfig(model_id="scene-base", source="builtin:scene-base")
    settings = serving.Serving(
        model=model,
        num_requests=NUM_REQUESTS,
        in_flight=IN_FLIGHT,
        max_num_steps=MAX_NUM_STEPS,
    )
    requests = serving.jobs(settings)
    (entry,) = Catalog([model])
    config = replace(settings.engine, device="cuda" if engine.device_uuid else "cpu")
    try:
        await engine.load(entry)
        loaded = await engine.thread.call(PipelineBackend, model, config)
        async with node(model, settings.engine) as remote:
            pipeline = Pipeline(loaded, IN_FLIGHT, engine.thread)
            contest = Contest(engine, pipeline, remote, requests)
            short = [replace(job, num_steps=2) for job in requests]
            for run in (here(pipeline.one_by_one), remote.run, here(by_engine(engine))):
                await run(loops.closed_loop, short, IN_FLIGHT)  # warms up
            yield contest
    finally:
        await engine.close()
