"""Measuring, in a process of its own: one model, or the distances between image sets.

    python -m profiling.runner measure FOLDER MODEL     loads, latencies, cost of a batch
    python -m profiling.runner images FOLDER MODEL N    N prompts at every step count, scored
    python -m profiling.runner distances FOLDER N       FID of every set, scores of real images

FOLDER holds config.json and samples.jsonl. Each step of the work is appended to the samples at
once, and what stands there already is skipped: killed and started again, a phase goes on. Progress
leaves as JSON lines on stdout; when nobody reads them any more, the phase ends.

Owns the order of measuring. Refuses to fit or to judge: see summary.py and quality/.
"""

import fcntl
import hashlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from profiling import grid, samples, world
from profiling.config import ModelChoice, ProfileConfig
from profiling.quality import fid, scorers
from profiling.quality.total_variation import total_variation
from profiling.subject import Subject, png
from protos import seeds

_WARM_LOADS = 2
_RATE_STEPS = (1, 3)


def measure_model(folder: Path, config: ProfileConfig, model: ModelChoice) -> None:
    """Time loads, evictions, single generations and one batch of a model."""
    path, subject = folder / "samples.jsonl", Subject(model, config.device)
    done = [sample for sample in samples.read(path) if _is_of(sample, model)]
    points = grid.latency_points(
        model.model_id,
        config.steps_of(model),
        config.grid.batches,
        model.guidance_scale,
        config.grid.latency_repeats,
        seeds.stream(config.seed, f"latency-order/{model.model_id}"),
    )
    timed = {(s.num_steps, s.batch, s.repeat) for s in done if isinstance(s, samples.LatencySample)}
    left = [p for p in points if (p.num_steps, p.batch, p.repeat) not in timed]
    total = sum(point.num_steps for point in points)
    _load_repeatedly(path, subject, done)
    subject.load()
    prompts = world.prompts(config, max(config.grid.batches))
    subject.generate(prompts[0].text, prompts[0].seed, 2)  # warm-up, not recorded
    for point in left:
        batch = prompts[: point.batch]
        if point.batch == 1:
            shot = subject.generate(batch[0].text, batch[0].seed, point.num_steps)
            generate_s, parts_s, energy_j = shot.generate_s, shot.parts_s, shot.energy_j
            image_bytes = len(shot.encoded)
        else:
            texts, image_seeds = [p.text for p in batch], [p.seed for p in batch]
            images, generate_s = subject.generate_batch(texts, image_seeds, point.num_steps)
            parts_s, energy_j, image_bytes = {}, None, len(png(images[0]))
        line = samples.LatencySample(
            model=model.model_id,
            num_steps=point.num_steps,
            batch=point.batch,
            guidance=point.guidance,
            repeat=point.repeat,
            generate_s=generate_s,
            parts_s=parts_s,
            image_bytes=image_bytes,
            energy_j=energy_j,
        )
        samples.append(path, [line])
        total_left = sum(p.num_steps for p in left[left.index(point) + 1 :])
        _tell(total - total_left, total)
    if not any(isinstance(sample, samples.RateSample) for sample in done):
        samples.append(path, [_rate(config, model, subject)])
    _tell(total, total)


def make_images(folder: Path, config: ProfileConfig, model: ModelChoice, count: int) -> None:
    """Generate and score ``count`` prompts at every step count of a model."""
    path = folder / "samples.jsonl"
    done = {
        (sample.num_steps, sample.index)
        for sample in samples.read(path)
        if isinstance(sample, samples.QualitySample) and sample.model == model.model_id
    }
    chunks = grid.quality_chunks(
        model.model_id,
        config.steps_of(model),
        model.guidance_scale,
        count,
        config.grid.quality_batch,
    )
    left = grid.missing(chunks, done)
    total = sum(chunk.num_steps * chunk.count for chunk in chunks)
    finished = total - sum(chunk.num_steps * chunk.count for chunk in left)
    _tell(finished, total)
    if not left:
        return
    subject, clip_score = Subject(model, config.device), scorers.clip(config)
    subject.load()
    prompts = world.prompts(config, count)
    for chunk in left:
        asked = [prompts[index] for index in chunk.indices()]
        images, generate_s = subject.generate_batch(
            [p.text for p in asked], [p.seed for p in asked], chunk.num_steps
        )
        scores = clip_score(images, [prompt.text for prompt in asked])
        variations, exact = total_variation(images), world.are_exact(images, asked)
        lines = []
        for row, index in enumerate(chunk.indices()):
            if (chunk.num_steps, index) in done:
                continue
            encoded = png(images[row])
            image_path(folder, model.model_id, chunk.num_steps, index).write_bytes(encoded)
            lines.append(
                samples.QualitySample(
                    model=model.model_id,
                    num_steps=chunk.num_steps,
                    guidance=chunk.guidance,
                    index=index,
                    prompt=asked[row].text,
                    seed=asked[row].seed,
                    generate_s=generate_s / chunk.count,
                    batch=chunk.count,
                    total_variation=float(variations[row]),
                    clip_score=float(scores[row]),
                    is_exact=exact[row],
                    image_bytes=len(encoded),
                    image_sha256=hashlib.sha256(images[row].tobytes()).hexdigest(),
                )
            )
        samples.append(path, lines)
        finished += chunk.num_steps * chunk.count
        _tell(finished, total)


def measure_distances(folder: Path, config: ProfileConfig, count: int) -> None:
    """Append the FID of every (model, step count), and what the scorers give to real images."""
    path = folder / "samples.jsonl"
    done = samples.read(path)
    have = {(s.model, s.num_steps) for s in done if isinstance(s, samples.FidSample)}
    wanted = [(m.model_id, steps) for m in config.models for steps in config.steps_of(m)]
    left = [cell for cell in wanted if cell not in have]
    has_floor = any(isinstance(sample, samples.FloorSample) for sample in done)
    if (not left and has_floor) or not config.scorer.reference:
        return
    net = scorers.features(config)
    reference = fid.extract(
        net, world.reference(config, config.scorer.num_reference), config.device
    )
    if not has_floor:
        samples.append(path, [_floor(config, count, net, reference)])
    rng = seeds.stream(config.seed, "bootstrap")  # the same prompts as in every other interval
    drawn = rng.integers(count, size=(config.bootstrap, count))
    for number, (model_id, steps) in enumerate(left, start=1):
        files = [image_path(folder, model_id, steps, index) for index in range(count)]
        images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
        found = fid.extract(net, images, config.device)
        line = samples.FidSample(
            model=model_id,
            num_steps=steps,
            num_samples=count,
            num_reference=len(reference),
            value=fid.frechet_distance(reference, found),
            replicates=fid.bootstrap(reference, found, drawn).tolist(),
        )
        samples.append(path, [line])
        _tell(number, len(left))


def image_path(folder: Path, model_id: str, num_steps: int, index: int) -> Path:
    """Return where an image lies; its folder exists afterwards."""
    place = folder / "images" / model_id / f"{num_steps:02d}"
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{index:04d}.png"


def _load_repeatedly(path: Path, subject: Subject, done: list[samples.Sample]) -> None:
    """Load and evict: the process's first load counts as cold, the others as warm."""
    have = sum(isinstance(sample, samples.LoadSample) for sample in done)
    if have > _WARM_LOADS:
        return
    lines = []
    for repeat in range(1 + _WARM_LOADS):
        resident_bytes, load_s = subject.load()
        freed_bytes, evict_s = subject.evict()
        lines.append(
            samples.LoadSample(
                model=subject.model_id,
                repeat=repeat,
                is_cold=repeat == 0,
                load_s=load_s,
                evict_s=evict_s,
                resident_bytes=resident_bytes,
                freed_bytes=freed_bytes,
            )
        )
    samples.append(path, lines)


def _rate(config: ProfileConfig, model: ModelChoice, subject: Subject) -> samples.RateSample:
    size = min(config.grid.quality_batch, config.grid.max_images)
    prompts = world.prompts(config, size)
    texts, image_seeds = [p.text for p in prompts], [p.seed for p in prompts]
    seconds = []
    for steps in (1, *_RATE_STEPS):  # the first is warm-up
        _, elapsed_s = subject.generate_batch(texts, image_seeds, steps)
        seconds.append(elapsed_s)
    low, high = _RATE_STEPS
    per_step = max((seconds[2] - seconds[1]) / (high - low), 1e-6)
    return samples.RateSample(
        model=model.model_id,
        seconds_per_step=per_step / size,
        seconds_per_image=max(seconds[1] - low * per_step, 0.0) / size,
    )


def _floor(
    config: ProfileConfig, count: int, net: fid.Net, reference: fid.Features
) -> samples.FloorSample:
    """Score real images as if a model had made them."""
    real = world.rendered(config, world.prompts(config, count))
    if real is None:
        other = world.reference(config, config.scorer.num_reference)[:count]
        return samples.FloorSample(
            num_samples=len(other),
            clip_score=None,
            total_variation=float(total_variation(other).mean()),
            fid=None,
        )
    texts = [prompt.text for prompt in world.prompts(config, count)]
    return samples.FloorSample(
        num_samples=count,
        clip_score=float(scorers.clip(config)(real, texts).mean()),
        total_variation=float(total_variation(real).mean()),
        fid=fid.frechet_distance(reference, fid.extract(net, real, config.device)),
    )


def _is_of(sample: samples.Sample, model: ModelChoice) -> bool:
    return getattr(sample, "model", "") == model.model_id


def _tell(done: float, total: float) -> None:
    sys.stdout.write(json.dumps({"done": done, "total": total}) + "\n")
    sys.stdout.flush()


@contextmanager
def _sole_writer(folder: Path) -> Iterator[None]:
    """Wait until no other process (one left over from a kill) writes the samples."""
    with (folder / "samples.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: list[str]) -> None:
    """Run one phase; see the module's docstring."""
    phase, folder = argv[0], Path(argv[1])
    config = msgspec.json.decode((folder / "config.json").read_bytes(), type=ProfileConfig)
    by_id = {model.model_id: model for model in config.models}
    with _sole_writer(folder):
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
        main(sys.argv[1:])
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(130)
