"""The report for people: report.md and a self-contained report.html, from the records alone.

Owns words, tables and layout. Refuses to compute: every number is in the profile or the samples.
"""

import base64
import html
from collections.abc import Sequence
from pathlib import Path

from profiling import plots
from profiling.records import Estimate, ModelProfile, Profile, QualityFit
from profiling.samples import QualitySample, Sample

_GRID_PROMPTS = 6
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222}table{border-collapse:collapse;margin:1rem 0;font-size:.9rem;display:block;"
    "overflow-x:auto}td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}img{max-width:100%}"
    "@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}img{background:#fff}}"
)

Block = tuple[str, list[str] | list[list[str]] | str]
"""("heading" | "text" | "list" | "table" | "image", content); an image's content is its name."""


def write(profile: Profile, samples: Sequence[Sample], out: Path, took: str) -> Path:
    """Write plots, report.md and report.html into ``out``; return the latter's path.

    Args:
        took: how long this run lasted, in words.
    """
    indices = _shown(samples)
    pictures = {
        f"plot-{metric}.png": plots.quality(profile, metric)
        for metric in plots.LABELS
        if any(fit.metric == metric for fit in profile.models[0].quality)
    }
    pictures["plot-latency.png"] = plots.latency(profile)
    for model in profile.models:
        pictures[f"grid-{model.model_id}.png"] = plots.image_grid(out, model, indices)
    for name, picture in pictures.items():
        (out / name).write_bytes(picture)
    prompts = {s.index: s.prompt for s in samples if isinstance(s, QualitySample)}
    blocks = _blocks(profile, [prompts[index] for index in indices], list(pictures), took)
    (out / "report.md").write_text(_markdown(blocks))
    page = out / "report.html"
    page.write_text(_html(blocks, pictures))
    return page


def _shown(samples: Sequence[Sample]) -> list[int]:
    """Return the prompts of the grid: the first, the same for every model."""
    return sorted({s.index for s in samples if isinstance(s, QualitySample)})[:_GRID_PROMPTS]


def _blocks(profile: Profile, prompts: list[str], pictures: list[str], took: str) -> list[Block]:
    record, first = profile.manifest, profile.models[0]
    state = " with changes" if record.git_is_dirty else ""
    blocks: list[Block] = [
        ("heading", "What a denoising step buys and costs"),
        (
            "text",
            f"{len(profile.models)} models on {_device(profile)}, {record.created_utc}; this run"
            f" took {took}. Every point of quality is a mean over {first.quality[0].num_samples}"
            f" prompts, the same prompts and seeds for every model and step count. Intervals are"
            f" {profile.confidence:.0%} bootstrap intervals.",
        ),
        ("heading", "Quality against denoising steps"),
        ("table", _step_table(profile, "clip_score", 2)),
        ("image", "plot-clip_score.png"),
    ]
    if "plot-fid.png" in pictures:
        real = "" if profile.real_fid is None else f" Real images score {profile.real_fid:.2f}."
        blocks += [
            (
                "text",
                f"FID over {profile.fid_num_samples} images a point, features of"
                f" {profile.fid_scorer}. With so few images FID is biased upward: compare it only"
                f" with FID of the same scorer and number of images.{real}",
            ),
            ("table", _step_table(profile, "fid", 2)),
            ("image", "plot-fid.png"),
        ]
    blocks += [
        ("table", _step_table(profile, "total_variation", 4)),
        ("image", "plot-total_variation.png"),
    ]
    if all(model.exact_frac for model in profile.models):
        blocks += [
            ("text", "Share of images in which everything that the prompt says is right:"),
            ("table", _exact_table(profile)),
        ]
    blocks += [
        ("heading", "The fitted curves"),
        (
            "text",
            "Linear with saturation: A2 up to A1 steps, a straight line to A4 at A3 steps, flat"
            " after. The held-out error is that of predicting each step count from a fit to all"
            " others; best names the family that predicts best.",
        ),
        ("table", _fit_table(profile)),
        ("heading", "Latency"),
        (
            "text",
            "generate_s = B1 · steps + B2. Points are medians of repeats in mixed order, their"
            f" bars reach from the 10th to the 90th percentile. Batch sizes measured:"
            f" {', '.join(str(fit.batch) for fit in first.latency)}.",
        ),
        ("table", _latency_table(profile)),
        ("image", "plot-latency.png"),
        ("heading", "Loading and size"),
        ("table", _load_table(profile)),
        (
            "text",
            "Cold is the first load in a fresh process; the operating system may still hold the"
            " files in memory.",
        ),
        ("heading", "The same prompts at rising step counts"),
        ("list", prompts),
    ]
    for model in profile.models:
        steps = ", ".join(str(step) for step in model.quality[0].num_steps)
        blocks += [
            ("text", f"{model.model_id}; rows: the prompts above; columns: {steps} steps"),
            ("image", f"grid-{model.model_id}.png"),
        ]
    blocks += [
        ("heading", "Where this comes from"),
        (
            "list",
            [
                f"command: {record.command}",
                f"code: {record.git_sha[:12]}{state}",
                f"Python {record.python}; "
                + ", ".join(f"{name} {version}" for name, version in record.packages.items()),
                f"CPU: {record.cpu}, {record.num_cpus} cores,"
                f" {record.memory_bytes / 1e9:.1f} GB; {record.host}",
                f"CLIP score by {profile.clip_scorer}; quality is normalised between"
                f" {profile.quality_worst:.2f} and {profile.quality_best:.2f}",
                *(f"{m.model_id}: weights {m.weights_sha256[:12]}" for m in profile.models),
            ],
        ),
    ]
    return blocks


def _device(profile: Profile) -> str:
    record = profile.manifest
    return f"{record.num_cpus} CPU cores" if record.device == "cpu" else record.device


def _steps(profile: Profile) -> list[int]:
    return sorted({step for model in profile.models for step in model.quality[0].num_steps})


def _fit(model: ModelProfile, metric: str) -> QualityFit:
    return next(fit for fit in model.quality if fit.metric == metric)


def _step_table(profile: Profile, metric: str, digits: int) -> list[list[str]]:
    steps = _steps(profile)
    rows = [[f"{plots.LABELS[metric]} at steps", *(str(step) for step in steps)]]
    for model in profile.models:
        fit = _fit(model, metric)
        mean = dict(zip(fit.num_steps, fit.mean, strict=True))
        cells = [f"{mean[step]:.{digits}f}" if step in mean else "" for step in steps]
        rows.append([model.model_id, *cells])
    return rows


def _exact_table(profile: Profile) -> list[list[str]]:
    steps = _steps(profile)
    rows = [["exact at steps", *(str(step) for step in steps)]]
    for model in profile.models:
        share = dict(zip(model.quality[0].num_steps, model.exact_frac, strict=True))
        cells = [f"{share[step]:.0%}" if step in share else "" for step in steps]
        rows.append([model.model_id, *cells])
    return rows


def _fit_table(profile: Profile) -> list[list[str]]:
    rows = [["model, metric", "A1", "A2", "A3", "A4", "held-out error", "best"]]
    for model in profile.models:
        for fit in model.quality:
            errors = fit.family_held_out_rmse
            best = min(errors, key=lambda name: errors[name])
            knees = [_interval(estimate) for estimate in (fit.a1, fit.a2, fit.a3, fit.a4)]
            others = f"{best.replace('_', ' ')} ({errors[best]:.3g})"
            rows.append(
                [f"{model.model_id}, {fit.metric}", *knees, f"{fit.held_out_rmse:.3g}", others]
            )
    return rows


def _latency_table(profile: Profile) -> list[list[str]]:
    head = ["model", "batch", "B1, ms a step", "B2, ms", "held-out error, ms", "samples"]
    return [head] + [
        [
            model.model_id,
            str(fit.batch),
            _interval(fit.b1, 1000),
            _interval(fit.b2, 1000),
            f"{fit.held_out_rmse_s * 1000:.3g}",
            str(fit.num_samples),
        ]
        for model in profile.models
        for fit in model.latency
    ]


def _load_table(profile: Profile) -> list[list[str]]:
    head = ["model", "MB in memory", "load cold, s", "load warm, s", "evict, s", "image, kB"]
    return [[*head, "J a step"]] + [
        [
            model.model_id,
            f"{model.resident_bytes / 1e6:.1f}",
            f"{model.load_cold_s:.2f}",
            f"{model.load_warm_s:.2f}",
            f"{model.evict_s:.3f}",
            f"{model.image_bytes / 1e3:.1f}",
            "not reported" if model.energy_j is None else f"{model.energy_j:.3g}",
        ]
        for model in profile.models
    ]


def _interval(estimate: Estimate, scale: float = 1.0) -> str:
    value, low, high = (scale * part for part in (estimate.value, estimate.low, estimate.high))
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _markdown(blocks: Sequence[Block]) -> str:
    parts, level = [], "#"
    for kind, content in blocks:
        if kind == "heading":
            parts.append(f"{level} {content}")
            level = "##"
        elif kind == "text":
            parts.append(str(content))
        elif kind == "list":
            parts.append("\n".join(f"- {item}" for item in content))
        elif kind == "image":
            parts.append(f"![{content}]({content})")
        else:
            head, *rows = ("| " + " | ".join(row) + " |" for row in content)
            parts.append("\n".join([head, "|" + "---|" * len(content[0]), *rows]))
    return "\n\n".join(parts) + "\n"


def _html(blocks: Sequence[Block], pictures: dict[str, bytes]) -> str:
    parts, tag = [], "h1"
    for kind, content in blocks:
        if kind == "heading":
            parts.append(f"<{tag}>{html.escape(str(content))}</{tag}>")
            tag = "h2"
        elif kind == "text":
            parts.append(f"<p>{html.escape(str(content))}</p>")
        elif kind == "list":
            items = "".join(f"<li>{html.escape(str(item))}</li>" for item in content)
            parts.append(f"<ol>{items}</ol>")
        elif kind == "image":
            data = base64.b64encode(pictures[str(content)]).decode()
            name = html.escape(str(content))
            parts.append(f'<p><img alt="{name}" src="data:image/png;base64,{data}"></p>')
        else:
            cells = ["th", *["td"] * (len(content) - 1)]
            rows = (
                "<tr>" + "".join(f"<{c}>{html.escape(v)}</{c}>" for v in row) + "</tr>"
                for c, row in zip(cells, content, strict=True)
            )
            parts.append(f"<table>{''.join(rows)}</table>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>Resource-quality curves</title><style>{_STYLE}</style>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )
