"""The live testbed: real nodes, real requests, a slot clock.

Responsible for the clock and the order of a slot: the channels move, what waits is observed, the
allocation is granted. Requests made during a slot are answered when the next one begins, so their
wait ends there. The first frame's models are loaded before the clock starts; later loads run beside
the slots, and their models miss until they are there.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

import numpy as np

from controller.cell.dynamics import Ints, ModelTable
from controller.cell.observations import Allocation, Bools, FrameObservation, SlotObservation
from controller.cell.radio import RadioCell
from controller.record.config import RunConfig
from controller.record.request_log import CacheRecord, RequestLog, RequestRecord
from controller.testbed.dispatcher import Dispatcher
from controller.testbed.registry import Registry
from protos.errors import EdgeError
from protos.messages import NodeStatus, RunStatus

logger = logging.getLogger(__name__)


class LiveTestbed:
    """Testbed over a registry, a dispatcher and the wall clock."""

    __test__: ClassVar[bool] = False

    def __init__(
        self,
        config: RunConfig,
        *,
        registry: Registry,
        dispatcher: Dispatcher,
        cell: RadioCell,
        table: ModelTable,
        log: RequestLog,
    ) -> None:
        self._config = config
        self._registry = registry
        self._dispatcher = dispatcher
        self._cell = cell
        self._table = table
        self._log = log
        self._edges: tuple[str, ...] = ()  # node ids in the order of the arrays
        self._counts: deque[Ints] = deque(
            [np.zeros(len(table.model_ids), dtype=np.int64)] * config.history_frames,
            maxlen=config.history_frames,
        )
        self._changes: dict[str, asyncio.Task[None]] = {}  # by node, the latest
        self._frame = self._slot = 0
        self._began_s = 0.0
        self.begun = asyncio.Event()
        """Set when the clock starts: slot 0 collects requests from then on."""

    @property
    def left_s(self) -> float:
        """Seconds until the last slot has ended."""
        elapsed_s = time.perf_counter() - self._began_s if self.begun.is_set() else 0.0
        return max(0.0, (self._config.num_slots + 1) * self._config.slot_s - elapsed_s)

    async def observe_frame(self, frame: int) -> FrameObservation:
        """Return what is known at the start of a frame; waits for it."""
        if frame:
            await self._boundary(frame * self._config.slots_per_frame)
            self._counts.append(self._dispatcher.take_counts())
        self._frame = frame
        edges = self._registry.edges()
        self._edges = tuple(edges)
        held = [self._registry.expected(node_id) for node_id in edges]
        caches = np.array([[name in models for name in self._table.model_ids] for models in held])
        return FrameObservation(
            frame=frame,
            table=_measured(self._table, edges.values()),
            request_counts=np.stack(self._counts)[None],
            caches=caches.reshape(1, len(edges), len(self._table.model_ids)).astype(bool),
            capacity_bytes=np.array(
                [status.capacity_bytes for status in edges.values()], dtype=np.int64
            ),
        )

    async def apply_caches(self, caches: Bools) -> None:
        """Send the decision to the nodes; only the first one is waited for."""
        names = self._table.model_ids
        for node_id, held in zip(self._edges, caches[0], strict=True):
            models = tuple(names[model] for model in np.flatnonzero(held))
            self._registry.expect(node_id, models)
            change = self._change_cache(self._frame, node_id, models, self._changes.get(node_id))
            self._changes[node_id] = asyncio.create_task(change)
        if not self.begun.is_set():
            await asyncio.gather(*self._changes.values())
            self._began_s = time.perf_counter()
            self.begun.set()

    async def observe_slot(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait when the slot begins; waits for it."""
        index = frame * self._config.slots_per_frame + slot
        self._dispatcher.announce(frame, slot)
        await self._boundary(index)
        following = divmod(index + 1, self._config.slots_per_frame)
        self._dispatcher.announce(*following)
        self._frame, self._slot = frame, slot
        self._cell.step(self._config.slot_s)
        return self._dispatcher.observe(frame, slot)

    async def apply_allocations(self, allocation: Allocation) -> None:
        """Grant the observed requests their share and steps.

        Raises:
            ValueError: no slot was observed.
        """
        self._dispatcher.grant(allocation)

    async def collect_outcomes(self) -> tuple[RequestRecord, ...]:
        """Return the requests that ended since the last call."""
        return self._dispatcher.take_ended()

    async def close(self) -> None:
        """Let running cache changes end."""
        await asyncio.gather(*self._changes.values(), return_exceptions=True)

    def run_status(self) -> RunStatus:
        """Return the run at this moment."""
        counts = self._log.counts()
        return RunStatus(
            frame=self._frame,
            num_frames=self._config.num_frames,
            slot=self._slot,
            num_served=counts["served"],
            num_rejected=counts["rejected"],
            num_failed=counts["failed"],
            num_open=counts["open"],
            mean_utility=self._log.averages().utility,
            nodes=self._registry.summaries(),
        )

    async def _boundary(self, index: int) -> None:
        """Wait until slot ``index`` begins: one slot after the clock, for requests to come."""
        due_s = self._began_s + (index + 1) * self._config.slot_s
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))

    async def _change_cache(
        self,
        frame: int,
        node_id: str,
        models: tuple[str, ...],
        before: asyncio.Task[None] | None,
    ) -> None:
        if before:
            await asyncio.wait([before])
        row = CacheRecord(frame=frame, node_id=node_id, models=",".join(models))
        self._log.write_cache(row)
        began_s = time.perf_counter()
        error_text = ""
        try:
            await self._registry.set_cache(node_id, models)
        except EdgeError as error:
            error_text = f"{type(error).__name__}: {error}"
            logger.warning("SetCache: %s", error_text, extra={"node_id": node_id, "frame": frame})
        self._log.write_cache(
            CacheRecord(
                frame=frame,
                node_id=node_id,
                models=row.models,
                duration_s=time.perf_counter() - began_s,
                error=error_text,
            )
        )


def _measured(table: ModelTable, statuses: Collection[NodeStatus]) -> ModelTable:
    """Return the table with the bytes and load times that the nodes measured, where they have."""
    resident_bytes, load_s = table.resident_bytes.copy(), table.load_s.copy()
    for index, name in enumerate(table.model_ids):
        infos = [info for status in statuses for info in status.models if info.model_id == name]
        sizes = [info.resident_bytes for info in infos if info.resident_bytes]
        loads = [info.load_s for info in infos if info.load_s is not None]
        resident_bytes[index] = max(sizes, default=resident_bytes[index])
        load_s[index] = max(loads, default=load_s[index])
    return replace(table, resident_bytes=resident_bytes, load_s=load_s)
