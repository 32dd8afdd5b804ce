"""The node behind gRPC: converts messages, bounds time, and nothing else."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc

from edge_node.node import Node
from protos import edge_node_pb2 as pb
from protos.edge_node_pb2_grpc import EdgeNodeServiceServicer
from protos.errors import DeadlineError
from protos.messages import GENERATE_EVENTS, CacheChange, GenerateRequest
from protos.wire import answers_errors, from_proto, pack_event, require_deadline, to_proto

Context: TypeAlias = grpc.aio.ServicerContext


class EdgeNodeServicer(EdgeNodeServiceServicer):
    """EdgeNodeService over a Node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    @answers_errors
    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> object:
        """Answer with the catalog."""
        models = [to_proto(model, pb.ModelInfo) for model in self._node.cache.infos()]
        return pb.ListModelsResponse(models=models)

    @answers_errors
    async def LoadModel(self, request: pb.LoadModelRequest, context: Context) -> object:
        """Make a model resident."""
        model = await self._node.cache.load(request.model_id)
        return pb.LoadModelResponse(model=to_proto(model, pb.ModelInfo))

    @answers_errors
    async def EvictModel(self, request: pb.EvictModelRequest, context: Context) -> object:
        """Release a model."""
        return to_proto(await self._node.cache.evict(request.model_id), pb.EvictModelResponse)

    @answers_errors
    async def SetCache(self, request: pb.SetCacheRequest, context: Context) -> object:
        """Apply a caching decision."""
        cache = self._node.cache
        took_s = await cache.set_cache(request.model_ids)
        change = CacheChange(models=cache.infos(), used_bytes=cache.used_bytes, duration_s=took_s)
        return to_proto(change, pb.SetCacheResponse)

    @answers_errors
    async def Generate(
        self, request: pb.GenerateRequest, context: Context
    ) -> AsyncIterator[object]:
        """Stream one image's events."""
        limit_s = self._node.config.limits.max_request_s
        remaining_s = await require_deadline(context, limit_s)
        deadline_s = time.perf_counter() + remaining_s
        events = self._node.generate(from_proto(request, GenerateRequest), deadline_s)
        try:
            async with asyncio.timeout(remaining_s), contextlib.aclosing(events):
                async for event in events:
                    yield pack_event(event, pb.GenerateResponse, GENERATE_EVENTS)
        except TimeoutError as error:
            raise DeadlineError(
                f"request {request.request_id!r} took longer than its {remaining_s:.3g} s"
            ) from error

    @answers_errors
    async def UpdateAllocation(
        self, request: pb.UpdateAllocationRequest, context: Context
    ) -> object:
        """Change a running request's rate."""
        self._node.update_allocation(request.request_id, request.rate_bps)
        return pb.UpdateAllocationResponse()

    @answers_errors
    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> object:
        """Answer with the node's state."""
        return to_proto(self._node.status(), pb.GetStatusResponse)
