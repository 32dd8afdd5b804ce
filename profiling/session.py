"""One profiling run: phases in processes of their own, then fits, then the report.

    for each model:  measure      loads, latency, what a batch costs
    (how many images all models can have within the budget)
    for each model:  images       generate and score
    distances                     FID of every set
    summarise, report

Owns the order, the budget and the files in the output folder. Refuses to measure: runner.py does.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import msgspec

from profiling import grid, records, report, samples, sources, summary
from profiling.config import ProfileConfig
from profiling.progress import Display, Workload, readable
from protos import config as configs
from protos import manifest
from protos.config import ConfigError

_ROOT = Path(__file__).resolve().parent.parent
_MEASURE_S, _DISTANCES_S, _FIT_S, _START_S = 45.0, 20.0, 20.0, 8.0
"""First guesses of durations on a small machine; the display corrects itself."""


class PhaseError(RuntimeError):
    """A phase's process failed; the message holds its last words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run decided once, so that a continued one decides the same (plan.json)."""

    num_images: int
    """Prompts at every step count, the same for every model: FID compares only at equal N."""


def configure(
    path: Path, models: Sequence[str] | None = None, budget_s: float | None = None
) -> ProfileConfig:
    """Return the resolved configuration of a file.

    Raises:
        ConfigError: anything wrong with the file, a model that it lacks, a missing folder.
    """
    config = configs.load(path, ProfileConfig)
    known = [model.model_id for model in config.models]
    for name in models or ():
        if name not in known:
            raise ConfigError(f"{path} holds no model {name!r}; it holds: {', '.join(known)}")
    if models:
        chosen = tuple(model for model in config.models if model.model_id in models)
        config = replace(config, models=chosen)
    if budget_s is not None:
        if budget_s <= 0:
            raise ConfigError(f"--budget-s must be > 0, got {budget_s}")
        config = replace(config, budget_s=budget_s)
    return sources.resolve(config, path.resolve().parent)


def forget(out: Path) -> None:
    """Remove what earlier runs measured in ``out``; other files there are left alone."""
    for name in ("samples.jsonl", "plan.json", "profile.json"):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / "images", ignore_errors=True)


def run(config: ProfileConfig, out: Path) -> Path:
    """Measure what is missing in ``out``, fit, write everything; return the report's path.

    Raises:
        ConfigError: ``out`` holds samples of another configuration or other weights.
        PhaseError: a measuring process failed.
    """
    begin = perf_counter()
    header, plan, path = _header(config), out / "plan.json", out / "samples.jsonl"
    _make_folder(out)
    samples.start(path, header)
    device, device_name = _device(config)
    (out / "config.json").write_bytes(configs.to_json(replace(config, device=device)))
    record = manifest.collect(device_name)
    (out / "manifest.json").write_bytes(configs.to_json(record))
    workload = _workload(config)
    with Display(workload) as display:

        def phase(name: str, *words: str) -> None:
            workload.advance(name, 0.0)
            display.show(name)
            _run_phase(out, words, lambda frac: (workload.advance(name, frac), display.show(name)))
            workload.advance(name, 1.0)

        for model in config.models:
            phase(f"{model.model_id}: timing", "measure", str(out), model.model_id)
        if not plan.exists():
            plan.write_bytes(configs.to_json(_plan(config, path, perf_counter() - begin)))
        count = msgspec.json.decode(plan.read_bytes(), type=Plan).num_images
        for name, seconds in _image_seconds(config, path).items():
            workload.plan(f"{name}: images", _START_S + count * seconds)
        for model in config.models:
            phase(f"{model.model_id}: images", "images", str(out), model.model_id, str(count))
        phase("distances", "distances", str(out), str(count))
        workload.advance("fits and report", 0.0)
        display.show("fits and report")
        measured = samples.read(path)
        profile = summary.summarise(config, measured, header.weights_sha256, record)
        records.save(profile, out / "profile.json")
        return report.write(profile, measured, out, readable(perf_counter() - begin))


def _header(config: ProfileConfig) -> samples.Header:
    named = {model.model_id: model.source for model in config.models}
    named["CLIP scorer"] = config.scorer.clip
    named["FID scorer"] = config.scorer.fid
    return samples.Header(
        format=samples.FORMAT,
        config_sha256=samples.sha256_of(replace(config, budget_s=1.0)),
        weights_sha256={name: sources.digest(source) for name, source in named.items()},
    )


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the output folder {out}: {error.strerror}") from error


def _workload(config: ProfileConfig) -> Workload:
    workload = Workload()
    share_s = config.budget_s / len(config.models)
    for model in config.models:
        workload.plan(f"{model.model_id}: timing", min(_MEASURE_S, share_s / 3))
        workload.plan(f"{model.model_id}: images", share_s / 2)
    workload.plan("distances", _DISTANCES_S)
    workload.plan("fits and report", _FIT_S)
    return workload


def _image_seconds(config: ProfileConfig, path: Path) -> dict[str, float]:
    """Return for each model what one prompt at all step counts costs, in seconds."""
    rates = {s.model: s for s in samples.read(path) if isinstance(s, samples.RateSample)}
    found = {}
    for model in config.models:
        rate, steps = rates[model.model_id], config.steps_of(model)
        found[model.model_id] = (
            sum(steps) * rate.seconds_per_step + len(steps) * rate.seconds_per_image
        )
    return found


def _plan(config: ProfileConfig, path: Path, elapsed_s: float) -> Plan:
    reserve_s = _DISTANCES_S + _FIT_S + _START_S * len(config.models)
    count = grid.affordable_images(
        list(_image_seconds(config, path).values()),
        config.budget_s - elapsed_s - reserve_s,
        config.grid.min_images,
        config.grid.max_images,
        config.grid.quality_batch,
    )
    return Plan(num_images=count)


def _device(config: ProfileConfig) -> tuple[str, str]:
    """Return the torch device and its name, asked in another process: this one loads no torch."""
    if config.device == "cpu":
        return "cpu", "cpu"
    code = (
        "import torch,sys; d=sys.argv[1]; ok=torch.cuda.is_available();"
        "d=('cuda' if ok else 'cpu') if d=='auto' else d;"
        "print(d, torch.cuda.get_device_name(d) if ok and d!='cpu' else 'cpu', sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, config.device], capture_output=True, text=True, check=True
    )
    device, name = done.stdout.strip().splitlines()
    if device != "cpu" and name == "cpu":
        raise ConfigError(f"device is {config.device!r}, but torch sees no CUDA device")
    return device, name


def _run_phase(out: Path, words: Sequence[str], on_progress: Callable[[float], object]) -> None:
    """Run one phase of the runner to its end, telling how far it is.

    Raises:
        PhaseError: it failed.
    """
    log = out / "runner.log"
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    with log.open("ab") as errors:
        begins_at = errors.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "profiling.runner", *words],
            cwd=_ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                told = json.loads(line)
                on_progress(told["done"] / told["total"])
            code = child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        said = log.read_bytes()[begins_at:].decode(errors="replace").strip().splitlines()
        raise PhaseError(
            f"{' '.join(words)} ended with {code}: {said[-1] if said else 'no message'} (all: {log})"
        )
