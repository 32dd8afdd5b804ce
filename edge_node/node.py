"""A request's way through the node: admission, lease, queue, denoising, backhaul, paced bytes.

Responsible for the order of these and the timings by cause. Not: sockets. Every request ends here
as exactly one of: Done, or one EdgeError; leaving the iteration early frees the device at the next
denoising step.
"""

import asyncio
import contextlib
import hashlib
import logging
import math
import time
from collections.abc import AsyncGenerator

import numpy as np
from numpy.typing import NDArray

from edge_node.admission import Admission, check_rate
from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog
from edge_node.config import NodeConfig
from edge_node.downlink import Downlink
from edge_node.engine.interface import Engine, Started, StepDone, as_image, png
from edge_node.telemetry import TelemetryReader
from protos import messages
from protos.errors import (
    DuplicateRequestError,
    EdgeError,
    InvalidRequestError,
    NodeDownError,
    OverloadedError,
)

logger = logging.getLogger(__name__)

_SMALL_IMAGE_BYTES = 2**14
"""Of the pixels of an image that is encoded in a quarter of a millisecond."""


class Node:
    """One edge node or cloud, without its sockets."""

    def __init__(
        self, config: NodeConfig, catalog: Catalog, engine: Engine, secret: bytes | None = None
    ) -> None:
        self.config = config
        self.cache = ModelCache(config.cache, catalog, engine)
        self._catalog = catalog
        self._engine = engine
        self._admission = Admission(config.limits, catalog, config.node_id, secret)
        self._telemetry = TelemetryReader(engine.device_name, engine.device_uuid)
        self._downlinks: dict[str, Downlink] = {}  # by request_id, of every active request
        self._waiting: set[str] = set()  # request_ids that have not had a turn on the device
        self._state = messages.NodeState.SERVING

    async def start(self) -> None:
        """Prepare the catalog's models; make them all resident on a cloud."""
        for entry in self._catalog:
            try:
                await self._engine.prepare(entry)
            except EdgeError as error:  # its load will say so too
                logger.warning("%s", error)
        if self.config.role == "cloud":
            await self.cache.set_cache(entry.model_id for entry in self._catalog)

    async def generate(
        self, request: messages.GenerateRequest, deadline_s: float = math.inf
    ) -> AsyncGenerator[messages.GenerateEvent, None]:
        """Yield the request's events, Accepted first and Done last.

        Args:
            request: what is asked for.
            deadline_s: when it must be done, on the clock of ``time.perf_counter``.
        """
        arrived_s = started_s = time.perf_counter()
        self._check_open(request.request_id)
        job = self._admission.admit(request, deadline_s)
        downlink = self._downlinks[job.request_id] = Downlink(request.rate_bps)
        queue_depth = len(self._waiting)
        self._waiting.add(job.request_id)
        try:
            async with self.cache.ready(job.model_id) as load_s:
                yield messages.Accepted(seed=job.seed, queue_depth=queue_depth, is_hit=load_s == 0)
                backhaul_s = await self._backhaul(request.upload_bytes)
                async with contextlib.aclosing(self._engine.generate(job)) as events:
                    async for event in events:
                        if isinstance(event, Started):
                            started_s, energy_j = event.at_s, self._telemetry.energy_j()
                            self._waiting.discard(job.request_id)
                        elif isinstance(event, StepDone):
                            yield messages.Progress(step=event.step, num_steps=job.num_steps)
            image = as_image(event)
            data = await _encoded(image.pixels)
            generated_s = time.perf_counter()
            share_frac = min(1.0, image.device_s / (generated_s - started_s))
            energy_j = _energy_j(energy_j, self._telemetry.energy_j(), share_frac)
            down_s = await self._backhaul(len(data))
            async for chunk in downlink.chunks(data):
                yield chunk
            timings = messages.Timings(
                queue_s=max(0.0, started_s - arrived_s - load_s - backhaul_s),
                load_s=load_s,
                generate_s=generated_s - started_s,
                backhaul_s=backhaul_s + down_s,
            )
            logger.info(
                "%s: %d steps in %.3f s",
                *(job.model_id, job.num_steps, timings.generate_s),
                extra={"request_id": job.request_id, "node_id": self.config.node_id},
            )
            yield messages.Done(
                timings=timings,
                media_type="image/png",
                total_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                width_px=job.width_px,
                height_px=job.height_px,
                energy_j=energy_j,
            )
        finally:
            self._waiting.discard(job.request_id)
            del self._downlinks[job.request_id]

    def update_allocation(self, request_id: str, rate_bps: float) -> None:
        """Change the rate of an active request, also in mid-transfer.

        Raises:
            InvalidRequestError: no such active request, or no rate.
        """
        check_rate(rate_bps)
        if request_id not in self._downlinks:
            raise InvalidRequestError(f"request {request_id!r} is not active on this node")
        self._downlinks[request_id].rate_bps = rate_bps

    def status(self) -> messages.NodeStatus:
        """Return the node's state, cache and telemetry."""
        return messages.NodeStatus(
            node_id=self.config.node_id,
            role=messages.Role[self.config.role.upper()],
            state=self._state,
            capacity_bytes=self.cache.capacity_bytes,
            used_bytes=self.cache.used_bytes,
            queue_depth=len(self._waiting),
            num_active=len(self._downlinks),
            models=self.cache.infos(),
            telemetry=self._telemetry.read(),
        )

    def begin_drain(self) -> None:
        """Refuse new requests from now on."""
        self._state = messages.NodeState.DRAINING

    async def drained(self) -> None:
        """Return when no request is active."""
        while self._downlinks:
            await asyncio.sleep(0.02)

    async def close(self) -> None:
        """Release every model and the device."""
        await self._engine.close()

    def _check_open(self, request_id: str) -> None:
        if self._state is messages.NodeState.DRAINING:
            raise NodeDownError(f"node {self.config.node_id!r} is draining")
        if request_id in self._downlinks:
            raise DuplicateRequestError(f"request {request_id!r} is running on this node")
        limit = self.config.limits.max_queue
        if len(self._waiting) >= limit:
            raise OverloadedError(f"the queue is full: max_queue {limit}, got {len(self._waiting)}")

    async def _backhaul(self, num_bytes: int) -> float:
        """Wait one way over the cloud's backhaul; return its seconds, 0 on an edge."""
        if self.config.role != "cloud":
            return 0.0
        began_s = time.perf_counter()
        backhaul = self.config.backhaul
        await asyncio.sleep(backhaul.delay_s + 8 * num_bytes / backhaul.rate_bps)
        return time.perf_counter() - began_s


async def _encoded(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image as PNG, encoded in a thread where that takes longer than to go there."""
    if pixels.nbytes <= _SMALL_IMAGE_BYTES:
        return png(pixels)
    return await asyncio.to_thread(png, pixels)


def _energy_j(before: float | None, after: float | None, share_frac: float) -> float | None:
    """Return an image's part of what the device spent while it was made."""
    return None if before is None or after is None else share_frac * (after - before)
