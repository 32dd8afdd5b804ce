"""Ways to serve one model, side by side in one run.

Responsible for the requests and stating what came of them. Not: serving (backends.py, remote.py).
"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torchmetrics.functional.image import structural_similarity_index_measure

from edge_node.catalog import Catalog
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job
from edge_node.zoo.worlds.builtin import PLAIN
from profiling.bench import results
from profiling.bench.backends import Pipeline, bare_step_s, by_engine, node, step_ends_s
from profiling.bench.loops import Answers, Run, closed_loop, here, poisson
from profiling.bench.remote import latency_rounds
from profiling.measure.prompts import Images
from profiling.measure.subject import PipelineBackend
from profiling.report import page
from protos import logs, manifest
from protos.seeds import stream

PIPELINE, PADDED, ENGINE, REMOTE = "pipeline", "padded batches", "engine", "engine over gRPC"
ONNX_PIPELINE, ONNX_PADDED = "pipeline on ONNX Runtime", "padded on ONNX Runtime"
SINGLE = 24
"""Requests of a round with one in flight."""
OVERHEAD_ROUNDS = 15
GRPC_ROUNDS = 7
"""Of engine and engine over gRPC by turns, with fewer requests than the other rounds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Serving:
    r"""Compare ways to serve one model, side by side: throughput, latency, same images.

    $ python -m profiling.bench serving                          the zoo's scene-base, some minutes
    $ python -m profiling.bench serving --model.source hub:OWNER/NAME \
          --model.width-px 512 --model.height-px 512             any model of a known family

    Backends: (a) a diffusers pipeline, one request after another; (b) the same pipeline on all that
    wait, padded to the longest step count among them; where the engine runs nets in ONNX Runtime,
    the same two with these nets in sessions of their own; (c) the edge node's engine in this
    process; (d) the same engine behind gRPC, node and client in a process each. All get the same
    requests: mixed step counts, three of four with guidance. Closed loop (a fixed number in flight,
    then one) and Poisson arrivals. Rounds alternate between backends, so that a busy machine hits
    all of them alike; (c) and (d) also alternate in shorter rounds, in both closed loops.
    Writes serving.json, serving.md and serving.png.
    """

    model: ModelConfig = field(
        default_factory=lambda: ModelConfig(model_id="scene-base", source="builtin:scene-base")
    )
    """The model."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Device, precision, batch limit, compiled or not; the pipelines have all but the limit."""
    num_requests: int = 96
    """Requests of a round."""
    in_flight: int = 16
    """Requests that run or wait in the closed loop."""
    min_num_steps: int = 4
    """Fewest denoising steps of a request."""
    max_num_steps: int = 50
    """Most denoising steps."""
    rounds: int = 3
    """Repetitions of every backend in each loop."""
    load_frac: float = 0.7
    """Poisson arrivals, as a share of what the engine reached in the closed loop."""
    slack: float = 4.0
    """A request's deadline: this many times what the pipeline takes for it, one at a time."""
    seed: int = 11
    """Of requests and arrivals."""
    out: Path = Path("runs/serving")
    """Folder of the results."""

    def __call__(self) -> int:
        """Measure; write and print the results."""
        logs.setup("WARNING")
        engine = DiffusersEngine(self.engine)
        record = engine.thread.run(compare(self, engine))
        results.write(self.out, "serving", record, table(record))
        draw(record, self.out / "serving.png")
        return 0


def jobs(settings: Serving) -> list[Job]:
    """Return the requests of a round: steps uniform, one in four without guidance."""
    rng = stream(settings.seed, "requests")
    drawn = PLAIN.draw(rng, settings.num_requests, "held-out")
    steps = rng.integers(settings.min_num_steps, settings.max_num_steps + 1, len(drawn))
    return [
        Job.of(
            settings.model,
            request_id=f"r{index}",
            prompt=scene.caption,
            num_steps=int(steps[index]),
            guidance_scale=1.0 if index % 4 == 3 else None,
            seed=1000 + index,
        )
        for index, scene in enumerate(drawn)
    ]


def similarity(images: Sequence[Images], reference: Sequence[Images]) -> list[float]:
    """Return each image's SSIM against its reference."""

    def tensor(image: Images) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255

    return [
        float(structural_similarity_index_measure(tensor(one), tensor(other), data_range=1.0))
        for one, other in zip(images, reference, strict=True)
    ]


async def compare(settings: Serving, engine: DiffusersEngine) -> dict[str, Any]:
    """Run every backend in both loops, all in the engine's thread; return the record."""
    requests = jobs(settings)
    (entry,) = Catalog([settings.model])
    await engine.load(entry)
    pipeline, pipelines = await _pipelines(settings, engine)
    async with node(settings.model, settings.engine) as remote:
        backends: dict[str, Run] = {
            **pipelines,
            ENGINE: here(by_engine(engine)),
            REMOTE: remote.run,
        }
        _, single_s, _ = await closed_loop(pipeline.one_by_one, requests, 1)  # warms it up, too
        limits_s = [settings.slack * took_s for took_s in single_s]
        for run in backends.values():
            await run(closed_loop, requests[: settings.in_flight], settings.in_flight)

        rounds: list[dict[str, Any]] = []
        images: dict[str, list[Images]] = {}

        def note(name: str, loop: str, answers: Answers) -> None:
            throughput_hz, latency_s, made = answers
            measured = {"throughput_hz": throughput_hz, "latency_s": latency_s}
            in_time_frac = float(np.mean(np.less_equal(latency_s, limits_s[: len(latency_s)])))
            rounds.append(
                {"contender": name, "loop": loop, **measured, "deadline_frac": in_time_frac}
            )
            images.setdefault(name, made)
            sys.stderr.write(f"{loop:>8}  {name:<24} {throughput_hz:6.2f} images/s\n")

        for _ in range(settings.rounds):
            for name, run in backends.items():
                note(name, "closed", await run(closed_loop, requests, settings.in_flight))
        reached_hz = [r["throughput_hz"] for r in rounds if r["contender"] == ENGINE]
        for _ in range(settings.rounds):
            for name, run in backends.items():
                if name not in (PADDED, ONNX_PADDED):
                    note(name, "single", await run(closed_loop, requests[:SINGLE], 1))
        rate_hz = settings.load_frac * statistics.median(reached_hz)
        rng = stream(settings.seed, "arrivals")
        for _ in range(settings.rounds):
            gaps_s = rng.exponential(1 / rate_hz, len(requests)).tolist()
            for name, run in backends.items():
                note(name, "poisson", await run(poisson, requests, gaps_s))
        grpc_rounds = {
            loop: await latency_rounds(
                backends[ENGINE], remote, requests[: 3 * in_flight + 5], in_flight, GRPC_ROUNDS
            )
            for loop, in_flight in (("closed_loop", settings.in_flight), ("one_at_a_time", 1))
        }
        overhead = await overhead_ratios(engine, requests[0], OVERHEAD_ROUNDS)
    await engine.close()
    ssim = {name: similarity(made, images[PIPELINE]) for name, made in images.items()}
    return {
        "manifest": asdict(manifest.collect()),
        "device": engine.device_name,
        "settings": asdict(settings) | {"out": str(settings.out)},
        "poisson_rate_hz": rate_hz,
        "rounds": rounds,
        "ssim_min": {name: min(values) for name, values in ssim.items()},
        "engine_step_over_bare_denoiser": overhead,
        "grpc_rounds": grpc_rounds,
        "grpc_latency_ratio": {
            loop: [r["median_latency_s"]["grpc"] / r["median_latency_s"]["engine"] for r in rounds]
            for loop, rounds in grpc_rounds.items()
        },
    }


async def _pipelines(settings: Serving, engine: DiffusersEngine) -> tuple[Pipeline, dict[str, Run]]:
    """Return diffusers' pipeline, and all ways to serve by it: also with the engine's graphs."""
    config = replace(settings.engine, device="cuda" if engine.device_uuid else "cpu")
    model = settings.model
    loaded = await engine.thread.call(PipelineBackend, model, config)
    pipeline = Pipeline(loaded, settings.in_flight, engine.thread)
    ways = {PIPELINE: here(pipeline.one_by_one), PADDED: here(pipeline.padded)}
    if graphs := engine.model(model.model_id).family.graphs:
        exported = await engine.thread.call(PipelineBackend, model, config, graphs)
        onnx = Pipeline(exported, settings.in_flight, engine.thread)
        ways |= {ONNX_PIPELINE: here(onnx.one_by_one), ONNX_PADDED: here(onnx.padded)}
    return pipeline, ways


async def overhead_ratios(engine: DiffusersEngine, job: Job, rounds: int) -> list[float]:
    """Return the engine's seconds a step over a bare denoiser call's, one request at a time."""
    long = replace(job, num_steps=50)
    ratios = []
    for _ in range(rounds + 1):
        bare_s = await engine.thread.call(bare_step_s, engine.model(job.model_id), long)
        ends_s = await step_ends_s(engine, long)
        ratios.append((ends_s[-1] - ends_s[0]) / (len(ends_s) - 1) / bare_s)
    return ratios[1:]  # the first one warms up


def table(record: dict[str, Any]) -> list[str]:
    """Return the figures as blocks of Markdown: medians over rounds, and their spread."""
    settings, overhead = record["settings"], record["engine_step_over_bare_denoiser"]
    return [
        f"{settings['model']['model_id']} on {record['device']}, {settings['num_requests']} "
        f"requests of {settings['min_num_steps']} to {settings['max_num_steps']} steps, "
        f"{settings['rounds']} rounds; medians, (least to most) over rounds; a ratio is to the "
        "pipeline of the same round.",
        f"Closed loop, {settings['in_flight']} in flight:",
        _loop_table(record, "closed"),
        f"One request at a time, {SINGLE} of them:",
        _loop_table(record, "single"),
        f"Poisson arrivals, {record['poisson_rate_hz']:.2f} a second "
        f"({settings['load_frac']:.0%} of the engine's closed loop):",
        _loop_table(record, "poisson"),
        "A step of one request at a time takes the engine "
        f"{statistics.median(overhead):.3f} times a bare denoiser call "
        f"({min(overhead):.3f} to {max(overhead):.3f}, {len(overhead)} rounds).",
        "Median latency over gRPC, times the engine's in process: "
        + ", ".join(
            f"{words} {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            for words, ratios in (
                (f"{settings['in_flight']} in flight", record["grpc_latency_ratio"]["closed_loop"]),
                ("one at a time", record["grpc_latency_ratio"]["one_at_a_time"]),
            )
        )
        + f"; {GRPC_ROUNDS} rounds.",
    ]


def _loop_table(record: dict[str, Any], loop: str) -> str:
    rounds = [r for r in record["rounds"] if r["loop"] == loop]
    base_hz = [r["throughput_hz"] for r in rounds if r["contender"] == PIPELINE]
    rows = []
    for name in dict.fromkeys(r["contender"] for r in rounds):
        own = [r for r in rounds if r["contender"] == name]
        hz = [r["throughput_hz"] for r in own]
        ratios = [one_hz / other_hz for one_hz, other_hz in zip(hz, base_hz, strict=True)]
        p50, p95 = np.percentile([s for r in own for s in r["latency_s"]], [50, 95])
        attained = statistics.mean(r["deadline_frac"] for r in own)
        cells = [f"{p50:.2f}", f"{p95:.2f}", f"{attained:.0%}", f"{record['ssim_min'][name]:.4f}"]
        rows.append([name, results.spread(hz), results.spread(ratios), *cells])
    head = ["backend", "images/s", "ratio", "p50 latency (s)", "p95 latency (s)"]
    return page.table([*head, "SLO attainment", "least SSIM"], rows)


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw the latencies of every backend as cumulative shares, a panel for each loop."""
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    for axes, loop in zip(figure.subplots(1, 2, sharey=True), ("closed", "poisson"), strict=True):
        for name in dict.fromkeys(r["contender"] for r in record["rounds"]):
            own = [r for r in record["rounds"] if (r["loop"], r["contender"]) == (loop, name)]
            latency_s = np.sort([s for r in own for s in r["latency_s"]])
            axes.plot(latency_s, np.arange(1, len(latency_s) + 1) / len(latency_s), label=name)
        axes.set_title("closed loop" if loop == "closed" else "Poisson arrivals")
        axes.set_xlabel("latency (s)")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("share of requests")
    figure.axes[0].legend()
    figure.savefig(file, dpi=110)
