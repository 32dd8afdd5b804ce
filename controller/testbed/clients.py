"""The client of a controller: every call with a deadline, every failure an EdgeError."""

from collections.abc import AsyncGenerator
from types import TracebackType
from typing import Self, cast

import grpc

from protos import controller_pb2 as pb
from protos.controller_pb2_grpc import ControllerServiceStub
from protos.messages import SUBMIT_EVENTS, Outcome, RunStatus, Submission, SubmitEvent
from protos.wire import OPTIONS, from_proto, raises_errors, to_proto, unpack_event


class ControllerClient:
    """Calls one controller; use as ``async with ControllerClient(address) as controller``."""

    def __init__(self, address: str, *, deadline_s: float = 10.0) -> None:
        self._address = address
        self._deadline_s = deadline_s
        self._peer = f"the controller at {address}"

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        self._stub = ControllerServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def submit(
        self, submission: Submission, deadline_s: float
    ) -> AsyncGenerator[SubmitEvent, None]:
        """Yield Queued, then Grant or Rejection; leaving early withdraws the request."""
        call = self._stub.Submit(to_proto(submission, pb.SubmitRequest), timeout=deadline_s)
        try:
            with raises_errors(self._peer):
                async for response in call:
                    yield cast("SubmitEvent", unpack_event(response, SUBMIT_EVENTS))
        finally:
            call.cancel()

    async def report(self, outcome: Outcome) -> None:
        """Say how a granted request ended."""
        with raises_errors(self._peer):
            await self._stub.ReportOutcome(
                to_proto(outcome, pb.ReportOutcomeRequest), timeout=self._deadline_s
            )

    async def run_status(self) -> RunStatus:
        """Return the run's state."""
        with raises_errors(self._peer):
            reply = await self._stub.GetRunStatus(
                pb.GetRunStatusRequest(), timeout=self._deadline_s
            )
        return from_proto(reply, RunStatus)
