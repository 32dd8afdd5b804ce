r"""Measure loads against this machine's limits, what they cost other models, and whether they leak.

    python -m profiling.bench loading                    the zoo, a minute
    python -m profiling.bench loading --full-size        SD 1.5's UNet, random weights, 3.4 GB
    python -m profiling.bench loading --soak-cycles 1000  load, generate, evict: does memory grow?

Disk -> host is compared with a plain sequential read of the same files into memory that is there
already, from a cold page cache (posix_fadvise DONTNEED) and from a warm one; host -> device with a
plain copy of as many bytes: pinned memory to the GPU, or one new block of memory to another on a
CPU. Repeats alternate between limit and load, so that a busy machine hits both alike.
Writes loading.json and loading.md, or soak.json, soak.md and soak.png.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro

from edge_node.catalog import Catalog, Entry
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import StepDone
from edge_node.engine.weights import blank, copy
from profiling.bench import soak
from profiling.bench.sd15_shape import write_full_size
from profiling.report import page
from protos import logs, manifest

_ZOO = ("scene-nano", "scene-small", "scene-base")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What to load, and how often."""

    zoo: tuple[str, ...] = _ZOO
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


@dataclass(frozen=True, slots=True)
class Rates:
    """One way of one model's bytes, and the limit beside it."""

    model_id: str
    way: str
    num_bytes: int
    """Of the files for a read, of the weights in memory for a copy."""
    limit_s: list[float]
    load_s: list[float]


async def rates(engine: DiffusersEngine, entry: Entry, repeats: int) -> list[Rates]:
    """Return a model's loads from cold disk, warm disk and host memory, with their limits."""
    await engine.load(entry)  # builds the nets
    await engine.evict(entry.model_id)
    files = _weight_files(entry)
    target = memoryview(bytearray(max(file.stat().st_size for file in files)))
    num_bytes = sum(file.stat().st_size for file in files)
    result = []
    for way, prepare in (("disk (cold) -> host", _drop_cached), ("disk (warm) -> host", _cache)):
        limit_s, load_s = [], []
        for _ in range(repeats):
            prepare(files)
            limit_s.append(_seconds(lambda: _read_all(files, target)))
            prepare(files)
            began_s = time.perf_counter()
            await engine.stage(entry)
            load_s.append(time.perf_counter() - began_s)
            await engine.unstage(entry.model_id)
        result.append(Rates(entry.model_id, way, num_bytes, limit_s, load_s))
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
    result.append(Rates(entry.model_id, "host -> device", num_bytes, limit_s, load_s))
    return result


def _weight_files(entry: Entry) -> list[Path]:
    if entry.folder is None:
        raise ValueError(f"{entry.model_id} is no folder")
    return sorted(entry.folder.rglob("*.safetensors"))


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


def _drop_cached(files: Sequence[Path]) -> None:
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
        source = blank(num_bytes).fill_(1)
        return lambda: copy(source, blank(num_bytes))
    pinned = torch.ones(num_bytes, dtype=torch.uint8, pin_memory=True)
    target = torch.empty(num_bytes, dtype=torch.uint8, device="cuda")

    def copied() -> None:
        target.copy_(pinned, non_blocking=True)
        torch.cuda.synchronize()

    return copied


async def step_times(engine: DiffusersEngine, entry: Entry, until_s: float) -> list[float]:
    """Return the seconds between steps of one model, one request after another."""
    taken_s = []
    end_s = time.perf_counter() + until_s
    while time.perf_counter() < end_s:
        last_s = None
        async with aclosing(engine.generate(soak.job_of(entry, 50))) as events:
            async for event in events:
                if isinstance(event, StepDone):
                    now_s = time.perf_counter()
                    if last_s is not None:
                        taken_s.append(now_s - last_s)
                    last_s = now_s
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


async def measure(settings: Settings, catalog: Catalog) -> dict[str, Any]:
    """Measure every model; return the record."""
    engine = DiffusersEngine(settings.engine)
    entries = list(catalog)
    measured = []
    for entry in entries:
        measured += await rates(engine, entry, settings.repeats)
        sys.stderr.write(f"{entry.model_id}: measured\n")
    delayed = await delays(engine, entries[0], entries[-1], settings.steps_s)
    await engine.close()
    return {
        "manifest": asdict(manifest.collect(engine.device_name)),
        "settings": asdict(settings) | {"out": str(settings.out)},
        "rates": [asdict(one) for one in measured],
        "delays": delayed,
    }


def table(record: dict[str, Any]) -> str:
    """Return the figures as Markdown: medians, and their spread over repeats."""
    rates_rows = [
        [
            one["model_id"],
            one["way"],
            f"{one['num_bytes'] / 1e6:.0f}",
            _gbps(one["num_bytes"], one["limit_s"]),
            _gbps(one["num_bytes"], one["load_s"]),
            f"{statistics.median(one['limit_s']) / statistics.median(one['load_s']):.2f}",
        ]
        for one in record["rates"]
    ]
    delayed, delay_rows = record["delays"], []
    for way in ("alone", "disk", "host"):
        steps_ms = sorted(1e3 * s for s in delayed[way]["step_s"])
        loads_ms = [1e3 * s for s in delayed[way].get("load_s", [])]
        shown = [statistics.median(steps_ms), steps_ms[int(0.95 * len(steps_ms))], steps_ms[-1]]
        load = f"{statistics.median(loads_ms):.1f}" if loads_ms else ""
        name = "none" if way == "alone" else f"from {way}"
        cells = [*(f"{ms:.1f}" for ms in shown), str(len(loads_ms)), load]
        delay_rows.append([name, str(len(steps_ms)), *cells])
    head = ["loads", "steps", "median", "p95", "longest", "loads done", "a load takes"]
    blocks = [
        f"On {record['manifest']['device']} ({record['manifest']['cpu']}), medians "
        f"(least to most) of {record['settings']['repeats']} repeats; ratio: limit's seconds "
        "over the load's.",
        page.table(["model", "way", "MB", "limit (GB/s)", "load (GB/s)", "ratio"], rates_rows),
        f"Steps of {delayed['running']} while {delayed['loading']} is loaded and evicted over and "
        "over, milliseconds:",
        page.table(head, delay_rows),
    ]
    return "\n\n".join(blocks) + "\n"


def _gbps(num_bytes: int, taken_s: Sequence[float]) -> str:
    found = sorted(num_bytes / s / 1e9 for s in taken_s)
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def _write(settings: Settings, name: str, record: dict[str, Any], text: str) -> None:
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (settings.out / f"{name}.md").write_text(text)
    sys.stdout.write(text)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit code."""
    prog = "python -m profiling.bench loading"
    settings = tyro.cli(Settings, prog=prog, description=__doc__, args=arguments)
    logs.setup("WARNING")
    models = [ModelConfig(model_id=name, source=f"builtin:{name}") for name in settings.zoo]
    if settings.soak_cycles:
        record = asyncio.run(soak.run(Catalog(models), settings.engine, settings.soak_cycles))
        _write(settings, "soak", record, soak.table(record))
        soak.draw(record, settings.out / "soak.png")
        return 0
    if len(models) + settings.full_size < 2:
        sys.stderr.write(f"--zoo: one model runs while another loads, got {len(models)}\n")
        return 2
    with tempfile.TemporaryDirectory() as folder:
        if settings.full_size:
            write_full_size(Path(folder) / "full-size")
            models.append(ModelConfig(model_id="full-size", source="folder:full-size"))
        record = asyncio.run(measure(settings, Catalog(models, [Path(folder)])))
    _write(settings, "loading", record, table(record))
    return 0
