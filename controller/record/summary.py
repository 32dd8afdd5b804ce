"""A run's numbers from its records: shares, means, quantiles. Pure; files are the report's."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from controller.cell.dynamics import CAUSES
from controller.record.request_log import RequestRecord


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """Some requests in numbers; a mean over none is nan."""

    num_requests: int
    num_served: int
    num_rejected: int
    num_failed: int
    num_retried: int
    """Served by the cloud after an edge node failed."""
    hit_frac: float
    """Share of the served requests that an edge node served from its cache."""
    utility: float
    """Mean over all requests; a rejected or failed one counts as no quality at the reference."""
    quality: float
    """Mean over the served ones."""
    num_steps: float
    """Mean over the served ones."""
    total_s: float
    """Mean over the served ones."""
    median_s: float
    p95_s: float
    by_cause: dict[str, float]
    """Mean of each of CAUSES over the served requests; they sum to total_s."""


def summarise(rows: Sequence[RequestRecord]) -> Summary:
    """Return the numbers of some requests."""
    served = [row for row in rows if row.status == "served"]
    totals = [row.total_s for row in served if row.total_s is not None]
    return Summary(
        num_requests=len(rows),
        num_served=len(served),
        num_rejected=sum(row.status == "rejected" for row in rows),
        num_failed=sum(row.status == "failed" for row in rows),
        num_retried=sum(row.num_tries > 1 for row in served),
        hit_frac=_mean([float(row.is_hit) for row in served]),
        utility=_mean([row.utility for row in rows]),
        quality=_mean([row.quality for row in served]),
        num_steps=_mean([row.num_steps for row in served]),
        total_s=_mean(totals),
        median_s=float(np.median(totals)) if totals else float("nan"),
        p95_s=float(np.quantile(totals, 0.95)) if totals else float("nan"),
        by_cause={cause: _mean([getattr(row, cause) for row in served]) for cause in CAUSES},
    )


def grouped(
    rows: Iterable[RequestRecord], key: Callable[[RequestRecord], tuple[str, ...]]
) -> dict[tuple[str, ...], list[RequestRecord]]:
    """Return the rows by key, keys sorted."""
    groups: dict[tuple[str, ...], list[RequestRecord]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return dict(sorted(groups.items()))


def _mean(values: Iterable[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")
