"""A run's report for people: report.md and a self-contained report.html, from its records alone.

Responsible for words and what is shown; every number is marked as measured in the run, emulated, or
looked up in the profile. Not: how a page looks (profiling/report/page.py).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from controller.cell.dynamics import CAUSES
from controller.record import figures
from controller.record.config import RunConfig, read_config
from controller.record.request_log import CacheRecord, NodeRecord, RequestLog, RequestRecord
from controller.record.summary import Summary, grouped, summarise
from profiling import records
from profiling.records import Profile
from profiling.report import page
from profiling.report.page import items, picture, plain, table
from protos.config import read_json
from protos.manifest import Manifest


def write(folder: Path) -> Path:
    """Write report.md and report.html of a run's folder; return the latter's path.

    Raises:
        ConfigError: it is not a run's folder.
    """
    config = read_config(folder)
    manifest = read_json(folder / "manifest.json", Manifest)
    profile = records.load(folder / "profile.json")
    with RequestLog(folder / "requests.sqlite") as log:
        rows, caches, nodes = log.rows(), log.caches(), log.nodes()
    blocks = [
        *_overview(folder, config, rows),
        *_latency(folder, rows),
        *_tables(rows, nodes),
        *_decisions(config, rows, caches),
        *_gallery(folder, rows),
        *_origins(config, manifest, profile),
    ]
    return page.write(blocks, folder)


def _overview(folder: Path, config: RunConfig, rows: Sequence[RequestRecord]) -> list[str]:
    whole = summarise(rows)
    gains = (f"{whole.utility:.3f}", f"{whole.hit_frac:.0%}")
    times = [f"{time_s:.2f} s" for time_s in (whole.total_s, whole.median_s, whole.p95_s)]
    seconds = config.num_slots * config.slot_s
    timeline = figures.timeline(rows, config.num_frames, config.slots_per_frame)
    (folder / "plot-timeline.png").write_bytes(timeline)
    blocks = [
        f"# Live run: {plain(folder.parent.name)}",
        (
            f"{config.num_users} emulated users sent {whole.num_requests} requests in "
            f"{config.num_frames} frames of {config.slots_per_frame} slots of {config.slot_s:g} s "
            f"({seconds:g} s); policy {config.policy_name}, seed {config.seed}. "
            f"{whole.num_served} were served, {whole.num_rejected} rejected, "
            f"{whole.num_failed} failed: every request has one record in requests.sqlite."
        ),
        table(
            ["utility", "hit ratio", "mean latency", "median", "95 %", "mean quality", "steps"],
            [[*gains, *times, f"{whole.quality:.3f}", f"{whole.num_steps:.1f}"]],
        ),
        (
            "Utility is the mean over all requests of "
            f"{config.utility.quality_weight:g} * quality - "
            f"{1 - config.utility.quality_weight:g} * latency / "
            f"{config.utility.reference_latency_s:g} s; a rejected or failed request counts as no "
            "quality at that reference latency. Hit ratio: the share of the served requests that "
            "an edge node served from its cache; the others went to the cloud."
        ),
        picture("plot-timeline.png", "How each slot's requests ended, and their mean utility"),
    ]
    if whole.num_retried:
        blocks.append(
            f"{whole.num_retried} requests were served by the cloud after their edge node "
            "failed; the time lost there is in their wait."
        )
    return blocks


def _latency(folder: Path, rows: Sequence[RequestRecord]) -> list[str]:
    served = [row for row in rows if row.status == "served"]
    if not served:
        return ["## Latency by cause", "No request was served."]
    by_role = grouped(served, lambda row: (row.role,))
    groups = {"all": summarise(served)} | {k[0]: summarise(some) for k, some in by_role.items()}
    (folder / "plot-latency.png").write_bytes(figures.latency(groups))
    return [
        "## Latency by cause",
        (
            "Measured, by the user's clock; the causes sum to the total. Upload and download are "
            "paced at the emulated channels' rates; wait is the time until the slot's decision."
        ),
        table(
            ["mean seconds", "requests", *(cause.removesuffix("_s") for cause in CAUSES), "total"],
            [_cause_cells(name, group) for name, group in groups.items()],
        ),
        picture("plot-latency.png", "Mean latency split by cause"),
    ]


def _cause_cells(name: str, group: Summary) -> list[str]:
    seconds = [*(group.by_cause[cause] for cause in CAUSES), group.total_s]
    return [name, str(group.num_served), *(f"{one:.3f}" for one in seconds)]


def _tables(rows: Sequence[RequestRecord], nodes: Sequence[NodeRecord]) -> list[str]:
    served = [row for row in rows if row.status == "served"]
    by_model = grouped(served, lambda row: (row.model_id, row.node_id))
    counts = Counter(row.node_id for row in served)
    node_rows = []
    for node in nodes:
        size, state = f"{node.capacity_bytes / 1e6:.1f}", "answers" if node.is_alive else "lost"
        cells = [node.node_id, node.role, node.device, size, str(counts[node.node_id]), state]
        node_rows.append(cells)
    head = ["model", "node", "served", "mean steps", "quality", "utility"]
    blocks = [
        "## Models and nodes",
        table(
            [*head, "generate, s", "total, s"],
            [[*key, *_model_cells(summarise(some))] for key, some in by_model.items()],
        ),
        table(["node", "role", "device", "MB for models", "served", "at the end"], node_rows),
    ]
    lost = [row for row in rows if row.status in ("rejected", "failed")]
    if lost:
        reasons = Counter((row.status, row.reason) for row in lost)
        blocks += [
            "Requests that got no image, and why:",
            table(
                ["ending", "requests", "reason"],
                [[status, str(n), plain(why)] for (status, why), n in reasons.most_common()],
            ),
        ]
    return blocks


def _model_cells(group: Summary) -> list[str]:
    means = (group.quality, group.utility, group.by_cause["generate_s"], group.total_s)
    return [str(group.num_served), f"{group.num_steps:.1f}", *(f"{mean:.3f}" for mean in means)]


def _decisions(
    config: RunConfig, rows: Sequence[RequestRecord], caches: Sequence[CacheRecord]
) -> list[str]:
    asked = {
        frame: Counter(row.model_id for row in rows if row.frame == frame)
        for frame in range(config.num_frames)
    }
    return [
        "## Caching decisions",
        "Each is one SetCache call; the seconds are those of its evictions and loads.",
        table(
            ["frame", "node", "models held", "SetCache, s", "error", "asked for in the frame"],
            [
                [
                    str(cache.frame + 1),
                    cache.node_id,
                    cache.models.replace(",", ", ") or "none",
                    "not ended" if cache.duration_s is None else f"{cache.duration_s:.3f}",
                    plain(cache.error),
                    ", ".join(f"{name} {n}" for name, n in asked[cache.frame].most_common()),
                ]
                for cache in caches
            ],
        ),
    ]


def _gallery(folder: Path, rows: Sequence[RequestRecord]) -> list[str]:
    pictures = [
        f"{picture(row.image_path, '')} {plain(row.prompt)} ({row.model_id} at {row.node_id}, "
        f"{row.num_steps} steps, {row.total_s or 0:.2f} s)"
        for row in rows
        if row.image_path and (folder / row.image_path).is_file()
    ]
    if not pictures:
        return []
    note = f"{len(pictures)} of the images that the users received, in the order of submission."
    return ["## Images", note, items(pictures)]


def _origins(config: RunConfig, manifest: Manifest, profile: Profile) -> list[str]:
    measured = profile.manifest
    return [
        "## Origin of the numbers",
        items(
            [
                "Measured in this run: every time and its split, hits, cache changes, image bytes, "
                "images.",
                "Emulated: users, their walks, channels and rates, the "
                f"requests (Zipf skews {', '.join(f'{s:g}' for s in config.workload.zipf_skews)}).",
                f"Looked up: quality is the profile's fitted {profile.quality_metric} curve at the "
                "steps given, normalised to 0..1; it is not scored on this run's images.",
                f"Profile: {config.profile}, device {measured.device}, of {measured.created_utc}, "
                f"scored by {profile.clip_scorer}.",
                *page.origin(manifest),
            ]
        ),
    ]
