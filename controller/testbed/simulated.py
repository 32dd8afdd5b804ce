"""The simulator as a testbed: the same calls as the live system, answered at once.

Responsible for the records of simulated requests. Users and nodes are named as in the live system
("user-3", "edge-0"). Not: simulating.
"""

from typing import Any, ClassVar

import numpy as np

from controller.cell.dynamics import CAUSES, ModelTable
from controller.cell.observations import MISS, Allocation, Bools, FrameObservation, SlotObservation
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Outcomes, Simulator
from controller.record.request_log import RequestRecord


class SimulatedTestbed:
    """Testbed over a simulator of one environment."""

    __test__: ClassVar[bool] = False

    def __init__(self, scenario: ScenarioConfig, table: ModelTable, seed: int) -> None:
        self._scenario = scenario
        self._table = table
        self._simulator = Simulator(scenario, table, num_envs=1, seed=seed)
        self._at = (0, 0)
        self._slot: SlotObservation | None = None
        self._ended: list[RequestRecord] = []

    async def observe_frame(self, frame: int) -> FrameObservation:
        """Return what is known at the start of a frame.

        Raises:
            ValueError: another frame comes next.
        """
        known = self._simulator.observe_frame()
        if frame != known.frame:
            raise ValueError(f"the next frame is {known.frame}, got {frame}")
        return known

    async def apply_caches(self, caches: Bools) -> None:
        """Make the nodes hold [1, node, model]."""
        self._simulator.apply_caches(caches)

    async def observe_slot(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait when the slot begins."""
        self._at, self._slot = (frame, slot), self._simulator.observe_slot()
        return self._slot

    async def apply_allocations(self, allocation: Allocation) -> None:
        """Serve the observed requests.

        Raises:
            ValueError: no slot was observed.
        """
        waiting = self._slot
        if waiting is None:
            raise ValueError("apply_allocations needs an observe_slot before it")
        outcomes = self._simulator.apply_allocations(allocation)
        users = np.flatnonzero(waiting.asks[0])
        self._ended += [self._record(waiting, outcomes, int(user)) for user in users]

    def _record(self, waiting: SlotObservation, outcomes: Outcomes, user: int) -> RequestRecord:
        (frame, slot), model = self._at, waiting.models[0, user]
        node = int(waiting.nodes[0, user])
        measured = (*CAUSES, "total_s", "quality", "utility")
        values: dict[str, Any] = {n: float(getattr(outcomes, n)[0, user]) for n in measured}
        return RequestRecord(
            request_id=f"f{frame}s{slot}u{user}",
            user_id=f"user-{user}",
            model_id=self._table.model_ids[model],
            prompt="",
            seed=0,
            submitted_utc="",
            frame=frame,
            slot=slot,
            status="served",
            node_id="cloud" if node == MISS else f"edge-{node}",
            role="cloud" if node == MISS else "edge",
            is_hit=node != MISS,
            num_tries=1,
            num_steps=int(outcomes.num_steps[0, user]),
            upload_bytes=self._scenario.workload.upload_bytes,
            image_bytes=round(float(self._table.image_bytes[model])),
            **values,
        )

    async def collect_outcomes(self) -> tuple[RequestRecord, ...]:
        """Return the requests that ended since the last call."""
        ended, self._ended = tuple(self._ended), []
        return ended
