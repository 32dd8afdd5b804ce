"""Requests between Submit and their end: waiting, observed, granted, closed.

Responsible for the promise that every request ends as exactly one record: rejected here, closed by
its user's report, or failed when its grant expires, its user goes away or the run ends. A slot's
decision (live.py keeps the clock) answers everything that waits. Belongs to the event loop.

A user whose edge node failed submits the same request again: it gets one more grant, at once, at
the cloud.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from controller.cell.dynamics import Ints, ModelTable, lost_utility, split_latency, utility
from controller.cell.observations import MISS, Allocation, SlotObservation, place
from controller.cell.radio import MIN_RATE_BPS, RadioCell, downlink_bps, uplink_bps
from controller.record.config import RunConfig
from controller.record.request_log import Ending, RequestLog, RequestRecord, now_utc
from controller.testbed.admission import broken_limit
from controller.testbed.registry import Registry
from protos import tickets
from protos.errors import DuplicateRequestError, InvalidRequestError
from protos.messages import (
    MAX_ID_CHARS,
    Grant,
    Outcome,
    Queued,
    Rejection,
    RejectionReason,
    Role,
    Submission,
    SubmitEvent,
    check_request_id,
)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Pending:
    """One request that waits for a slot."""

    submission: Submission
    since_s: float
    answer: asyncio.Future[Grant | Rejection]


@dataclass(slots=True)
class _Granted:
    """One request on its way."""

    submission: Submission
    grant: Grant
    num_tries: int
    expiry: asyncio.TimerHandle


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Observed:
    """The requests that a slot's decision is made for, in the order of its arrays."""

    frame: int
    slot: int
    requests: tuple[Submission, ...]
    edges: tuple[str, ...]
    """Node ids in the order of the arrays' node numbers."""
    arrays: SlotObservation


class Dispatcher:
    """Takes requests, answers them by the slot's allocation, records how they end."""

    def __init__(
        self,
        config: RunConfig,
        log: RequestLog,
        registry: Registry,
        cell: RadioCell,
        table: ModelTable,
        secret: bytes,
    ) -> None:
        self._config = config
        self._log = log
        self._registry = registry
        self._cell = cell
        self._table = table
        self._models = {name: index for index, name in enumerate(table.model_ids)}
        self._secret = secret
        self._pending: dict[str, _Pending] = {}
        self._granted: dict[str, _Granted] = {}
        self._ended: list[str] = []
        self._an_end = asyncio.Event()  # set whenever a request has ended
        self._counts = np.zeros(len(self._models), dtype=np.int64)
        self._observed: _Observed | None = None
        self._next = (0, 0)
        self._is_over = False

    def announce(self, frame: int, slot: int) -> None:
        """Say which slot's decision answers requests from now on."""
        self._next = (frame, slot)

    async def submit(self, submission: Submission) -> AsyncGenerator[SubmitEvent, None]:
        """Yield Queued, then Grant or Rejection; a request submitted again gets the latter only.

        Raises:
            InvalidRequestError: a limit is broken; the request is recorded as rejected.
            DuplicateRequestError: a request of that id waits, runs elsewhere or has ended.
        """
        check_request_id(submission.request_id)
        if self._log.find(submission.request_id):
            yield self._grant_again(submission)
            return
        self._open(submission)
        if rejection := self._refusal(submission):
            yield rejection
            return
        pending = _Pending(
            submission, time.perf_counter(), asyncio.get_running_loop().create_future()
        )
        self._pending[submission.request_id] = pending
        try:
            yield Queued(frame=self._next[0], slot=self._next[1])
            yield await pending.answer
        finally:
            if self._pending.pop(submission.request_id, None):
                self._close(submission.request_id, "failed", "its user left before the grant")

    def observe(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait now, one environment [1, request]."""
        waiting = tuple(self._pending.values())
        models = np.array([[self._models[one.submission.model_id] for one in waiting]], dtype=int)
        np.add.at(self._counts, models, 1)
        asks = np.ones(models.shape, dtype=bool)
        edges = tuple(self._registry.edges())
        holders = [self._registry.holders(model_id) for model_id in self._models]
        is_loaded = np.array([[[edge in some for some in holders] for edge in edges]])
        arrays = SlotObservation(
            table=self._table,
            bounds=self._config.allocation,
            num_nodes=max(1, len(edges)),
            asks=asks,
            models=models,
            nodes=place(models, asks, is_loaded) if edges else np.full_like(models, MISS),
            gains=np.array([[self._gain(one.submission.user_id) for one in waiting]]),
            waiting_s=np.array([[time.perf_counter() - one.since_s for one in waiting]]),
        )
        self._observed = _Observed(
            frame=frame,
            slot=slot,
            requests=tuple(one.submission for one in waiting),
            edges=edges,
            arrays=arrays,
        )
        return arrays

    def grant(self, allocation: Allocation) -> None:
        """Answer the observed requests; who has left meanwhile is skipped.

        Raises:
            ValueError: no slot was observed.
        """
        observed, self._observed = self._observed, None
        if observed is None:
            raise ValueError("grant needs an observe before it")
        for index, submission in enumerate(observed.requests):
            pending = self._pending.get(submission.request_id)
            if pending is None or pending.answer.cancelled():  # submit records that its user left
                continue
            del self._pending[submission.request_id]
            self._log.update(submission.request_id, frame=observed.frame, slot=observed.slot)
            node = observed.arrays.nodes[0, index]
            node_id = (
                self._registry.cloud(submission.model_id) if node == MISS else observed.edges[node]
            )
            if not node_id:
                served = f"no living node serves {submission.model_id!r}"
                detail = f"{served}: no edge node holds it, no cloud answers"
                rejection = self._reject(submission, RejectionReason.NO_NODE, detail)
                pending.answer.set_result(rejection)
                continue
            share, gain = allocation.shares[0, index], observed.arrays.gains[0, index]
            grant = self._grant(
                submission,
                node_id,
                int(allocation.num_steps[0, index]),
                down_bps=float(downlink_bps(self._config.radio, share, gain)),
                up_bps=float(uplink_bps(self._config.radio, share, gain)),
                num_tries=1,
            )
            pending.answer.set_result(grant)

    def report(self, outcome: Outcome) -> None:
        """Close a granted request as its user says it ended.

        Raises:
            InvalidRequestError: it has no grant (any more), or a time that is not one.
        """
        granted = self._granted.get(outcome.request_id)
        if granted is None:
            raise InvalidRequestError(f"request {outcome.request_id!r} is not running")
        clocks = {
            "wait_s": outcome.wait_s,
            "upload_s": outcome.upload_s,
            "total_s": outcome.total_s,
            **asdict(outcome.timings),
        }
        if not all(np.isfinite(value) and value >= 0 for value in clocks.values()):
            raise InvalidRequestError(f"seconds must be finite and >= 0, got {clocks}")
        if outcome.failure:
            self._close(
                outcome.request_id, "failed", outcome.failure, total_s=outcome.total_s or None
            )
            return
        latency = split_latency(
            outcome.total_s,
            wait_s=outcome.wait_s,
            upload_s=outcome.upload_s,
            timings=outcome.timings,
        )
        grant, model = granted.grant, self._models[granted.submission.model_id]
        quality = float(self._table.quality[model, grant.num_steps])
        first = self._log.find(outcome.request_id)
        self._close(
            outcome.request_id,
            "served",
            first.reason if first else "",
            **latency,
            image_bytes=outcome.image_bytes,
            sha256=outcome.sha256,
            is_hit=outcome.is_hit and grant.role is Role.EDGE,
            quality=quality,
            utility=utility(quality, latency["total_s"], self._config.utility),
        )

    def take_counts(self) -> Ints:
        """Return how often each model [model] was observed since the last call."""
        counts, self._counts = self._counts, np.zeros_like(self._counts)
        return counts

    def take_ended(self) -> tuple[RequestRecord, ...]:
        """Return the requests that ended since the last call."""
        ended, self._ended = self._ended, []
        return tuple(row for name in ended if (row := self._log.find(name)))

    def end(self) -> None:
        """Take no more requests; who still waits is rejected."""
        self._is_over = True
        pending_requests, self._pending = self._pending, {}
        for pending in pending_requests.values():
            detail = "the run ended before a slot answered"
            rejection = self._reject(pending.submission, RejectionReason.RUN_ENDED, detail)
            if not pending.answer.done():
                pending.answer.set_result(rejection)

    async def drained(self) -> None:
        """Return when no granted request runs: at the latest when their grants expire."""
        while self._granted:
            self._an_end.clear()
            await self._an_end.wait()

    def close(self, reason: str) -> int:
        """End everything that is still open as failed; return how many there were."""
        for granted in self._granted.values():
            granted.expiry.cancel()
        self._granted.clear()
        return self._log.close_all(reason, lost_utility(self._config.utility))

    def _open(self, submission: Submission) -> None:
        self._log.open(
            RequestRecord(
                request_id=submission.request_id,
                user_id=submission.user_id[:MAX_ID_CHARS],
                model_id=submission.model_id[:MAX_ID_CHARS],
                prompt=submission.prompt[: self._config.limits.max_prompt_chars],
                seed=min(submission.seed, 2**63 - 1),
                submitted_utc=now_utc(),
                upload_bytes=submission.upload_bytes,
            )
        )
        broken = broken_limit(submission, self._config.limits)
        if broken:
            self._close(submission.request_id, "rejected", broken)
            raise InvalidRequestError(broken)

    def _refusal(self, submission: Submission) -> Rejection | None:
        limit = self._config.limits.max_pending
        if self._is_over:
            reason, detail = RejectionReason.RUN_ENDED, "the run takes no more requests"
        elif submission.model_id not in self._models:
            reason = RejectionReason.UNKNOWN_MODEL
            known = ", ".join(self._models)
            detail = f"no model {submission.model_id[:MAX_ID_CHARS]!r}; the nodes serve: {known}"
        elif len(self._pending) >= limit:
            reason = RejectionReason.QUEUE_FULL
            detail = f"the queue is full: max_pending {limit}, got {len(self._pending)}"
        else:
            return None
        return self._reject(submission, reason, detail)

    def _reject(self, submission: Submission, reason: RejectionReason, detail: str) -> Rejection:
        self._close(submission.request_id, "rejected", detail)
        return Rejection(reason=reason, detail=detail)

    def _gain(self, user_id: str) -> float:
        """Return a user's channel gain; one who is not emulated has the typical one."""
        gains = self._cell.gains
        name, _, index = user_id.rpartition("-")
        if name == "user" and index.isdecimal() and int(index) < len(gains):
            return float(gains[int(index)])
        return self._cell.typical_gain

    def _grant(
        self,
        submission: Submission,
        node_id: str,
        num_steps: int,
        *,
        down_bps: float,
        up_bps: float,
        num_tries: int,
    ) -> Grant:
        life_s = self._config.deadlines.grant_s
        claims = tickets.Claims(
            request_id=submission.request_id,
            user_id=submission.user_id,
            node_id=node_id,
            model_id=submission.model_id,
            num_steps=num_steps,
            rate_bps=max(down_bps, MIN_RATE_BPS),
            expires_unix_s=datetime.now(UTC).timestamp() + life_s,
        )
        grant = Grant(
            node_id=node_id,
            address=self._registry.address(node_id),
            role=self._registry.role(node_id),
            num_steps=num_steps,
            rate_bps=claims.rate_bps,
            upload_rate_bps=max(up_bps, MIN_RATE_BPS),
            ticket=tickets.issue(claims, self._secret),
        )
        expired = f"the grant at {node_id} expired: no report within {life_s:g} s"
        expiry = asyncio.get_running_loop().call_later(
            life_s, self._close, submission.request_id, "failed", expired
        )
        self._granted[submission.request_id] = _Granted(submission, grant, num_tries, expiry)
        self._log.update(
            submission.request_id,
            node_id=node_id,
            role=grant.role.name.lower(),
            num_tries=num_tries,
            num_steps=num_steps,
            rate_bps=grant.rate_bps,
            upload_rate_bps=grant.upload_rate_bps,
        )
        return grant

    def _grant_again(self, submission: Submission) -> Grant | Rejection:
        granted = self._granted.get(submission.request_id)
        if (
            granted is None
            or granted.submission.user_id != submission.user_id
            or granted.grant.role is not Role.EDGE
        ):
            raise DuplicateRequestError(f"request {submission.request_id!r} was submitted before")
        granted.expiry.cancel()
        edge_id, first = granted.grant.node_id, granted.submission
        self._log.update(first.request_id, reason=f"{edge_id} did not serve it: sent to the cloud")
        cloud_id = self._registry.cloud(first.model_id)
        if not cloud_id:
            self._close(first.request_id, "failed", f"{edge_id} did not serve it, no cloud answers")
            return Rejection(
                reason=RejectionReason.NO_NODE,
                detail=f"no cloud that serves {first.model_id!r} answers",
            )
        self._registry.refresh(edge_id)
        return self._grant(
            first,
            cloud_id,
            int(self._table.max_num_steps[self._models[first.model_id]]),
            down_bps=granted.grant.rate_bps,
            up_bps=granted.grant.upload_rate_bps,
            num_tries=granted.num_tries + 1,
        )

    def _close(self, request_id: str, status: Ending, reason: str, **values: object) -> None:
        granted = self._granted.pop(request_id, None)
        if granted:
            granted.expiry.cancel()
            self._an_end.set()
        values.setdefault("utility", lost_utility(self._config.utility))
        if self._log.close(request_id, status, reason=reason, **values):
            self._ended.append(request_id)
            logger.info("%s: %s", status, reason or "-", extra={"request_id": request_id})
