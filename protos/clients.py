"""The clients of nodes and controllers: every call with a deadline, every failure an EdgeError.

Responsible for channels, deadlines and conversion. Not: retries, and what an answer means.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from protos import controller_pb2, edge_node_pb2, messages
from protos.controller_pb2_grpc import ControllerServiceStub
from protos.edge_node_pb2_grpc import EdgeNodeServiceStub
from protos.wire import OPTIONS, from_proto, raises_errors, to_proto, unpack_event


class _Client:
    """One channel, open while the ``async with`` block runs."""

    def __init__(
        self, stub: Callable[[grpc.aio.Channel], Any], address: str, peer: str, deadline_s: float
    ) -> None:
        self._make_stub = stub
        self._address = address
        self._deadline_s = deadline_s
        self._peer = f"{peer or 'the node'} at {address}"

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        self._stub = self._make_stub(self._channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def _call(self, name: str, request: Message, deadline_s: float | None = None) -> Any:
        with raises_errors(self._peer):
            return await getattr(self._stub, name)(request, timeout=deadline_s or self._deadline_s)

    async def _stream(
        self, name: str, request: Message, deadline_s: float | None, kinds: dict[str, type]
    ) -> AsyncGenerator[Any, None]:
        call = getattr(self._stub, name)(request, timeout=deadline_s or self._deadline_s)
        try:
            with raises_errors(self._peer):
                async for response in call:
                    yield unpack_event(response, kinds)
        finally:
            call.cancel()


class EdgeNodeClient(_Client):
    """Calls one node; use as ``async with EdgeNodeClient(address) as node``."""

    def __init__(self, address: str, *, deadline_s: float = 10.0, peer: str = "") -> None:
        """Prepare to call HOST:PORT; ``peer`` is how errors name it, its address by default."""
        super().__init__(EdgeNodeServiceStub, address, peer, deadline_s)

    async def list_models(self) -> tuple[messages.ModelInfo, ...]:
        """Return the node's catalog with each model's state."""
        reply = await self._call("ListModels", edge_node_pb2.ListModelsRequest())
        return tuple(from_proto(model, messages.ModelInfo) for model in reply.models)

    async def load_model(
        self, model_id: str, deadline_s: float | None = None
    ) -> messages.ModelInfo:
        """Make a model resident and return its measured state."""
        request = edge_node_pb2.LoadModelRequest(model_id=model_id)
        return from_proto(
            (await self._call("LoadModel", request, deadline_s)).model, messages.ModelInfo
        )

    async def evict_model(
        self, model_id: str, deadline_s: float | None = None
    ) -> messages.Eviction:
        """Release a model's memory, once the requests that use it have ended."""
        request = edge_node_pb2.EvictModelRequest(model_id=model_id)
        return from_proto(await self._call("EvictModel", request, deadline_s), messages.Eviction)

    async def set_cache(
        self, model_ids: Sequence[str], deadline_s: float | None = None
    ) -> messages.CacheChange:
        """Make exactly these models resident."""
        request = edge_node_pb2.SetCacheRequest(model_ids=model_ids)
        return from_proto(await self._call("SetCache", request, deadline_s), messages.CacheChange)

    def generate(
        self, request: messages.GenerateRequest, deadline_s: float | None = None
    ) -> AsyncGenerator[messages.GenerateEvent, None]:
        """Yield the request's events: Accepted, Progress..., ImageChunk..., Done.

        Leaving the iteration early cancels the request on the node.
        """
        message = to_proto(request, edge_node_pb2.GenerateRequest)
        return self._stream("Generate", message, deadline_s, messages.GENERATE_EVENTS)

    async def update_allocation(self, request_id: str, rate_bps: float) -> None:
        """Change a running request's granted rate."""
        request = edge_node_pb2.UpdateAllocationRequest(request_id=request_id, rate_bps=rate_bps)
        await self._call("UpdateAllocation", request)

    async def status(self, deadline_s: float | None = None) -> messages.NodeStatus:
        """Return the node's state, cache and telemetry."""
        request = edge_node_pb2.GetStatusRequest()
        return from_proto(await self._call("GetStatus", request, deadline_s), messages.NodeStatus)


class ControllerClient(_Client):
    """Calls one controller; use as ``async with ControllerClient(address) as controller``."""

    def __init__(self, address: str, *, deadline_s: float = 10.0) -> None:
        super().__init__(ControllerServiceStub, address, "the controller", deadline_s)

    async def register(self, node_id: str, address: str, role: messages.Role) -> float:
        """Let a node join; return the seconds between the heartbeats that it is to send."""
        request = controller_pb2.RegisterNodeRequest(
            node_id=node_id, address=address, role=f"ROLE_{role.name}"
        )
        reply = await self._call("RegisterNode", request)
        return float(reply.heartbeat_interval_s)

    async def heartbeat(self, node_id: str, status: messages.NodeStatus) -> None:
        """Tell that a node lives, and its state."""
        message = to_proto(status, edge_node_pb2.GetStatusResponse)
        request = controller_pb2.HeartbeatRequest(node_id=node_id, status=message)
        await self._call("Heartbeat", request)

    def submit(
        self, submission: messages.Submission, deadline_s: float
    ) -> AsyncGenerator[messages.SubmitEvent, None]:
        """Yield Queued, then Grant or Rejection; leaving early withdraws the request."""
        message = to_proto(submission, controller_pb2.SubmitRequest)
        return self._stream("Submit", message, deadline_s, messages.SUBMIT_EVENTS)

    async def report(self, outcome: messages.Outcome) -> None:
        """Tell how a granted request ended."""
        await self._call("ReportOutcome", to_proto(outcome, controller_pb2.ReportOutcomeRequest))

    async def run_status(self) -> messages.RunStatus:
        """Return the run's state."""
        request = controller_pb2.GetRunStatusRequest()
        return from_proto(await self._call("GetRunStatus", request), messages.RunStatus)
