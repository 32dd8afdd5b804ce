"""Load, generate a step, evict, over and over: the process's memory must not grow.

Every other round goes through a host copy, which is dropped again. The verdict: growth of
resident memory from the median of the ten readings after the first 50 cycles to that of the last
ten, against ``MOST_GROWTH_FRAC``.
"""

import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from edge_node.catalog import Catalog, Entry
from edge_node.config import EngineConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job, image_of
from profiling.report import page
from protos import manifest

SETTLED_CYCLES = 50
"""What the first loads import, compile and build stays."""
MOST_GROWTH_FRAC = 0.02
_EVERY = 10
_READINGS = 10


async def run(catalog: Catalog, config: EngineConfig, num_cycles: int) -> dict[str, Any]:
    """Cycle through all models; return the record with resident bytes every 10 cycles."""
    engine = DiffusersEngine(config)
    process = psutil.Process()
    entries = list(catalog)
    cycles, resident_bytes = [], []
    began_s = time.perf_counter()
    for cycle in range(1, num_cycles + 1):
        await _cycle(engine, entries[cycle % len(entries)], has_copy=bool(cycle % 2))
        if cycle % _EVERY == 0:
            cycles.append(cycle)
            resident_bytes.append(process.memory_info().rss)
        if cycle % 100 == 0:
            sys.stderr.write(f"{cycle} cycles, {resident_bytes[-1] / 1e6:.1f} MB\n")
    taken_s = time.perf_counter() - began_s
    await engine.close()
    return {
        "manifest": asdict(manifest.collect(engine.device_name)),
        "models": [entry.model_id for entry in entries],
        "num_cycles": num_cycles,
        "taken_s": taken_s,
        "cycles": cycles,
        "resident_bytes": resident_bytes,
        "growth_frac": growth_frac(cycles, resident_bytes),
    }


async def _cycle(engine: DiffusersEngine, entry: Entry, *, has_copy: bool) -> None:
    if has_copy:
        await engine.stage(entry)
    await engine.load(entry)
    await image_of(engine, job_of(entry, 1))
    await engine.evict(entry.model_id)
    await engine.unstage(entry.model_id)


def job_of(entry: Entry, num_steps: int) -> Job:
    """Return a request for a model."""
    prompt = "a red circle"
    return Job.of(entry.config, request_id="load", prompt=prompt, num_steps=num_steps, seed=1)


def growth_frac(cycles: list[int], resident_bytes: list[int]) -> float | None:
    """Return how much memory grew after it settled; None where there are too few readings."""
    after = [
        size for cycle, size in zip(cycles, resident_bytes, strict=True) if cycle > SETTLED_CYCLES
    ]
    if len(after) < 2 * _READINGS:
        return None
    return statistics.median(after[-_READINGS:]) / statistics.median(after[:_READINGS]) - 1


def verdict(record: dict[str, Any]) -> str:
    """Return how much memory grew, in words."""
    growth, sizes = record["growth_frac"], [size / 1e6 for size in record["resident_bytes"]]
    found = "too few cycles for a verdict"
    if growth is not None:
        word = "passed" if growth < MOST_GROWTH_FRAC else "FAILED"
        limit = f"(limit {MOST_GROWTH_FRAC:.0%}): {word}"
        found = f"after the first {SETTLED_CYCLES} cycles it grew by {growth:.2%} {limit}"
    return (
        f"{record['num_cycles']} cycles of load, one step, evict over "
        f"{', '.join(record['models'])} on {record['manifest']['device']} in "
        f"{record['taken_s']:.0f} s; resident memory {sizes[0]:.1f} MB at first, "
        f"{sizes[-1]:.1f} MB at last; {found}."
    )


def draw(record: dict[str, Any], file: Path) -> None:
    """Draw resident memory against cycles."""
    figure, axes = page.axes(7.0, 3.0, "cycles of load, step, evict", "resident memory (MB)")
    axes.plot(record["cycles"], [size / 1e6 for size in record["resident_bytes"]])
    axes.axvline(SETTLED_CYCLES, linestyle=":", color="grey")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    file.write_bytes(page.png(figure))
