"""The report for people: report.md and a self-contained report.html, from the records alone.

Responsible for words and tables. Not: measuring or fitting; every number comes from the profile or
the samples.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from profiling import curves
from profiling.records import Estimate, LatencyFit, ModelProfile, Profile, QualityFit
from profiling.report import figures, page
from profiling.report.page import items, picture, plain, table
from profiling.samples import QualitySample, Sample, select

_GRID_PROMPTS = 6
_QUIET_RATIO = 1.5
_DIGITS = {"clip_score": 2, "fid": 2, "total_variation": 4}


def write(profile: Profile, samples: Sequence[Sample], out: Path, took: str) -> Path:
    """Write plots, report.md and report.html; return the latter's path.

    Args:
        profile: what the report is about.
        samples: its raw samples, for the prompts.
        out: folder that the files go to and that holds images/.
        took: how long this run lasted, in words.
    """
    prompts = {s.index: s.prompt for s in select(samples, QualitySample)}
    shown = sorted(prompts)[:_GRID_PROMPTS]
    pictures = {
        f"plot-{metric}.png": figures.quality(profile, metric) for metric in _metrics(profile)
    }
    pictures["plot-latency.png"] = figures.latency(profile)
    for model in profile.models:
        pictures[f"grid-{model.model_id}.png"] = figures.image_grid(out, model, shown)
    for name, data in pictures.items():
        (out / name).write_bytes(data)
    blocks = [
        *_opening(profile, took),
        *_quality(profile),
        *_fits(profile),
        *_latency(profile),
        *_grids(profile, [prompts[index] for index in shown]),
        *_limitations(profile),
        *_provenance(profile),
    ]
    return page.write(blocks, out)


def _opening(profile: Profile, took: str) -> list[str]:
    record, count = profile.manifest, profile.models[0].quality[0].num_samples
    device = f"{record.num_cpus} CPU cores" if record.device == "cpu" else record.device
    head = ["model", "MB", "ms a step", "ms besides", "CLIP score, fewest to most steps"]
    head += ["rises until (A3)", "exact at most steps"]
    return [
        "# What a denoising step buys and costs",
        (
            f"Measured on {device}, {record.created_utc}; this call took {took}. Every point of"
            f" quality is a mean over {count} prompts, the same prompts and seeds for every model"
            f" and step count. Square brackets hold {profile.confidence:.0%} bootstrap intervals."
        ),
        items([_in_words(model) for model in profile.models]),
        table(head, [_summary_row(model) for model in profile.models]),
    ]


def _in_words(model: ModelProfile) -> str:
    """Return in words what the two fitted curves give together."""
    quality, latency = model.fit("clip_score"), model.latency[0]
    knee, most = quality.a3.value, max(quality.num_steps)
    at_knee, at_most = curves.affine([knee, most], latency.b1.value, latency.b2.value)
    if quality.a4.value <= quality.a2.value:
        return (
            f"{model.model_id}: more steps do not raise the CLIP score: {quality.mean[0]:.2f} at"
            f" {quality.num_steps[0]}, {quality.mean[-1]:.2f} at {most}."
        )
    said = (
        f"{model.model_id}: the CLIP score rises from {quality.a2.value:.1f} to"
        f" {quality.a4.value:.1f} up to {knee:.3g} steps"
    )
    if knee >= 0.95 * most:
        return f"{said}, the end of the grid: it may rise further. That takes {at_knee:.2f} s."
    return (
        f"{said} and is flat after: {at_knee:.2f} s of work score as high as the {at_most:.2f} s"
        f" of {most} steps."
    )


def _summary_row(model: ModelProfile) -> list[str]:
    quality, latency = model.fit("clip_score"), model.latency[0]
    return [
        model.model_id,
        f"{model.resident_bytes / 1e6:.1f}",
        _interval(latency.b1, 1000),
        _interval(latency.b2, 1000),
        f"{quality.mean[0]:.1f} to {quality.mean[-1]:.1f}",
        _interval(quality.a3) if quality.a4.value > quality.a2.value else "does not rise",
        f"{model.exact_frac[-1]:.0%}" if model.exact_frac else "not known",
    ]


def _quality(profile: Profile) -> list[str]:
    real = profile.real_clip_score
    blocks = [
        "## Quality against denoising steps",
        (
            "CLIP score: 100 times the cosine between image and prompt, by"
            f" {profile.clip_scorer}; higher is better."
            + ("" if real is None else f" Real images of the same prompts get {real:.2f}.")
        ),
        *_metric(profile, "clip_score"),
    ]
    if all(model.exact_frac for model in profile.models):
        blocks += [
            (
                "Exact: the share of images in which everything that the prompt says is right, read"
                " from the pixels without any net:"
            ),
            _step_table(profile, "exact at steps", lambda m: [f"{f:.0%}" for f in m.exact_frac]),
        ]
    if all(model.atoms_frac for model in profile.models):
        blocks += [
            "Atoms: the mean share of a prompt's statements (counts, relations) that are right:",
            _step_table(profile, "atoms at steps", lambda m: [f"{f:.1%}" for f in m.atoms_frac]),
        ]
    if "fid" in _metrics(profile):
        real = profile.real_fid
        blocks += [
            (
                f"FID: the distance between generated and real images; lower is better. Over N ="
                f" {profile.fid_num_samples} images a point, features of {profile.fid_scorer}."
                + ("" if real is None else f" As many real images get {real:.2f}: the floor.")
            ),
            *_metric(profile, "fid"),
        ]
    real = profile.real_total_variation
    blocks += [
        (
            "Total variation: how much neighbouring pixels differ, summed over an image and divided"
            " by its pixels. Neither high nor low is good: noise has much, a blur little; near that"
            " of real images is right." + ("" if real is None else f" Real images have {real:.4f}.")
        ),
        *_metric(profile, "total_variation"),
    ]
    return blocks


def _metric(profile: Profile, metric: str) -> list[str]:
    digits = _DIGITS[metric]
    return [
        _step_table(
            profile,
            "mean at steps",
            lambda model: [f"{mean:.{digits}f}" for mean in model.fit(metric).mean],
        ),
        picture(f"plot-{metric}.png", f"{figures.LABELS[metric]} against denoising steps"),
    ]


def _fits(profile: Profile) -> list[str]:
    return [
        "## The fitted quality curves",
        (
            "Linear with saturation: the value A2 up to A1 steps, a straight line to the value A4"
            " at A3 steps, flat after (the plots bend it: their axis is logarithmic). The held-out"
            " error is that of predicting each step count from a fit to all others, in the"
            " metric's unit; the last column names the family that predicts best. Where another"
            " family predicts better, read the knees as a summary, not as a law."
        ),
        table(
            [
                "model, metric",
                "A1, steps",
                "A2",
                "A3, steps",
                "A4",
                "held-out error",
                "best family",
            ],
            [_fit_row(model, fit) for model in profile.models for fit in model.quality],
        ),
        (
            f"Quality in utilities is the CLIP score's curve, 0 at {profile.quality_worst:.2f} and"
            f" 1 at {profile.quality_best:.2f}, the worst and the best mean of these models."
        ),
    ]


def _latency(profile: Profile) -> list[str]:
    sizes = ", ".join(str(fit.batch) for fit in profile.models[0].latency)
    head = ["model", "MB in memory", "load cold, s", "load warm, s", "evict, s", "image, kB"]
    return [
        "## Latency against denoising steps",
        (
            "generate_s = B1 · steps + B2. B2 is text encoding, decoding and image encoding. Points"
            " are medians of repeats in mixed order; their bars reach from the 10th to the 90th"
            f" percentile. Batch sizes measured: {sizes}."
        ),
        table(
            ["model", "batch", "B1, ms a step", "B2, ms", "held-out error, ms", "samples"],
            [_latency_row(model, fit) for model in profile.models for fit in model.latency],
        ),
        picture("plot-latency.png", "seconds to generate against denoising steps"),
        *_disturbance(profile),
        "## Loading and size",
        table([*head, "J a step"], [_load_row(model) for model in profile.models]),
        (
            "Cold is the first load in a fresh process, the import of the model's classes included;"
            " the operating system may still hold the files in memory."
        ),
    ]


def _disturbance(profile: Profile) -> list[str]:
    """Return a warning where repeats differ so much that something else was at work."""
    fits = [fit for model in profile.models for fit in model.latency]
    ratios = [p90 / p50 for fit in fits for p90, p50 in zip(fit.p90_s, fit.median_s, strict=True)]
    disturbed = sum(ratio > _QUIET_RATIO for ratio in ratios)
    if not disturbed:
        return []
    return [
        (
            f"Warning: at {disturbed} of {len(ratios)} points the 90th percentile is more than"
            f" {_QUIET_RATIO:g} times the median, at worst {max(ratios):.1f} times: the machine was"
            " busy with something else. Medians bear some of that; measure again (--fresh) when it"
            " is quiet."
        )
    ]


def _grids(profile: Profile, prompts: Sequence[str]) -> list[str]:
    listed = items([plain(prompt) for prompt in prompts], is_numbered=True)
    blocks = ["## The same prompts at rising step counts", listed]
    for model in profile.models:
        steps = ", ".join(str(step) for step in model.quality[0].num_steps)
        shows = f"{model.model_id}: the prompts above at {steps} steps"
        blocks += [f"{shows}.", picture(f"grid-{model.model_id}.png", shows)]
    return blocks


def _limitations(profile: Profile) -> list[str]:
    limitations = [
        "Intervals cover the choice of prompts and seeds (quality) and of repeats (latency). They"
        " do not cover another training of the model, another machine or another scorer.",
        "The knees lie between the step counts that were measured: a finer grid would move them"
        " within their intervals. A first knee at the lowest step count means that no flat start"
        " was seen.",
        "Latency is that of one machine with nothing else to do; the network, waiting and loading"
        " are not in it. At batch 1 it is timed through the engine that edge nodes serve with.",
    ]
    if "fid" in _metrics(profile):
        limitations.append(
            f"FID is biased upward at N = {profile.fid_num_samples}: compare it only with FID of"
            " the same scorer and the same N."
        )
    if profile.clip_scorer.startswith("zoo-judge"):
        limitations.append(
            "The judge is a small CLIP trained on the same drawn world as the zoo, on other seeds:"
            " its scores rank these images, but are not comparable with published CLIP scores or"
            " FID. The exact check is independent of it."
        )
    return ["## Limitations", items(limitations)]


def _provenance(profile: Profile) -> list[str]:
    return [
        "## Origin of the numbers",
        items(
            [
                *page.origin(profile.manifest),
                *(
                    f"{model.model_id}: weights {model.weights_sha256[:12]}, guidance"
                    f" {model.guidance_scale:g}, {model.width_px}x{model.height_px} pixels"
                    for model in profile.models
                ),
                "every measurement: samples.jsonl; the resolved configuration: config.json;"
                " what the controller reads: profile.json",
            ]
        ),
    ]


def _metrics(profile: Profile) -> list[str]:
    return [fit.metric for fit in profile.models[0].quality]


def _step_table(
    profile: Profile, title: str, cells_of: Callable[[ModelProfile], Sequence[str]]
) -> str:
    """Return a row for each model, a column for each step count of any."""
    steps = sorted({step for model in profile.models for step in model.quality[0].num_steps})
    rows = []
    for model in profile.models:
        cells = dict(zip(model.quality[0].num_steps, cells_of(model), strict=True))
        rows.append([model.model_id, *(cells.get(step, "") for step in steps)])
    return table([title, *map(str, steps)], rows)


def _fit_row(model: ModelProfile, fit: QualityFit) -> list[str]:
    errors = fit.family_held_out_rmse
    best = min(errors, key=lambda name: errors[name])
    knees = [_interval(estimate) for estimate in (fit.a1, fit.a2, fit.a3, fit.a4)]
    winner = f"{best.replace('_', ' ')} ({errors[best]:.3g})"
    return [f"{model.model_id}, {fit.metric}", *knees, f"{fit.held_out_rmse:.3g}", winner]


def _latency_row(model: ModelProfile, fit: LatencyFit) -> list[str]:
    times = [_interval(fit.b1, 1000), _interval(fit.b2, 1000), f"{fit.held_out_rmse_s * 1000:.3g}"]
    return [model.model_id, str(fit.batch), *times, str(fit.num_samples)]


def _load_row(model: ModelProfile) -> list[str]:
    return [
        model.model_id,
        f"{model.resident_bytes / 1e6:.1f}",
        f"{model.load_cold_s:.2f}",
        f"{model.load_warm_s:.2f}",
        f"{model.evict_s:.3f}",
        f"{model.image_bytes / 1e3:.1f}",
        "not reported" if model.energy_j is None else f"{model.energy_j:.3g}",
    ]


def _interval(estimate: Estimate, scale: float = 1.0) -> str:
    value, low, high = (scale * part for part in (estimate.value, estimate.low, estimate.high))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"
