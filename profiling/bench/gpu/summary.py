"""Markdown of what the stages found, whichever of them are there.

Responsible for words and tables. Not: measuring.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from profiling.bench import results
from profiling.bench.gpu.stages import Subject
from profiling.report import page

Records: TypeAlias = Mapping[str, dict[str, Any]]


def text(subject: Subject, records: Records, missing: Mapping[str, str]) -> str:
    """Return the page; a stage without a record is said to be missing, with the reason."""
    found = {name: record for name, record in records.items() if "out_of_memory" not in record}
    full = [name for name in records if name not in found]
    notes = [f"{name}: not measured, {why}" for name, why in missing.items()]
    notes += [f"{name}: {page.plain(str(records[name]['out_of_memory']))}" for name in full]
    words = f"{subject.models[0].upper()}{subject.models[1:]} on {subject.manifest.device}"
    blocks = [f"# {page.plain(words)}", _preface(subject), page.items(notes)]
    if "tests" in found:
        blocks += ["## Tests that need a GPU", _tests(found["tests"])]
    blocks += _loads([record for name, record in found.items() if name.endswith("-loads")])
    blocks += _steps([record for name, record in found.items() if name.endswith("-steps")])
    blocks += _comparisons([record for record in found.values() if "parity" in record])
    blocks += ["## Where this comes from", page.items(page.origin(subject.manifest))]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _preface(subject: Subject) -> str:
    words = (
        f"Precision is {subject.dtype} where nothing else is said. Medians (least to most) of "
        "repeats. With random weights images show noise: times, bytes and differences between "
        "backends are as with trained ones, quality is not measured."
    )
    if subject.is_tiny:
        words += " **Tiny models show that the stages work, and nothing about a device.**"
    return words


def _tests(record: Mapping[str, Any]) -> str:
    if not record["is_over"]:
        return "`pytest -m gpu` was ended: it took too long."
    counted = ", ".join(f"{number} {word}" for word, number in record["counts"].items())
    return f"`pytest -m gpu`: {counted or 'nothing was counted'} (exit code {record['exit_code']})."


def _loads(records: Sequence[Mapping[str, Any]]) -> list[str]:
    if not records:
        return []
    rates = [
        [
            record["model_id"],
            one["way"],
            f"{one['num_bytes'] / 1e6:.0f}",
            results.spread([one["num_bytes"] / s / 1e9 for s in one["limit_s"]]),
            results.spread([one["num_bytes"] / s / 1e9 for s in one["load_s"]]),
            f"{statistics.median(one['limit_s']) / statistics.median(one['load_s']):.2f}",
        ]
        for record in records
        for one in record["rates"]
    ]
    reloads = []
    for record in records:
        for way in ("disk", "host"):
            own = [one for one in record["reloads"] if one["way"] == way]
            seconds = [
                results.spread([one[key] for one in own])
                for key in ("load_s", "first_image_s", "next_image_s", "evict_s")
            ]
            sizes = [
                f"{statistics.median(one[key] for one in own) / 1e6:.0f}"
                for key in ("resident_bytes", "taken_bytes", "kept_bytes")
            ]
            reloads.append([record["model_id"], way, *seconds, *sizes])
    head = ["load (s)", "first image (s)", "next image (s)", "evict (s)"]
    sizes_head = ["resident (MB)", "taken (MB)", "kept after evict (MB)"]
    return [
        "## Loads",
        "A limit is a plain read or copy of as many bytes; ratio: limit's seconds over the load's.",
        page.table(["model", "way", "MB", "limit (GB/s)", "load (GB/s)", "ratio"], rates),
        "From a cold disk and from host memory; the first image is counted from the load's start.",
        page.table(["model", "from", *head, *sizes_head], reloads),
    ]


def _steps(records: Sequence[Mapping[str, Any]]) -> list[str]:
    if not records:
        return []
    rows, energy = [], []
    for record in records:
        steps = {one["batch_size"]: one["step_s"] for one in record["steps"]}
        for call in record["calls"]:
            size = call["batch_size"]
            if "call_s" not in call:
                rows.append([record["model_id"], str(size), "out of memory", "", "", ""])
                continue
            peak = call["peak_bytes"]
            step_s = steps.get(size)
            rows.append(
                [
                    record["model_id"],
                    str(size),
                    results.spread([1e3 * s for s in call["call_s"]]),
                    results.spread([1e3 * s for s in step_s]) if step_s else "out of memory",
                    f"{1e3 * statistics.median(step_s) / size:.2f}" if step_s else "",
                    "" if peak is None else f"{peak / 1e6:.0f}",
                ]
            )
        for one in record["energy"]:
            spent_j, images = one["energy_j"], one["num_images"]
            energy.append(
                [
                    record["model_id"],
                    str(one["in_flight"]),
                    f"{images / one['taken_s']:.2f}",
                    "not told" if spent_j is None else f"{spent_j / images:.1f}",
                ]
            )
    head = ["model", "batch size", "bare call (ms)", "engine's step (ms)", "a sample (ms)"]
    return [
        "## Denoiser steps",
        "A sample is a request without guidance; a request with it takes two.",
        page.table([*head, "a call's memory (MB)"], rows),
        "Images with the model's usual steps and guidance, so many requests at a time:",
        page.table(["model", "in flight", "images/s", "energy an image (J)"], energy),
    ]


def _comparisons(records: Sequence[Mapping[str, Any]]) -> list[str]:
    blocks = ["## The engine beside diffusers' pipeline"] if records else []
    for record in records:
        own = [one for one in record["rounds"] if one["backend"] == "pipeline"]
        rows = []
        for name, parity in record["parity"].items():
            rounds = [one for one in record["rounds"] if one["backend"] == name]
            hz = [one["throughput_hz"] for one in rounds]
            ratios = [
                one["throughput_hz"] / base["throughput_hz"]
                for one, base in zip(rounds, own, strict=True)
            ]
            latency_s = statistics.median(s for one in rounds for s in one["latency_s"])
            near = [f"{parity['ssim_min']:.4f}", str(parity["difference_max"])]
            shown = [results.spread(hz), results.spread(ratios), f"{latency_s:.2f}"]
            rows.append([name, *shown, *near, f"{parity['differing_frac']:.2%}"])
        least, most = record["num_steps"]
        head = ["backend", "images/s", "ratio", "p50 latency (s)", "least SSIM"]
        blocks += [
            f"{record['model_id']} in {record['dtype']}, {record['num_requests']} requests of "
            f"{least} to {most} steps, {record['in_flight']} in flight, {len(own)} rounds; padded "
            f"batches of at most {record['padded_batch']}, whose requests get the longest one's "
            f"steps. Images' standard deviation is {record['contrast']:.0f} grey levels.",
            page.table([*head, "largest difference (grey levels)", "values that differ"], rows),
        ]
    return blocks
