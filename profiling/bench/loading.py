"""Loads beside the machine's limits for the same bytes, and what they cost a running model.

Responsible for measuring and stating both. Not: memory over many loads (soak.py).
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_node.catalog import Catalog, Entry
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.weights import blank
from profiling.bench import results, shapes, soak
from profiling.bench.backends import step_ends_s
from profiling.report import page
from protos import logs, manifest
from protos.config import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """Measure loads beside this machine's limits, what they cost other models, and if they leak.

    $ python -m profiling.bench loading                     the zoo, a minute
    $ python -m profiling.bench loading --full-size         SD 1.5's UNet, random weights, 3.4 GB
    $ python -m profiling.bench loading --soak-cycles 1000  load, generate, evict: does memory grow?

    Disk -> host is compared with a plain sequential read of the same files into memory that is
    there already, from a cold page cache (posix_fadvise DONTNEED) and from a warm one; host ->
    device with a plain copy of as many bytes: pinned memory to the GPU, or one new block of memory
    to another on a CPU. Repeats alternate between limit and load, so that a busy machine hits both
    alike.
    Writes loading.json and loading.md, or soak.json, soak.md and soak.png.
    """

    zoo: tuple[str, ...] = ("scene-nano", "scene-small", "scene-base")
    """Models of the zoo; the first one runs while the last one loads."""
    full_size: bool = False
    """Also an untrained UNet of SD 1.5's size, written to a temporary folder."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Device and precision."""
    repeats: int = 9
    """Loads of each kind."""
    steps_s: float = 5.0
    """How long steps are measured, without loads and beside them."""
    soak_cycles: int = 0
    """Instead of all that: cycles of load, a step, evict."""
    out: Path = Path("runs/loading")
    """Folder of the results."""

    def __call__(self) -> int:
        """Measure; write and print the results."""
        logs.setup("WARNING")
        models = [ModelConfig(model_id=name, source=f"builtin:{name}") for name in self.zoo]
        if self.soak_cycles:
            record = asyncio.run(soak.run(Catalog(models), self.engine, self.soak_cycles))
            results.write(self.out, "soak", record, [soak.verdict(record)])
            soak.draw(record, self.out / "soak.png")
            return 0
        if len(models) + self.full_size < 2:
            raise ConfigError(f"--zoo: one model runs while another loads, got {len(models)}")
        with tempfile.TemporaryDirectory() as folder:
            if self.full_size:
                shapes.write(shapes.SD15_DENOISER, Path(folder) / "full-size")
                models.append(ModelConfig(model_id="full-size", source="folder:full-size"))
            # What is exported of a model that is gone afterwards goes with it.
            engine = DiffusersEngine(
                replace(self.engine, graph_folder=str(Path(folder) / "graphs"))
            )
            record = asyncio.run(self._measure(engine, list(Catalog(models, [Path(folder)]))))
        results.write(self.out, "loading", record, table(record))
        return 0

    async def _measure(self, engine: DiffusersEngine, entries: Sequence[Entry]) -> dict[str, Any]:
        measured: list[dict[str, Any]] = []
        for entry in entries:
            measured += await rates(engine, entry, self.repeats)
            sys.stderr.write(f"{entry.model_id}: measured\n")
        delayed = await delays(engine, entries[0], entries[-1], self.steps_s)
        await engine.close()
        return {
            "manifest": asdict(manifest.collect(engine.device_name)),
            "settings": asdict(self) | {"out": str(self.out)},
            "rates": measured,
            "delays": delayed,
        }


async def rates(engine: DiffusersEngine, entry: Entry, repeats: int) -> list[dict[str, Any]]:
    """Return a model's loads from cold disk, warm disk and host memory, with their limits.

    ``num_bytes`` is of the files for a read, of the weights in memory for a copy.
    """
    await engine.load(entry)  # builds the nets
    await engine.evict(entry.model_id)
    files = engine.files(entry.model_id)
    target = memoryview(bytearray(max(file.stat().st_size for file in files)))
    num_bytes = sum(file.stat().st_size for file in files)
    result: list[dict[str, Any]] = []
    for way, prepare in (("disk (cold) -> host", drop_cached), ("disk (warm) -> host", _cache)):
        limit_s, load_s = [], []
        for _ in range(repeats):
            prepare(files)
            limit_s.append(_seconds(lambda: _read_all(files, target)))
            prepare(files)
            began_s = time.perf_counter()
            await engine.stage(entry)
            load_s.append(time.perf_counter() - began_s)
            await engine.unstage(entry.model_id)
        result.append({"way": way, "num_bytes": num_bytes, "limit_s": limit_s, "load_s": load_s})
    result.append(await host_to_device(engine, entry, repeats))
    return [{"model_id": entry.model_id, **one} for one in result]


async def host_to_device(engine: DiffusersEngine, entry: Entry, repeats: int) -> dict[str, Any]:
    """Return a model's loads from host memory beside plain copies of as many bytes."""
    num_bytes = await engine.stage(entry)
    limit_s, load_s = [], []
    raw_copy = _copier(num_bytes, engine)
    for _ in range(repeats):
        limit_s.append(_seconds(raw_copy))
        began_s = time.perf_counter()
        await engine.load(entry)
        load_s.append(time.perf_counter() - began_s)
        await engine.evict(entry.model_id)
    await engine.unstage(entry.model_id)
    return {"way": "host -> device", "num_bytes": num_bytes, "limit_s": limit_s, "load_s": load_s}


def _seconds(action: Callable[[], object]) -> float:
    began_s = time.perf_counter()
    action()
    return time.perf_counter() - began_s


def _read_all(files: Sequence[Path], target: memoryview) -> None:
    for file in files:
        with file.open("rb", buffering=0) as stream:
            left = target[: file.stat().st_size]
            while left:
                left = left[stream.readinto(left) :]


def drop_cached(files: Sequence[Path]) -> None:
    """Let the operating system forget files, so that they are read from the disk next time."""
    for file in files:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())  # pages that are not written yet would stay
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _cache(files: Sequence[Path]) -> None:
    for file in files:
        file.read_bytes()


def _copier(num_bytes: int, engine: DiffusersEngine) -> Callable[[], object]:
    """Return a plain copy of so many bytes to where loads go."""
    if not engine.device_uuid:
        source = blank(num_bytes).fill_(1).numpy()
        return lambda: np.copyto(blank(num_bytes).numpy(), source)  # in one thread, as loads do
    pinned = torch.ones(num_bytes, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(num_bytes, dtype=torch.uint8, device="cuda")

    def copied() -> None:
        target.copy_(pinned, non_blocking=True)
        torch.cuda.synchronize()

    return copied


async def step_times(engine: DiffusersEngine, entry: Entry, until_s: float) -> list[float]:
    """Return the seconds between steps of one model, one request after another."""
    taken_s: list[float] = []
    end_s = time.perf_counter() + until_s
    while time.perf_counter() < end_s:
        taken_s += np.diff(await step_ends_s(engine, soak.job_of(entry, 50))).tolist()
    return taken_s


async def delays(
    engine: DiffusersEngine, running: Entry, loading: Entry, until_s: float
) -> dict[str, Any]:
    """Return a model's step times without loads, and beside another's from disk and from host."""
    for entry in (running, loading):
        await engine.load(entry)
    await engine.evict(loading.model_id)
    record: dict[str, Any] = {"running": running.model_id, "loading": loading.model_id}
    record["alone"] = {"step_s": await step_times(engine, running, until_s)}
    for way in ("disk", "host"):
        loads_s: list[float] = []
        if way == "host":
            await engine.stage(loading)
        task = asyncio.create_task(_load_for_ever(engine, loading, loads_s))
        taken_s = await step_times(engine, running, until_s)
        task.cancel()
        await asyncio.wait([task])
        record[way] = {"step_s": taken_s, "load_s": loads_s}
    for model_id in (running.model_id, loading.model_id):
        await engine.evict(model_id)
    await engine.unstage(loading.model_id)
    return record


async def _load_for_ever(engine: DiffusersEngine, entry: Entry, loads_s: list[float]) -> None:
    while True:
        began_s = time.perf_counter()
        await engine.load(entry)
        loads_s.append(time.perf_counter() - began_s)
        await engine.evict(entry.model_id)
        await asyncio.sleep(0.05)


def table(record: dict[str, Any]) -> list[str]:
    """Return the figures as blocks of Markdown: medians, and their spread over repeats."""
    rates_rows = [
        [
            one["model_id"],
            one["way"],
            f"{one['num_bytes'] / 1e6:.0f}",
            results.spread([one["num_bytes"] / s / 1e9 for s in one["limit_s"]]),
            results.spread([one["num_bytes"] / s / 1e9 for s in one["load_s"]]),
            f"{statistics.median(one['limit_s']) / statistics.median(one['load_s']):.2f}",
        ]
        for one in record["rates"]
    ]
    delayed, delay_rows = record["delays"], []
    for way, name in (("alone", "none"), ("disk", "from disk"), ("host", "from host")):
        steps_ms = sorted(1e3 * s for s in delayed[way]["step_s"])
        loads_ms = [1e3 * s for s in delayed[way].get("load_s", [])]
        shown = [statistics.median(steps_ms), steps_ms[int(0.95 * len(steps_ms))], steps_ms[-1]]
        load = f"{statistics.median(loads_ms):.1f}" if loads_ms else ""
        times = [f"{ms:.1f}" for ms in shown]
        delay_rows.append([name, str(len(steps_ms)), *times, str(len(loads_ms)), load])
    head = ["loads", "steps", "median", "p95", "longest", "loads done", "a load takes"]
    return [
        f"On {record['manifest']['device']} ({record['manifest']['cpu']}), medians "
        f"(least to most) of {record['settings']['repeats']} repeats; ratio: limit's seconds "
        "over the load's.",
        page.table(["model", "way", "MB", "limit (GB/s)", "load (GB/s)", "ratio"], rates_rows),
        f"Steps of {delayed['running']} while {delayed['loading']} is loaded and evicted over and "
        "over, milliseconds:",
        page.table(head, delay_rows),
    ]
