"""A run's report for people: report.md and a self-contained report.html, from its records alone.

Owns words and what is shown, and says of every number where it comes from: measured in the run,
emulated, or looked up in the profile.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from controller.cell.dynamics import CAUSES
from controller.record import figures
from controller.record.config import RunConfig
from controller.record.document import (
    Block,
    Gallery,
    Grid,
    Heading,
    Listing,
    Paragraph,
    Picture,
    to_html,
    to_markdown,
)
from controller.record.request_log import CacheRecord, NodeRecord, RequestLog, RequestRecord
from controller.record.summary import Summary, grouped, summarise
from profiling import records
from profiling.records import Profile
from protos.config import ConfigError
from protos.manifest import Manifest

T = TypeVar("T")


def write(folder: Path) -> Path:
    """Write report.md and report.html of a run's folder; return the latter's path.

    Raises:
        ConfigError: it is not a run's folder.
    """
    config = read(folder / "config.json", RunConfig)
    manifest = read(folder / "manifest.json", Manifest)
    profile = records.load(folder / "profile.json")
    with RequestLog(folder / "requests.sqlite") as log:
        rows, caches, nodes = log.rows(), log.caches(), log.nodes()
    blocks = [
        *_overview(config, rows, folder.parent.name),
        *_latency(rows),
        *_tables(rows, nodes),
        *_decisions(config, rows, caches),
        *_gallery(folder, rows),
        *_origins(config, manifest, profile),
    ]
    for block in blocks:
        if isinstance(block, Picture):
            (folder / block.path).write_bytes(block.data)
    (folder / "report.md").write_text(to_markdown(blocks))
    page = folder / "report.html"
    page.write_text(to_html(blocks))
    return page


def read(file: Path, cls: type[T]) -> T:
    """Return what a run's folder holds in a JSON file.

    Raises:
        ConfigError: no such file, or one of something else.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=cls)
    except OSError as error:
        raise ConfigError(f"{file.parent} is not a run's folder: no {file.name}") from error
    except msgspec.DecodeError as error:
        raise ConfigError(f"{file}: {error}") from error


def _overview(config: RunConfig, rows: Sequence[RequestRecord], name: str) -> list[Block]:
    whole = summarise(rows)
    seconds = config.num_slots * config.slot_s
    blocks: list[Block] = [
        Heading(f"Live run: {name}"),
        Paragraph(
            f"{config.num_users} emulated users sent {whole.num_requests} requests in "
            f"{config.num_frames} frames of {config.slots_per_frame} slots of {config.slot_s:g} s "
            f"({seconds:g} s); policy {config.policy_name}, seed {config.seed}. "
            f"{whole.num_served} were served, {whole.num_rejected} rejected, "
            f"{whole.num_failed} failed: every request has one row in requests.sqlite."
        ),
        Grid(
            ["utility", "hit ratio", "mean latency", "median", "95 %", "mean quality", "steps"],
            [
                [
                    f"{whole.utility:.3f}",
                    f"{whole.hit_frac:.0%}",
                    f"{whole.total_s:.2f} s",
                    f"{whole.median_s:.2f} s",
                    f"{whole.p95_s:.2f} s",
                    f"{whole.quality:.3f}",
                    f"{whole.num_steps:.1f}",
                ]
            ],
        ),
        Paragraph(
            "Utility is the mean over all requests of "
            f"{config.utility.quality_weight:g} * quality - "
            f"{1 - config.utility.quality_weight:g} * latency / "
            f"{config.utility.reference_latency_s:g} s; a rejected or failed request counts as no "
            "quality at that reference latency. Hit ratio: the share of the served requests that "
            "an edge node served from its cache; the others went to the cloud."
        ),
        Picture(
            "plot-timeline.png",
            figures.timeline(rows, config.num_frames, config.slots_per_frame),
            "How the requests of each slot ended, and their mean utility (measured)",
        ),
    ]
    if whole.num_retried:
        blocks.append(
            Paragraph(
                f"{whole.num_retried} requests were served by the cloud after their edge node "
                "failed; the time lost there is in their wait."
            )
        )
    return blocks


def _latency(rows: Sequence[RequestRecord]) -> list[Block]:
    served = [row for row in rows if row.status == "served"]
    if not served:
        return [Heading("Latency by cause"), Paragraph("No request was served.")]
    groups = {"all": summarise(served)}
    groups |= {
        key[0]: summarise(some) for key, some in grouped(served, lambda r: (r.role,)).items()
    }
    return [
        Heading("Latency by cause"),
        Paragraph(
            "Measured, by the user's clock; the causes sum to the total. Upload and download are "
            "paced at the emulated channels' rates; wait is the time until the slot's decision."
        ),
        Grid(
            ["mean seconds", "requests", *(cause.removesuffix("_s") for cause in CAUSES), "total"],
            [
                [
                    name,
                    str(group.num_served),
                    *(f"{group.by_cause[cause]:.3f}" for cause in CAUSES),
                    f"{group.total_s:.3f}",
                ]
                for name, group in groups.items()
            ],
        ),
        Picture("plot-latency.png", figures.latency(groups), "Mean latency split by cause"),
    ]


def _tables(rows: Sequence[RequestRecord], nodes: Sequence[NodeRecord]) -> list[Block]:
    head = [
        "model",
        "node",
        "served",
        "mean steps",
        "quality",
        "utility",
        "generate, s",
        "total, s",
    ]
    served = [row for row in rows if row.status == "served"]
    body = [
        [*key, *_model_cells(summarise(some))]
        for key, some in grouped(served, lambda row: (row.model_id, row.node_id)).items()
    ]
    counts = Counter(row.node_id for row in served)
    blocks: list[Block] = [
        Heading("Models and nodes"),
        Grid(head, body),
        Grid(
            ["node", "role", "device", "MB for models", "served", "at the end"],
            [
                [
                    node.node_id,
                    node.role,
                    node.device,
                    f"{node.capacity_bytes / 1e6:.1f}",
                    str(counts[node.node_id]),
                    "answers" if node.is_alive else "lost",
                ]
                for node in nodes
            ],
        ),
    ]
    reasons = Counter(
        (row.status, row.reason) for row in rows if row.status in ("rejected", "failed")
    )
    if reasons:
        blocks += [
            Paragraph("Requests that got no image, and why:"),
            Grid(
                ["ending", "requests", "reason"],
                [[status, str(n), why] for (status, why), n in reasons.most_common()],
            ),
        ]
    return blocks


def _model_cells(group: Summary) -> list[str]:
    return [
        str(group.num_served),
        f"{group.num_steps:.1f}",
        f"{group.quality:.3f}",
        f"{group.utility:.3f}",
        f"{group.by_cause['generate_s']:.3f}",
        f"{group.total_s:.3f}",
    ]


def _decisions(
    config: RunConfig, rows: Sequence[RequestRecord], caches: Sequence[CacheRecord]
) -> list[Block]:
    asked = {
        frame: Counter(row.model_id for row in rows if row.frame == frame)
        for frame in range(config.num_frames)
    }
    return [
        Heading("Caching decisions"),
        Paragraph("Each is one SetCache call; the seconds are those of its evictions and loads."),
        Grid(
            ["frame", "node", "models held", "SetCache, s", "error", "asked for in the frame"],
            [
                [
                    str(cache.frame + 1),
                    cache.node_id,
                    cache.models.replace(",", ", ") or "none",
                    "not ended" if cache.duration_s is None else f"{cache.duration_s:.3f}",
                    cache.error,
                    ", ".join(f"{name} {n}" for name, n in asked[cache.frame].most_common()),
                ]
                for cache in caches
            ],
        ),
    ]


def _gallery(folder: Path, rows: Sequence[RequestRecord]) -> list[Block]:
    pictures = [
        Picture(
            row.image_path,
            (folder / row.image_path).read_bytes(),
            f"{row.prompt} ({row.model_id} at {row.node_id}, {row.num_steps} steps, "
            f"{row.total_s or 0:.2f} s)",
        )
        for row in rows
        if row.image_path and (folder / row.image_path).is_file()
    ]
    if not pictures:
        return []
    note = f"{len(pictures)} of the images that the users received, in the order of submission."
    return [Heading("Images"), Paragraph(note), Gallery(pictures)]


def _origins(config: RunConfig, manifest: Manifest, profile: Profile) -> list[Block]:
    state = " with changes" if manifest.git_is_dirty else ""
    measured = profile.manifest
    return [
        Heading("Where the numbers come from"),
        Listing(
            [
                "Measured in this run: every time and its split, hits, cache changes, image bytes, "
                "images.",
                "Emulated: users, their walks, channels and rates, the "
                f"requests (Zipf skews {', '.join(f'{s:g}' for s in config.workload.zipf_skews)}).",
                f"Looked up: quality is the profile's fitted {profile.quality_metric} curve at the "
                "steps given, normalised to 0..1; it is not scored on this run's images.",
                f"Profile: {config.profile}, device {measured.device}, of {measured.created_utc}, "
                f"scored by {profile.clip_scorer}.",
                f"Code {manifest.git_sha[:12]}{state}; Python {manifest.python}; {manifest.cpu}, "
                f"{manifest.num_cpus} cores; {manifest.created_utc}.",
                f"Command: {manifest.command}",
            ]
        ),
    ]
