"""The client of an edge node or cloud: every call with a deadline, every failure an EdgeError."""

from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self, cast

import grpc

from protos import edge_node_pb2 as pb
from protos.edge_node_pb2_grpc import EdgeNodeServiceStub
from protos.messages import (
    GENERATE_EVENTS,
    CacheChange,
    Eviction,
    GenerateEvent,
    GenerateRequest,
    ModelInfo,
    NodeStatus,
)
from protos.wire import OPTIONS, from_proto, raises_errors, to_proto, unpack_event


class EdgeNodeClient:
    """Calls one node; use as ``async with EdgeNodeClient(address) as node``."""

    def __init__(self, address: str, *, deadline_s: float = 10.0, peer: str = "") -> None:
        """Prepare a client; nothing is connected yet.

        Args:
            address: HOST:PORT of the node.
            deadline_s: of every call that names none of its own.
            peer: how errors name the node; its address by default.
        """
        self._address = address
        self._deadline_s = deadline_s
        self._peer = f"{peer} at {address}" if peer else f"the node at {address}"

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address, options=OPTIONS)
        self._stub = EdgeNodeServiceStub(self._channel)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._channel.close()

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Return the node's catalog with each model's state."""
        with raises_errors(self._peer):
            reply = await self._stub.ListModels(pb.ListModelsRequest(), timeout=self._deadline_s)
        return tuple(from_proto(model, ModelInfo) for model in reply.models)

    async def load_model(self, model_id: str, deadline_s: float | None = None) -> ModelInfo:
        """Make a model resident and return its measured state."""
        with raises_errors(self._peer):
            reply = await self._stub.LoadModel(
                pb.LoadModelRequest(model_id=model_id), timeout=deadline_s or self._deadline_s
            )
        return from_proto(reply.model, ModelInfo)

    async def evict_model(self, model_id: str, deadline_s: float | None = None) -> Eviction:
        """Release a model's memory, once the requests that use it have ended."""
        with raises_errors(self._peer):
            reply = await self._stub.EvictModel(
                pb.EvictModelRequest(model_id=model_id), timeout=deadline_s or self._deadline_s
            )
        return from_proto(reply, Eviction)

    async def set_cache(
        self, model_ids: Sequence[str], deadline_s: float | None = None
    ) -> CacheChange:
        """Make exactly these models resident."""
        with raises_errors(self._peer):
            reply = await self._stub.SetCache(
                pb.SetCacheRequest(model_ids=model_ids), timeout=deadline_s or self._deadline_s
            )
        return from_proto(reply, CacheChange)

    async def generate(
        self, request: GenerateRequest, deadline_s: float | None = None
    ) -> AsyncIterator[GenerateEvent]:
        """Yield the request's events: Accepted, Progress..., ImageChunk..., Done.

        Leaving the iteration early cancels the request on the node.
        """
        call = self._stub.Generate(
            to_proto(request, pb.GenerateRequest), timeout=deadline_s or self._deadline_s
        )
        try:
            with raises_errors(self._peer):
                async for response in call:
                    yield cast("GenerateEvent", unpack_event(response, GENERATE_EVENTS))
        finally:
            call.cancel()

    async def update_allocation(self, request_id: str, rate_bps: float) -> None:
        """Change a running request's granted rate."""
        request = pb.UpdateAllocationRequest(request_id=request_id, rate_bps=rate_bps)
        with raises_errors(self._peer):
            await self._stub.UpdateAllocation(request, timeout=self._deadline_s)

    async def status(self, deadline_s: float | None = None) -> NodeStatus:
        """Return the node's state, cache and telemetry."""
        with raises_errors(self._peer):
            reply = await self._stub.GetStatus(
                pb.GetStatusRequest(), timeout=deadline_s or self._deadline_s
            )
        return from_proto(reply, NodeStatus)
