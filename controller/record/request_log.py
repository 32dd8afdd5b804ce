"""The run's records: ``requests.sqlite``, exactly one for each request.

Responsible for the file. A record is inserted open at Submit and closed once, as served, rejected
or failed with a reason; every change is committed at once, so a run that is killed keeps all of
them. One thread writes; readers may open the file at any time (WAL).
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

Ending = Literal["served", "rejected", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestRecord:
    """One request; the columns of the table ``requests``."""

    request_id: str
    """Chosen by the user; unique."""
    user_id: str
    """Who asked."""
    model_id: str
    """The model asked for."""
    prompt: str
    """The text asked for."""
    seed: int
    """Of the image's noise."""
    submitted_utc: str
    """When the controller took it, ISO 8601."""
    frame: int | None = None
    """Of the decision that answered it; None: it was never queued."""
    slot: int | None = None
    """As frame."""
    status: str = "open"
    """open, served, rejected or failed."""
    reason: str = ""
    """Why it was rejected or failed; of a served one, why its first try failed."""
    node_id: str = ""
    """Who served it, or was granted last."""
    role: str = ""
    """edge or cloud."""
    is_hit: bool = False
    """An edge node that held the model served it."""
    num_tries: int = 0
    """Grants it got: 2 after an edge node failed and the cloud took over."""
    num_steps: int | None = None
    """Granted denoising steps."""
    rate_bps: float | None = None
    """Granted downlink rate."""
    upload_rate_bps: float | None = None
    """Granted uplink rate."""
    upload_bytes: int = 0
    """Sent up with the request."""
    image_bytes: int | None = None
    """Size of the received image."""
    sha256: str = ""
    """Digest of the received image, hex."""
    wait_s: float | None = None
    """Until its slot's decision."""
    upload_s: float | None = None
    """Sending it up, at the granted rate."""
    queue_s: float | None = None
    """Waiting for the device."""
    load_s: float | None = None
    """Loading its model; 0 where the model was there."""
    generate_s: float | None = None
    """Text encoding, denoising steps, decoding, image encoding."""
    backhaul_s: float | None = None
    """The cloud's delay and rate, both ways; 0 at the edge."""
    download_s: float | None = None
    """Receiving the image, at the granted rate."""
    total_s: float | None = None
    """From Submit to the last byte; the sum of the causes."""
    quality: float | None = None
    """By the profile's curve at num_steps, 0..1; not measured on the image."""
    utility: float | None = None
    """w * quality - (1 - w) * total_s / reference latency; of a request that was not served: that
    of no quality at the reference latency."""
    image_path: str = ""
    """Inside the run folder; empty: not kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheRecord:
    """One node's part of a caching decision; the columns of the table ``caches``."""

    frame: int
    """Of the decision."""
    node_id: str
    """The edge node."""
    models: str
    """Decided models, comma between."""
    duration_s: float | None = None
    """Of SetCache: evictions and loads."""
    error: str = ""
    """Why it failed; empty: it did not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeRecord:
    """A node of the run; the columns of the table ``nodes``."""

    node_id: str
    """Its name."""
    address: str
    """HOST:PORT."""
    role: str
    """edge or cloud."""
    capacity_bytes: int
    """For resident models."""
    device: str
    """Where it computes."""
    is_alive: bool
    """When the row was last written."""


@dataclass(frozen=True, slots=True)
class Averages:
    """Means over a run's requests; 0 where there is none."""

    utility: float
    """Over every ended request."""
    hit_frac: float
    """Share of the served requests that an edge node served."""
    total_s: float
    """Of the served requests."""


def now_utc() -> str:
    """Return the time as records carry it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class RequestLog:
    """Writes and reads the records; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self._db = sqlite3.connect(self._path, isolation_level=None)  # every statement commits
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        for table, cls, key in _TABLES:
            columns = ", ".join(field.name for field in fields(cls))
            self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}, PRIMARY KEY ({key}))")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def open(self, row: RequestRecord) -> None:
        """Insert a request.

        Raises:
            ValueError: there is a row of that request_id.
        """
        try:
            self._insert("INSERT", "requests", row)
        except sqlite3.IntegrityError as error:
            raise ValueError(f"request {row.request_id!r} has a row already") from error

    def update(self, request_id: str, **values: Any) -> None:
        """Change columns of an open request; a closed one is left as it is."""
        self._change(request_id, values)

    def close(self, request_id: str, status: Ending, **values: Any) -> bool:
        """End an open request; return whether it was open."""
        return self._change(request_id, {"status": status, **values})

    def close_all(self, reason: str, utility: float) -> int:
        """End every open request as failed; return how many there were."""
        return self._db.execute(
            "UPDATE requests SET status='failed', reason=?, utility=? WHERE status='open'",
            (reason, utility),
        ).rowcount

    def attach_image(self, request_id: str, path: str) -> None:
        """Say where a request's image is kept."""
        self._db.execute("UPDATE requests SET image_path=? WHERE request_id=?", (path, request_id))

    def write_cache(self, row: CacheRecord) -> None:
        """Record a node's part of a caching decision; again, to complete it."""
        self._insert("INSERT OR REPLACE", "caches", row)

    def write_node(self, row: NodeRecord) -> None:
        """Record a node's state."""
        self._insert("INSERT OR REPLACE", "nodes", row)

    def find(self, request_id: str) -> RequestRecord | None:
        """Return one request."""
        rows = self._select(RequestRecord, "requests WHERE request_id=?", (request_id,))
        return rows[0] if rows else None

    def rows(self) -> list[RequestRecord]:
        """Return every request in the order of submission."""
        return self._select(RequestRecord, "requests ORDER BY rowid")

    def caches(self) -> list[CacheRecord]:
        """Return every caching decision."""
        return self._select(CacheRecord, "caches ORDER BY frame, node_id")

    def nodes(self) -> list[NodeRecord]:
        """Return every node."""
        return self._select(NodeRecord, "nodes ORDER BY rowid")

    def counts(self) -> dict[str, int]:
        """Return how many requests there are of each status."""
        found = self._db.execute("SELECT status, count(*) FROM requests GROUP BY status")
        return dict.fromkeys(("open", "served", "rejected", "failed"), 0) | dict(found)

    def averages(self) -> Averages:
        """Return the means so far."""
        found = self._db.execute(
            "SELECT avg(utility), avg(CASE status WHEN 'served' THEN is_hit END), "
            "avg(CASE status WHEN 'served' THEN total_s END) FROM requests"
        ).fetchone()
        return Averages(*(float(value or 0.0) for value in found))

    def _insert(self, verb: str, table: str, row: Any) -> None:
        names = [field.name for field in fields(row)]
        marks = ", ".join("?" * len(names))
        self._db.execute(
            f"{verb} INTO {table} ({', '.join(names)}) VALUES ({marks})",
            [getattr(row, name) for name in names],
        )

    def _change(self, request_id: str, values: dict[str, Any]) -> bool:
        unknown = values.keys() - {field.name for field in fields(RequestRecord)}
        if unknown:
            raise ValueError(f"requests has no column {sorted(unknown)}")
        settings = ", ".join(f"{name}=?" for name in values)
        done = self._db.execute(
            f"UPDATE requests SET {settings} WHERE request_id=? AND status='open'",
            [*values.values(), request_id],
        )
        return done.rowcount == 1

    def _select(self, cls: type[Any], clause: str, values: Sequence[Any] = ()) -> list[Any]:
        names = [field.name for field in fields(cls)]
        flags = {field.name for field in fields(cls) if field.type is bool}
        return [
            cls(
                **{
                    name: bool(value) if name in flags else value
                    for name, value in zip(names, row, strict=True)
                }
            )
            for row in self._db.execute(f"SELECT {', '.join(names)} FROM {clause}", values)
        ]


_TABLES: tuple[tuple[str, type[Any], str], ...] = (
    ("requests", RequestRecord, "request_id"),
    ("caches", CacheRecord, "frame, node_id"),
    ("nodes", NodeRecord, "node_id"),
)
