"""Emulated users: each a real gRPC client that asks, uploads, fetches, checks and reports.

Responsible for a request's way as its user sees it, on one monotonic clock. The air is emulated by
waiting: the upload here, the download by the node, which paces its bytes at the granted rate.
"""

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Self

from controller.cell.workload import Arrival
from controller.record.config import DeadlinesConfig
from protos.clients import ControllerClient, EdgeNodeClient
from protos.errors import EdgeError, GenerationError, NodeDownError, NotResidentError
from protos.messages import (
    Accepted,
    Done,
    GenerateRequest,
    Grant,
    ImageChunk,
    Outcome,
    Rejection,
    Role,
    Submission,
)

logger = logging.getLogger(__name__)

OnImage = Callable[[str, bytes], None]
"""Called with a request_id and its PNG."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """An image and what its node said of it."""

    data: bytes
    done: Done
    is_hit: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """How a request ended for its user: an image, a rejection or a failure."""

    fetched: Fetched | None = None
    grant: Grant | None = None
    refusal: str = ""


class User:
    """One user; use as ``async with User(...) as user``."""

    def __init__(
        self, controller: str, deadlines: DeadlinesConfig, *, slot_s: float, on_image: OnImage
    ) -> None:
        """Prepare a user of the controller at HOST:PORT."""
        self._deadlines = deadlines
        self._answer_s = slot_s + deadlines.call_s
        self._on_image = on_image
        self._stack = contextlib.AsyncExitStack()
        self._controller = ControllerClient(controller, deadline_s=deadlines.call_s)
        self._nodes: dict[str, EdgeNodeClient] = {}

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._controller)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def request(self, submission: Submission) -> Answer:
        """Get one image; report how it ended. Never raises an EdgeError: failures are answers."""
        began_s = time.perf_counter()
        try:
            answer = await self._ask(submission)
            if isinstance(answer, Rejection):
                return Answer(refusal=answer.detail)
            try:
                return await self._obtain(submission, answer, began_s)
            except (NodeDownError, NotResidentError) as error:
                if answer.role is not Role.EDGE:
                    raise
                logger.warning("%s", error, extra={"request_id": submission.request_id})
            again = await self._ask(submission)
            if isinstance(again, Rejection):
                return Answer(refusal=again.detail)
            return await self._obtain(submission, again, began_s)
        except EdgeError as error:
            return await self._report_failure(submission.request_id, error, began_s)

    async def _ask(self, submission: Submission) -> Grant | Rejection:
        async with contextlib.aclosing(
            self._controller.submit(submission, self._answer_s)
        ) as events:
            async for event in events:
                if isinstance(event, Grant | Rejection):
                    return event
        raise GenerationError("the controller ended the call without an answer")

    async def _obtain(self, submission: Submission, grant: Grant, began_s: float) -> Answer:
        granted_s = time.perf_counter()
        await asyncio.sleep(8 * submission.upload_bytes / grant.upload_rate_bps)
        uploaded_s = time.perf_counter()
        node = await self._node(grant)
        fetched = await fetch(node, submission, grant, self._deadlines.grant_s)
        total_s = time.perf_counter() - began_s
        self._on_image(submission.request_id, fetched.data)
        await self._controller.report(
            Outcome(
                request_id=submission.request_id,
                timings=fetched.done.timings,
                wait_s=granted_s - began_s,
                upload_s=uploaded_s - granted_s,
                total_s=total_s,
                image_bytes=len(fetched.data),
                sha256=fetched.done.sha256,
                is_hit=fetched.is_hit,
            )
        )
        return Answer(fetched=fetched, grant=grant)

    async def _report_failure(self, request_id: str, error: EdgeError, began_s: float) -> Answer:
        failure = f"{type(error).__name__}: {error}"
        logger.warning("%s", failure, extra={"request_id": request_id})
        outcome = Outcome(
            request_id=request_id, failure=failure, total_s=time.perf_counter() - began_s
        )
        with contextlib.suppress(EdgeError):  # ended already (refused, expired), or nobody there
            await self._controller.report(outcome)
        return Answer(refusal=failure)

    async def _node(self, grant: Grant) -> EdgeNodeClient:
        if grant.address not in self._nodes:
            self._nodes[grant.address] = await self._stack.enter_async_context(
                EdgeNodeClient(grant.address, deadline_s=self._deadlines.call_s, peer=grant.node_id)
            )
        return self._nodes[grant.address]


async def fetch(
    node: EdgeNodeClient, submission: Submission, grant: Grant, deadline_s: float
) -> Fetched:
    """Generate at the granted node and return the image, its digest checked.

    Raises:
        GenerationError: the stream ended early, or the digest is another's.
    """
    request = GenerateRequest(
        request_id=submission.request_id,
        model_id=submission.model_id,
        prompt=submission.prompt,
        num_steps=grant.num_steps,
        seed=submission.seed,
        rate_bps=grant.rate_bps,
        ticket=grant.ticket,
        upload_bytes=submission.upload_bytes,
    )
    data, done, is_hit = bytearray(), None, False
    async for event in node.generate(request, deadline_s=deadline_s):
        if isinstance(event, ImageChunk):
            data += event.data
        elif isinstance(event, Accepted):
            is_hit = event.is_hit
        elif isinstance(event, Done):
            done = event
    if done is None:
        raise GenerationError(f"{grant.node_id} ended the image of {submission.request_id!r} early")
    digest = hashlib.sha256(data).hexdigest()
    if digest != done.sha256:
        raise GenerationError(f"image of sha256 {done.sha256} arrived as {digest}")
    return Fetched(data=bytes(data), done=done, is_hit=is_hit)


async def emulate(
    arrivals: Iterable[Arrival],
    users: list[User],
    *,
    slot_s: float,
    upload_bytes: int,
) -> None:
    """Make every request at its time, counted from now; return when all have ended."""
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, arrival in enumerate(arrivals):
            due_s = began_s + (arrival.slot_index + arrival.offset_frac) * slot_s
            await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
            submission = Submission(
                request_id=f"r{number:05d}",
                user_id=f"user-{arrival.user}",
                model_id=arrival.model_id,
                prompt=arrival.prompt,
                seed=arrival.seed,
                upload_bytes=upload_bytes,
            )
            tasks.create_task(users[arrival.user].request(submission))
