"""Requests between Submit and their end: waiting, observed, granted, closed.

Owns the promise that every request ends as exactly one row: rejected here, closed by its user's
report, or failed when its grant expires, its user goes away or the run ends. A slot's decision
(live.py keeps the clock) answers everything that waits. Belongs to the event loop.

A user whose edge node failed submits the same request again: it gets one more grant, at once, at
the cloud.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from controller.cell.dynamics import ModelCurves, lost_utility, split_latency, utility
from controller.cell.radio import MIN_RATE_BPS, RadioCell
from controller.cell.spaces import Allocation, RequestObservation, SlotObservation
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


class Dispatcher:
    """Takes requests, answers them by the slot's allocation, records how they end."""

    def __init__(
        self,
        config: RunConfig,
        log: RequestLog,
        registry: Registry,
        cell: RadioCell,
        curves: Mapping[str, ModelCurves],
        secret: bytes,
    ) -> None:
        self._config = config
        self._log = log
        self._registry = registry
        self._cell = cell
        self._curves = curves
        self._secret = secret
        self._pending: dict[str, _Pending] = {}
        self._granted: dict[str, _Granted] = {}
        self._ended: list[str] = []
        self._counts: Counter[str] = Counter()
        self._next = (0, 0)
        self._is_over = False

    @property
    def num_running(self) -> int:
        """Requests granted and not ended."""
        return len(self._granted)

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
        rejection = self._refusal(submission)
        if rejection:
            self._close(submission.request_id, "rejected", rejection.detail)
            yield rejection
            return
        pending = _Pending(
            submission, time.perf_counter(), asyncio.get_running_loop().create_future()
        )
        self._pending[submission.request_id] = pending
        self._counts[submission.model_id] += 1
        try:
            yield Queued(frame=self._next[0], slot=self._next[1])
            yield await pending.answer
        finally:
            if self._pending.pop(submission.request_id, None):
                self._close(submission.request_id, "failed", "its user left before the grant")

    def observe(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait now."""
        load: Counter[str] = Counter()
        requests = []
        for pending in self._pending.values():
            holders = self._registry.holders(pending.submission.model_id)
            node_id = min(holders, key=lambda name: load[name], default="")
            load[node_id] += 1
            requests.append(self._observation(pending, node_id))
        bounds = self._config.allocation
        return SlotObservation(
            frame=frame,
            slot=slot,
            requests=tuple(requests),
            min_num_steps=bounds.min_num_steps,
            max_num_steps=bounds.max_num_steps,
            compute_budget_s=bounds.compute_budget_s,
        )

    def grant(self, observation: SlotObservation, allocation: Allocation) -> None:
        """Answer the observed requests; who has left meanwhile is skipped."""
        for request, share, num_steps in zip(
            observation.requests, allocation.shares, allocation.num_steps, strict=True
        ):
            pending = self._pending.pop(request.request_id, None)
            if pending is None or pending.answer.cancelled():
                continue
            self._log.update(request.request_id, frame=observation.frame, slot=observation.slot)
            node_id = request.node_id or self._registry.cloud(request.model_id)
            if not node_id:
                answer: Grant | Rejection = self._no_node(request.request_id, request.model_id)
            else:
                down_bps = float(self._cell.downlink_bps(share, request.gain))
                up_bps = float(self._cell.uplink_bps(share, request.gain))
                answer = self._grant(pending.submission, node_id, num_steps, down_bps, up_bps, 1)
            pending.answer.set_result(answer)

    def report(self, outcome: Outcome) -> None:
        """Close a granted request as its user says it ended.

        Raises:
            InvalidRequestError: it has no grant (any more), or a time that is not one.
        """
        granted = self._granted.get(outcome.request_id)
        if granted is None:
            raise InvalidRequestError(f"request {outcome.request_id!r} is not running")
        timings = outcome.timings
        times = [outcome.wait_s, outcome.upload_s, outcome.total_s]
        times += [timings.queue_s, timings.load_s, timings.generate_s, timings.backhaul_s]
        if not all(np.isfinite(value) and value >= 0 for value in times):
            raise InvalidRequestError(f"seconds must be finite and >= 0, got {times}")
        if outcome.failure:
            self._close(
                outcome.request_id, "failed", outcome.failure, total_s=outcome.total_s or None
            )
            return
        latency = split_latency(
            outcome.total_s, wait_s=outcome.wait_s, upload_s=outcome.upload_s, timings=timings
        )
        quality = self._curves[granted.submission.model_id].quality(granted.grant.num_steps)
        first = self._log.find(outcome.request_id)
        self._close(
            outcome.request_id,
            "served",
            first.reason if first else "",
            wait_s=latency.wait_s,
            upload_s=latency.upload_s,
            queue_s=latency.queue_s,
            load_s=latency.load_s,
            generate_s=latency.generate_s,
            backhaul_s=latency.backhaul_s,
            download_s=latency.download_s,
            total_s=latency.total_s,
            image_bytes=outcome.image_bytes,
            sha256=outcome.sha256,
            is_hit=outcome.is_hit and granted.grant.role is Role.EDGE,
            quality=quality,
            utility=utility(quality, latency.total_s, self._config.utility),
        )

    def take_counts(self) -> dict[str, int]:
        """Return how often each model was asked for since the last call."""
        counts, self._counts = dict(self._counts), Counter()
        return counts

    def take_ended(self) -> tuple[RequestRecord, ...]:
        """Return the requests that ended since the last call."""
        ended, self._ended = self._ended, []
        return tuple(row for name in ended if (row := self._log.find(name)))

    def end(self) -> None:
        """Take no more requests; who still waits is rejected."""
        self._is_over = True
        for pending in list(self._pending.values()):
            name = pending.submission.request_id
            rejection = Rejection(
                reason=RejectionReason.RUN_ENDED, detail="the run ended before a slot answered"
            )
            del self._pending[name]
            self._close(name, "rejected", rejection.detail)
            if not pending.answer.done():
                pending.answer.set_result(rejection)

    async def drained(self) -> None:
        """Return when no granted request runs: at the latest when their grants expire."""
        while self._granted:
            await asyncio.sleep(0.05)

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
        elif submission.model_id not in self._curves:
            reason = RejectionReason.UNKNOWN_MODEL
            known = ", ".join(self._curves)
            detail = f"no model {submission.model_id[:MAX_ID_CHARS]!r}; the nodes serve: {known}"
        elif len(self._pending) >= limit:
            reason = RejectionReason.QUEUE_FULL
            detail = f"the queue is full: max_pending {limit}, got {len(self._pending)}"
        else:
            return None
        return Rejection(reason=reason, detail=detail)

    def _observation(self, pending: _Pending, node_id: str) -> RequestObservation:
        submission = pending.submission
        curves = self._curves[submission.model_id]
        return RequestObservation(
            request_id=submission.request_id,
            user_id=submission.user_id,
            model_id=submission.model_id,
            node_id=node_id,
            gain=self._gain(submission.user_id),
            waiting_s=time.perf_counter() - pending.since_s,
            curve=curves.curve,
            step_s=curves.step_s,
            overhead_s=curves.overhead_s,
            image_bytes=curves.image_bytes,
        )

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
        down_bps: float,
        up_bps: float,
        num_tries: int,
    ) -> Grant:
        life_s = self._config.deadlines.grant_s
        num_steps = min(num_steps, self._curves[submission.model_id].max_num_steps)
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
        expiry = asyncio.get_running_loop().call_later(
            life_s, self._expire, submission.request_id, node_id
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
            self._config.allocation.max_num_steps,
            granted.grant.rate_bps,
            granted.grant.upload_rate_bps,
            granted.num_tries + 1,
        )

    def _no_node(self, request_id: str, model_id: str) -> Rejection:
        detail = f"no living node serves {model_id!r}: no edge node holds it, no cloud answers"
        self._close(request_id, "rejected", detail)
        return Rejection(reason=RejectionReason.NO_NODE, detail=detail)

    def _expire(self, request_id: str, node_id: str) -> None:
        life_s = self._config.deadlines.grant_s
        self._close(
            request_id, "failed", f"the grant at {node_id} expired: no report within {life_s:g} s"
        )

    def _close(self, request_id: str, status: Ending, reason: str, **values: object) -> None:
        granted = self._granted.pop(request_id, None)
        if granted:
            granted.expiry.cancel()
        values.setdefault("utility", lost_utility(self._config.utility))
        if self._log.close(request_id, status, reason=reason, **values):
            self._ended.append(request_id)
            logger.info("%s: %s", status, reason or "-", extra={"request_id": request_id})
