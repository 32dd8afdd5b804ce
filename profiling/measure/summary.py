"""From raw samples to the profile: means, medians, fits, intervals.

Responsible for which samples feed which number. Not: measuring, drawing.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_node.config import ModelConfig
from profiling import curves
from profiling.measure.config import ProfileConfig
from profiling.records import FORMAT, Estimate, LatencyFit, ModelProfile, Profile, QualityFit
from profiling.samples import (
    FidSample,
    LatencySample,
    LoadSample,
    QualitySample,
    RealSample,
    Sample,
    select,
)
from protos import seeds
from protos.config import ConfigError
from protos.manifest import Manifest

Array = NDArray[np.float64]


def summarise(
    config: ProfileConfig,
    samples: Sequence[Sample],
    weights_sha256: dict[str, str],
    manifest: Manifest,
) -> Profile:
    """Return the profile of complete samples.

    Raises:
        ConfigError: a model's samples are not complete.
    """
    models = tuple(
        _model_profile(config, model, samples, weights_sha256[model.model_id])
        for model in config.models
    )
    fids, reals = select(samples, FidSample), select(samples, RealSample)
    if not reals:
        raise ConfigError("the samples lack the scores of real images: run again")
    real = reals[0]
    scores = [mean for model in models for mean in model.fit("clip_score").mean]
    return Profile(
        format=FORMAT,
        manifest=manifest,
        clip_scorer=real.clip_scorer,
        fid_scorer=real.fid_scorer,
        fid_num_samples=fids[0].num_samples if fids else 0,
        quality_metric="clip_score",
        quality_worst=min(scores),
        quality_best=max(scores),
        models=models,
        real_clip_score=real.clip_score,
        real_total_variation=real.total_variation,
        real_fid=real.fid,
    )


def _model_profile(
    config: ProfileConfig, model: ModelConfig, samples: Sequence[Sample], weights_sha256: str
) -> ModelProfile:
    steps, name = config.steps_of(model), model.model_id
    images = select(samples, QualitySample, model=name)
    timed = select(samples, LatencySample, model=name)
    loads = select(samples, LoadSample, model=name)
    if not images or not timed or {load.is_cold for load in loads} != {True, False}:
        raise ConfigError(f"the samples of {name} are not complete: run again")
    quality = _score_fits(config, images, steps)
    if fids := select(samples, FidSample, model=name):
        quality.append(_fid_fit(model, fids, steps))
    joules = [s.energy_j / s.num_steps for s in timed if s.energy_j is not None and s.batch == 1]
    return ModelProfile(
        model_id=name,
        weights_sha256=weights_sha256,
        resident_bytes=max(load.resident_bytes for load in loads),
        load_cold_s=next(load.load_s for load in loads if load.is_cold),
        load_warm_s=float(np.median([load.load_s for load in loads if not load.is_cold])),
        evict_s=float(np.median([load.evict_s for load in loads])),
        image_bytes=float(np.mean([image.image_bytes for image in images])),
        width_px=model.width_px,
        height_px=model.height_px,
        max_num_steps=max(steps),
        guidance_scale=model.default_guidance_scale,
        quality=tuple(quality),
        latency=tuple(
            _latency_fit(config, select(timed, LatencySample, batch=batch))
            for batch in sorted({s.batch for s in timed})
        ),
        exact_frac=_at_each(steps, images, lambda atoms: float(atoms == 1)),
        atoms_frac=_at_each(steps, images, float),
        energy_j=float(np.median(joules)) if joules else None,
        runtime=loads[0].runtime,
    )


def _score_fits(
    config: ProfileConfig, images: Iterable[QualitySample], steps: tuple[int, ...]
) -> list[QualityFit]:
    by_prompt: dict[int, dict[int, QualitySample]] = defaultdict(dict)
    for image in images:
        by_prompt[image.index][image.num_steps] = image
    whole = [row for _, row in sorted(by_prompt.items()) if row.keys() >= set(steps)]
    if len(whole) < 2:
        raise ConfigError("fewer than 2 prompts have images at every step count: run again")
    fits = []
    for metric in ("clip_score", "total_variation"):
        table = np.array([[getattr(row[s], metric) for s in steps] for row in whole])
        rng = seeds.stream(config.seed, "bootstrap")
        replicates = curves.resampled_means(table, config.bootstrap, rng)
        fits.append(_quality_fit(metric, steps, table.mean(0), replicates, len(whole)))
    return fits


def _fid_fit(model: ModelConfig, fids: Sequence[FidSample], steps: tuple[int, ...]) -> QualityFit:
    by_steps = {sample.num_steps: sample for sample in fids}
    if by_steps.keys() != set(steps):
        raise ConfigError(f"the FID of {model.model_id} is not complete: run again")
    ordered = [by_steps[s] for s in steps]
    values = np.array([sample.value for sample in ordered])
    replicates = np.array([sample.replicates for sample in ordered]).T
    return _quality_fit("fid", steps, values, replicates, ordered[0].num_samples)


def _quality_fit(
    metric: str, steps: tuple[int, ...], mean: Array, replicates: Array, num_samples: int
) -> QualityFit:
    """Return the fit of a metric's means [s], with intervals from their replicates [r, s]."""
    record = curves.LINEAR_SATURATION
    knees = curves.fit(record, steps, mean).knees()
    draws = np.array([fit.knees() for fit in curves.fit_many(record, steps, replicates)])
    a1, a2, a3, a4 = (_estimate(*one) for one in zip(knees, draws.T, strict=True))
    errors = {
        name: curves.held_out_rmse(family, steps, mean) for name, family in curves.FAMILIES.items()
    }
    ends = [curves.interval(column) for column in replicates.T]
    return QualityFit(
        metric=metric,
        a1=a1,
        a2=a2,
        a3=a3,
        a4=a4,
        held_out_rmse=errors[record.name],
        family_held_out_rmse=errors,
        num_samples=num_samples,
        num_steps=steps,
        mean=tuple(mean.tolist()),
        mean_low=tuple(low for low, _ in ends),
        mean_high=tuple(high for _, high in ends),
    )


def _latency_fit(config: ProfileConfig, timed: Sequence[LatencySample]) -> LatencyFit:
    """Return the fit of the samples of one batch size."""
    steps = tuple(sorted({sample.num_steps for sample in timed}))
    table = [np.array([t.generate_s for t in timed if t.num_steps == s]) for s in steps]
    medians = [float(np.median(row)) for row in table]
    b1, b2 = curves.fit_affine(steps, medians)
    rng = seeds.stream(config.seed, "latency-bootstrap")
    draws = np.array(
        [
            curves.fit_affine(steps, [np.median(rng.choice(row, len(row))) for row in table])
            for _ in range(config.bootstrap)
        ]
    )
    return LatencyFit(
        batch=timed[0].batch,
        b1=_estimate(b1, draws[:, 0]),
        b2=_estimate(b2, draws[:, 1]),
        held_out_rmse_s=curves.affine_held_out_rmse(steps, medians),
        num_samples=len(timed),
        num_steps=steps,
        median_s=tuple(medians),
        p10_s=tuple(float(np.percentile(row, 10)) for row in table),
        p90_s=tuple(float(np.percentile(row, 90)) for row in table),
    )


def _at_each(
    steps: tuple[int, ...], images: Sequence[QualitySample], score: Callable[[float], float]
) -> tuple[float, ...]:
    """Return the mean score of the images' atoms at each step count; nothing if some lack them."""
    found: dict[int, list[float]] = {count: [] for count in steps}
    for image in images:
        if image.atoms_frac is None:
            return ()
        found[image.num_steps].append(score(image.atoms_frac))
    return tuple(float(np.mean(scores)) for scores in found.values())


def _estimate(value: float, replicates: Array) -> Estimate:
    low, high = curves.interval(replicates)
    return Estimate(value=value, low=min(low, value), high=max(high, value))
