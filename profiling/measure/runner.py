"""Measuring, in a process of its own: one model, or the distances between image sets.

    python -m profiling.measure.runner measure FOLDER MODEL   loads, latencies, cost of a batch
    python -m profiling.measure.runner images FOLDER MODEL N  N prompts at every step count, scored
    python -m profiling.measure.runner distances FOLDER N     FID of each set, scores of real images

FOLDER holds config.json and samples.jsonl. Each step of the work is appended to the samples at
once, and what stands there already is skipped: killed and started again, a phase goes on. Progress
leaves as JSON lines on stdout; when nobody reads them any more, the phase ends.

Responsible for the order of measuring. Not: fits and scores (summary.py, quality/).
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from edge_node.config import ModelConfig
from edge_node.engine.interface import png
from profiling import samples
from profiling.measure import grid, prompts, scorers
from profiling.measure.config import ProfileConfig
from profiling.measure.subject import EngineBackend, PipelineBackend
from profiling.quality import fid
from profiling.quality.total_variation import total_variation
from protos import seeds
from protos.config import read_json


def measure_model(folder: Path, config: ProfileConfig, model: ModelConfig) -> None:
    """Time a model's loads, evictions, generations, and what a batch of images costs."""
    path = folder / "samples.jsonl"
    done = samples.read(path)
    points = grid.missing_points(config, model, done)
    singles = [point for point in points if point.batch == 1]
    batches = [point for point in points if point.batch > 1]
    total = sum(point.num_steps * point.batch for point in points) or 1
    finished = 0
    with EngineBackend(model, config.engine) as subject:
        if not grid.has_loads(model, done):
            _load_repeatedly(path, model, subject)
        if singles:
            subject.load()
            prompt = prompts.prompts(config, 1)[0]
            subject.generate(prompt, 2)  # warm-up, not recorded
        for point in singles:
            image = subject.generate(prompt, point.num_steps)
            samples.append(path, [_latency(model, point, image.generate_s, image.energy_j)])
            finished += point.num_steps
            _report(finished, total)
    if batches or not grid.has_rate(model, done):
        batched = PipelineBackend(model, config.engine)
        asked = prompts.prompts(config, max(config.grid.batches))
        for batch in sorted({point.batch for point in batches}):
            batched.generate(asked[:batch], 2)  # warm-up, not recorded
        for point in batches:
            _, generate_s = batched.generate(asked[: point.batch], point.num_steps)
            samples.append(path, [_latency(model, point, generate_s, None)])
            finished += point.num_steps * point.batch
            _report(finished, total)
        if not grid.has_rate(model, done):
            samples.append(path, [_rate(config, model, batched)])


def make_images(folder: Path, config: ProfileConfig, model: ModelConfig, count: int) -> None:
    """Generate and score ``count`` prompts at every step count of a model."""
    path = folder / "samples.jsonl"
    left = grid.missing_chunks(config, model, count, samples.read(path))
    whole = grid.chunks(config, model, count)
    total = sum(chunk.num_steps * chunk.count for chunk in whole)
    finished = total - sum(chunk.num_steps * chunk.count for chunk in left)
    _report(finished, total)
    subject = PipelineBackend(model, config.engine)
    _, score = scorers.clip(config)
    drawn = prompts.prompts(config, count)
    for chunk in left:
        asked = [drawn[index] for index in chunk.indices()]
        images, generate_s = subject.generate(asked, chunk.num_steps)
        scores = score(images, [prompt.text for prompt in asked])
        variations = total_variation(images)
        atoms = prompts.atoms_frac(config, images, asked)
        lines = []
        for row, index in enumerate(chunk.indices()):
            encoded = png(images[row])
            file = samples.image_path(folder, model.model_id, chunk.num_steps, index)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encoded)
            lines.append(
                samples.QualitySample(
                    model=model.model_id,
                    num_steps=chunk.num_steps,
                    guidance=model.default_guidance_scale,
                    index=index,
                    prompt=asked[row].text,
                    seed=asked[row].seed,
                    generate_s=generate_s / chunk.count,
                    batch=chunk.count,
                    total_variation=float(variations[row]),
                    clip_score=float(scores[row]),
                    atoms_frac=atoms[row],
                    image_bytes=len(encoded),
                    image_sha256=hashlib.sha256(images[row].tobytes()).hexdigest(),
                )
            )
        samples.append(path, lines)
        finished += chunk.num_steps * chunk.count
        _report(finished, total)


def measure_distances(folder: Path, config: ProfileConfig, count: int) -> None:
    """Append the FID of every (model, step count), and what the scorers give to real images."""
    path = folder / "samples.jsonl"
    done = samples.read(path)
    has_real = bool(samples.select(done, samples.RealSample))
    if not config.scorer.reference:
        if not has_real:
            samples.append(path, [_score_real(config, count)])
        return
    name, net = scorers.fid(config)
    features = partial(fid.extract, net, device=config.device)
    reference = features(prompts.reference(config, config.scorer.num_reference))

    def distance(images: prompts.Images) -> float:
        return fid.frechet_distance(reference, features(images))

    if not has_real:
        samples.append(path, [_score_real(config, count, name, distance)])
    rng = seeds.stream(config.seed, "bootstrap")  # the same prompts as in every other interval
    drawn = rng.integers(count, size=(config.bootstrap, count))
    left = grid.missing_distances(config, done)
    for number, (model_id, steps) in enumerate(left, start=1):
        files = [samples.image_path(folder, model_id, steps, index) for index in range(count)]
        images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        found = features(images)
        line = samples.FidSample(
            model=model_id,
            num_steps=steps,
            num_samples=count,
            num_reference=len(reference),
            value=fid.frechet_distance(reference, found),
            replicates=fid.bootstrap(reference, found, drawn).tolist(),
        )
        samples.append(path, [line])
        _report(number, len(left))


def _load_repeatedly(path: Path, model: ModelConfig, subject: EngineBackend) -> None:
    """Load and evict: the process's first load counts as cold, the others as warm."""
    lines = []
    for repeat in range(grid.NUM_LOADS):
        resident_bytes, load_s = subject.load()
        runtime = subject.runtime
        freed_bytes, evict_s = subject.evict()
        lines.append(
            samples.LoadSample(
                model=model.model_id,
                repeat=repeat,
                is_cold=repeat == 0,
                load_s=load_s,
                evict_s=evict_s,
                resident_bytes=resident_bytes,
                freed_bytes=freed_bytes,
                runtime=runtime,
            )
        )
    samples.append(path, lines)  # together: a continued run cannot measure a cold load later


def _latency(
    model: ModelConfig, point: grid.LatencyPoint, generate_s: float, energy_j: float | None
) -> samples.LatencySample:
    return samples.LatencySample(
        model=model.model_id,
        num_steps=point.num_steps,
        batch=point.batch,
        guidance=model.default_guidance_scale,
        repeat=point.repeat,
        generate_s=generate_s,
        energy_j=energy_j,
    )


def _rate(
    config: ProfileConfig, model: ModelConfig, subject: PipelineBackend
) -> samples.RateSample:
    size = min(config.grid.quality_batch, config.grid.max_images)
    asked = prompts.prompts(config, size)
    subject.generate(asked, 1)  # warm-up
    _, one_step_s = subject.generate(asked, 1)
    _, three_steps_s = subject.generate(asked, 3)
    step_s = max((three_steps_s - one_step_s) / 2, 1e-6)
    return samples.RateSample(
        model=model.model_id,
        seconds_per_step=step_s / size,
        seconds_per_image=max(one_step_s - step_s, 0.0) / size,
    )


def _score_real(
    config: ProfileConfig,
    count: int,
    fid_scorer: str = "",
    distance: Callable[[prompts.Images], float] | None = None,
) -> samples.RealSample:
    """Score renderings of the prompts, where they can be rendered, as if a model had made them."""
    asked = prompts.prompts(config, count)
    clip_scorer, score = scorers.clip(config)
    real = prompts.rendered(config, asked)
    if real is None:
        return samples.RealSample(clip_scorer=clip_scorer, fid_scorer=fid_scorer, num_samples=0)
    return samples.RealSample(
        clip_scorer=clip_scorer,
        fid_scorer=fid_scorer,
        num_samples=count,
        clip_score=float(score(real, [prompt.text for prompt in asked]).mean()),
        total_variation=float(total_variation(real).mean()),
        fid=distance(real) if distance else None,
    )


def _report(done: float, total: float) -> None:
    """Write progress where the parent reads it, whatever libraries print elsewhere."""
    assert sys.__stdout__ is not None
    sys.__stdout__.write(json.dumps({"done": done, "total": total}) + "\n")
    sys.__stdout__.flush()


def main(argv: list[str]) -> None:
    """Run one phase; see the module's docstring."""
    phase, folder = argv[0], Path(argv[1])
    config = read_json(folder / "config.json", ProfileConfig)
    by_id = {model.model_id: model for model in config.models}
    if phase == "measure":
        measure_model(folder, config, by_id[argv[2]])
    elif phase == "images":
        make_images(folder, config, by_id[argv[2]], int(argv[3]))
    elif phase == "distances":
        measure_distances(folder, config, int(argv[2]))
    else:
        raise ValueError(f"no phase {phase!r}; there are measure, images, distances")


if __name__ == "__main__":
    try:
        with contextlib.redirect_stdout(sys.stderr):
            main(sys.argv[1:])
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(130)
