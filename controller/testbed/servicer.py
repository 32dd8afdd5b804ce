"""The controller behind gRPC: converts messages, listens, and nothing else."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import grpc

from controller.testbed.dispatcher import Dispatcher
from controller.testbed.registry import Registry
from protos import controller_pb2 as pb
from protos.controller_pb2_grpc import (
    ControllerServiceServicer,
    add_ControllerServiceServicer_to_server,
)
from protos.messages import SUBMIT_EVENTS, NodeStatus, Outcome, Role, RunStatus, Submission
from protos.serving import Listening, listening
from protos.wire import answers_errors, from_proto, pack_event, to_proto

Context: TypeAlias = grpc.aio.ServicerContext


class ControllerServicer(ControllerServiceServicer):
    """ControllerService over a registry and a dispatcher."""

    def __init__(
        self, registry: Registry, dispatcher: Dispatcher, run_status: Callable[[], RunStatus]
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._run_status = run_status

    @answers_errors
    async def RegisterNode(self, request: pb.RegisterNodeRequest, context: Context) -> object:
        """Add a node."""
        role = Role.CLOUD if request.role == Role.CLOUD.value else Role.EDGE
        await self._registry.register(request.node_id, request.address, role)
        await self._registry.poll(request.node_id)
        return pb.RegisterNodeResponse(heartbeat_interval_s=self._registry.heartbeat_interval_s)

    @answers_errors
    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Context) -> object:
        """Note that a node lives."""
        self._registry.heartbeat(request.node_id, from_proto(request.status, NodeStatus))
        return pb.HeartbeatResponse()

    @answers_errors
    async def Submit(self, request: pb.SubmitRequest, context: Context) -> AsyncIterator[object]:
        """Queue a request and answer it when its slot is decided."""
        submission = from_proto(request, Submission)
        async with contextlib.aclosing(self._dispatcher.submit(submission)) as events:
            async for event in events:
                yield pack_event(event, pb.SubmitResponse, SUBMIT_EVENTS)

    @answers_errors
    async def ReportOutcome(self, request: pb.ReportOutcomeRequest, context: Context) -> object:
        """Close a request."""
        self._dispatcher.report(from_proto(request, Outcome))
        return pb.ReportOutcomeResponse()

    @answers_errors
    async def GetRunStatus(self, request: pb.GetRunStatusRequest, context: Context) -> object:
        """Answer with the run's state."""
        return to_proto(self._run_status(), pb.GetRunStatusResponse)


def serving(address: str, servicer: ControllerServicer) -> AbstractAsyncContextManager[Listening]:
    """Serve the controller at HOST:PORT while the block runs.

    Raises:
        ConfigError: the address cannot be bound; it is named.
    """
    return listening(
        address,
        pb.DESCRIPTOR.services_by_name["ControllerService"].full_name,
        lambda server: add_ControllerServiceServicer_to_server(servicer, server),
    )
