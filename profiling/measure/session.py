"""One profiling run: phases in processes of their own, then fits, then the report.

    for each model:  measure      loads, latency, what a batch costs
    (how many prompts all models can have within the budget)
    for each model:  images       generate and score
    distances                     FID of every set
    summarise, report

Responsible for the order, the budget and the output folder's files. Not: measuring (runner.py).
"""

import contextlib
import fcntl
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import msgspec

from edge_node import runtime
from profiling import records, samples
from profiling.measure import grid, processes, prompts, sources, summary
from profiling.measure.config import ProfileConfig
from profiling.measure.processes import Phase, run_phase
from profiling.measure.progress import Display, Workload
from profiling.report import profile_report
from protos import config as configs
from protos import manifest
from protos.config import ConfigError
from protos.manifest import Manifest

_START_S, _MEASURE_S, _DISTANCES_S, _FIT_S = 8.0, 30.0, 10.0, 3.0
"""Guesses of durations on a small machine, the latter two for each model; the display corrects
itself as it goes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleBudget:
    """Decided once in a run, so that a continued one goes on with the same (plan.json)."""

    num_images: int
    """Prompts at every step count, the same for every model: FID compares only at equal N."""


def configure(
    path: Path, models: Sequence[str] | None = None, budget_s: float | None = None
) -> ProfileConfig:
    """Return the resolved configuration of a file, or of the name of a shipped one.

    Raises:
        ConfigError: anything wrong with the file, a model that it lacks, a missing folder,
            damaged weights.
    """
    config = configs.load(path, ProfileConfig, "profiling/configs")
    known = [model.model_id for model in config.models]
    for name in models or known:
        if name not in known:
            raise ConfigError(f"{path} holds no model {name!r}; it holds: {', '.join(known)}")
    chosen = tuple(m for m in config.models if m.model_id in (models or known))
    try:
        config = replace(
            config, models=chosen, budget_s=config.budget_s if budget_s is None else budget_s
        )
    except ValueError as error:
        raise ConfigError(f"--budget-s: {error}") from error
    config = sources.resolve(config)
    prompts.check(config)
    return config


def run(config: ProfileConfig, out: Path, *, is_fresh: bool = False) -> Path:
    """Measure what is missing in ``out``, fit, write everything; return the report's path.

    Args:
        config: as ``configure`` returns it.
        out: made if it is not there; samples in it are continued.
        is_fresh: remove samples that lie in ``out`` first.

    Raises:
        ConfigError: ``out`` holds samples of another configuration, other weights or another
            machine; the budget does not suffice.
        PhaseError: a measuring process failed.
    """
    begin = perf_counter()
    runtime.prepare()  # for the measuring processes
    with _sole_user(out) as lock:
        if is_fresh:
            _forget(out)
        if not _decided(out):
            _refuse_small_budget(config)
        device, device_name, driver = processes.device(config.device)
        config = replace(config, device=device)
        record = manifest.collect(device_name, driver)
        header = _header(config, record)
        samples.start(out / "samples.jsonl", header)
        _refuse_lost_images(out)
        configs.write_json(out / "config.json", config)
        configs.write_json(out / "manifest.json", record)
        with Display(_workload(config, out)) as display:
            _measure(config, out, display, lock, begin)
            display.advance("fits and report", 0.0)
            measured = samples.read(out / "samples.jsonl")
            profile = summary.summarise(config, measured, header.weights_sha256, record)
            records.save(profile, out / "profile.json")
            took = f"{(perf_counter() - begin) / 60:.1f} min"
            page = profile_report.write(profile, measured, out, took)
            display.advance("fits and report", 1.0)
    return page


def _refuse_small_budget(config: ProfileConfig) -> None:
    if config.budget_s <= _overhead_s(config):
        raise ConfigError(
            f"budget_s is {config.budget_s:g}, but for {len(config.models)} models starting"
            f" processes, distances and fits take about {_overhead_s(config):g} s"
        )


def _refuse_lost_images(out: Path) -> None:
    for sample in samples.select(samples.read(out / "samples.jsonl"), samples.QualitySample):
        image = samples.image_path(out, sample.model, sample.num_steps, sample.index)
        if not image.exists():
            raise ConfigError(f"{image} was scored but is gone; use --fresh to begin anew")


def _overhead_s(config: ProfileConfig) -> float:
    """Return what comes on top of timing and images, however few these are."""
    return _DISTANCES_S + (_START_S + _FIT_S) * len(config.models)


def _measure(config: ProfileConfig, out: Path, display: Display, lock: int, begin: float) -> None:
    """Run every phase that lacks samples."""
    path = out / "samples.jsonl"
    for phase in _timing_phases(config, out, samples.read(path)):
        run_phase(out, phase, lock, display)
    done = samples.read(path)
    count = _num_images(config, out, done, perf_counter() - begin)
    phases = _scoring_phases(config, out, done, count)
    for phase in phases:
        display.workload.plan(phase.name, phase.estimate_s)
    for phase in phases:
        run_phase(out, phase, lock, display)


def _timing_phases(config: ProfileConfig, out: Path, done: Sequence[samples.Sample]) -> list[Phase]:
    return [
        Phase(f"{m.model_id}: timing", ("measure", str(out), m.model_id), _MEASURE_S)
        for m in config.models
        if not grid.is_timed(config, m, done)
    ]


def _scoring_phases(
    config: ProfileConfig, out: Path, done: Sequence[samples.Sample], count: int
) -> list[Phase]:
    phases = []
    for model, seconds in zip(config.models, _prompt_seconds(config, done), strict=True):
        if grid.missing_chunks(config, model, count, done):
            words = ("images", str(out), model.model_id, str(count))
            phases.append(Phase(f"{model.model_id}: images", words, _START_S + count * seconds))
    if grid.missing_distances(config, done) or not samples.select(done, samples.RealSample):
        phases.append(Phase("distances", ("distances", str(out), str(count)), _DISTANCES_S))
    return phases


def _workload(config: ProfileConfig, out: Path) -> Workload:
    """Return first guesses for what is left to do."""
    workload, done = Workload(), samples.read(out / "samples.jsonl")
    timing = _timing_phases(config, out, done)
    count = _decided(out)
    if count and not timing:
        scoring = _scoring_phases(config, out, done, count)
    else:
        share_s = config.budget_s / len(config.models) / 2
        scoring = [Phase(f"{m.model_id}: images", (), share_s) for m in config.models]
        scoring.append(Phase("distances", (), _DISTANCES_S))
    for phase in timing + scoring:
        workload.plan(phase.name, phase.estimate_s)
    workload.plan("fits and report", _FIT_S * len(config.models))
    return workload


def _prompt_seconds(config: ProfileConfig, done: Sequence[samples.Sample]) -> list[float]:
    """Return for each model what one prompt at all step counts costs, in seconds."""
    rates = {sample.model: sample for sample in samples.select(done, samples.RateSample)}
    found = []
    for model in config.models:
        rate, steps = rates[model.model_id], config.steps_of(model)
        found.append(sum(steps) * rate.seconds_per_step + len(steps) * rate.seconds_per_image)
    return found


def _num_images(
    config: ProfileConfig, out: Path, done: Sequence[samples.Sample], elapsed_s: float
) -> int:
    """Return how many prompts every point gets, as decided in ``out``, or decide it there."""
    if count := _decided(out):
        return count
    seconds = _prompt_seconds(config, done)
    other_s = elapsed_s + _overhead_s(config)
    count = grid.affordable_images(config.grid, seconds, config.budget_s - other_s)
    if count == 0:
        floor = config.grid.min_images
        raise ConfigError(
            f"budget_s is {config.budget_s:g}, but grid.min_images {floor} prompts at every step"
            f" count of {len(config.models)} models need about"
            f" {other_s + floor * sum(seconds):.0f} s with everything else; what is measured is"
            f" kept: go on with a larger --budget-s"
        )
    configs.write_json(out / "plan.json", SampleBudget(num_images=count))
    return count


def _decided(out: Path) -> int | None:
    path = out / "plan.json"
    return configs.read_json(path, SampleBudget).num_images if path.exists() else None


def _header(config: ProfileConfig, record: Manifest) -> samples.Header:
    named = {model.model_id: model.source for model in config.models}
    named["CLIP scorer"] = config.scorer.clip
    named["FID scorer"] = config.scorer.fid
    plain = msgspec.json.decode(configs.to_json(config))
    return samples.Header(
        format=samples.FORMAT,
        config={key: value for key, value in plain.items() if key != "budget_s"},
        weights_sha256={name: sources.digest(source) for name, source in named.items()},
        machine=f"{record.cpu}, {record.num_cpus} cores, device {record.device}",
    )


@contextlib.contextmanager
def _sole_user(out: Path) -> Iterator[int]:
    """Make the folder and lock it; wait for another run, or for what a killed one left at work.

    Yields the lock's descriptor: phases inherit it, so the lock outlives a killed parent as long as
    its phase writes.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / "samples.lock").open("w")
    except OSError as error:
        raise ConfigError(f"cannot use the output folder {out}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"another run is at work in {out}; waiting for its end\n")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def _forget(out: Path) -> None:
    """Remove what earlier runs measured in ``out``; other files there are left alone."""
    if not (out / "samples.jsonl").exists():
        return
    shutil.rmtree(out / "images", ignore_errors=True)
    for name in ("plan.json", "profile.json", "samples.jsonl"):
        (out / name).unlink(missing_ok=True)
