"""The simulator as others know it: two Gymnasium environments, and the Testbed of a run.

Owns these adapters. Refuses to simulate (simulator.py) and to decide. Each holds one environment.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium
import numpy as np
from numpy.typing import NDArray

from controller.cell.dynamics import CAUSES, ModelTable
from controller.cell.observations import (
    CONTEXT_FEATURES,
    FEATURE_HIGH,
    FEATURE_LOW,
    MISS,
    RAW_ACTION,
    USER_FEATURES,
    AllocationArrays,
    Features,
    SlotArrays,
    action_mask,
    fitted,
    frame_features,
    frame_width,
    slot_features,
    subsets,
)
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Outcomes, Simulator
from controller.cell.spaces import (
    Allocation,
    CacheDecision,
    FrameObservation,
    NodeCacheState,
    RequestObservation,
    SlotObservation,
)
from controller.policies import amender
from controller.policies.baselines import Allocating, Caching
from controller.record.request_log import RequestRecord
from protos.seeds import stream


class SlotEnvironment(gymnasium.Env[Features, NDArray[np.float32]]):
    """Allocation, one step a slot, under a given caching rule.

    Observation: ``SlotFeatures.flat``, every feature in FEATURE_LOW..FEATURE_HIGH.
    Action: raw action [user, 2] flattened, each -1..1; the amender makes it feasible.
    Reward: ``Outcomes.reward``, on average the mean utility of a request.
    End: never terminated; truncated after the scenario's frames.
    Info: ``utility`` [user] and ``asks`` [user] of the slot that was served.
    """

    def __init__(
        self,
        scenario: ScenarioConfig,
        table: ModelTable,
        caching: Callable[[Simulator, np.random.Generator], Caching],
        seed: int = 0,
    ) -> None:
        self._scenario = scenario
        self._table = table
        self._build = caching
        width = scenario.num_users * len(USER_FEATURES) + len(CONTEXT_FEATURES)
        self.observation_space = gymnasium.spaces.Box(FEATURE_LOW, FEATURE_HIGH, (width,))
        self.action_space = gymnasium.spaces.Box(-1, 1, (scenario.num_users * len(RAW_ACTION),))
        self._start(seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Features, dict[str, Any]]:
        """Begin an episode: the first one of a seed, or else the next one."""
        super().reset(seed=seed, options=options)
        if seed is None:
            self._simulator.reset()
        else:
            self._start(seed)
        return self._observe(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Features, float, bool, bool, dict[str, Any]]:
        """Serve the slot's requests; return what waits next."""
        raw = np.asarray(action).reshape(1, self._scenario.num_users, len(RAW_ACTION))
        outcomes = self._simulator.apply_allocations(amender.amend(raw, self._slot))
        info = {"utility": outcomes.utility[0], "asks": outcomes.asks[0]}
        return self._observe(), float(outcomes.reward[0]), False, self._simulator.is_over, info

    def _start(self, seed: int) -> None:
        self._simulator = Simulator(self._scenario, self._table, num_envs=1, seed=seed)
        self._caching = self._build(self._simulator, stream(seed, "environment caching"))

    def _observe(self) -> Features:
        simulator = self._simulator
        if simulator.is_at_frame_begin and not simulator.is_over:
            simulator.apply_caches(self._caching(simulator.observe_frame()))
        self._slot = simulator.observe_slot()
        return slot_features(self._slot, self._scenario.radio, self._scenario.slot_s).flat[0]


class FrameEnvironment(gymnasium.Env[Features, Any]):
    """Caching, one step a frame, under a given allocation rule.

    Observation: ``frame_features``, each 0..FEATURE_HIGH.
    Action: the index of a subset (observations.subsets), for several nodes one index each. What
        does not fit is left out; ``action_mask`` of the info says which indices fit whole.
    Reward: mean over the frame's slots of ``Outcomes.reward``; loading models miss.
    End: never terminated; truncated after the scenario's frames.
    """

    def __init__(
        self,
        scenario: ScenarioConfig,
        table: ModelTable,
        allocating: Allocating,
        seed: int = 0,
    ) -> None:
        """Raise ValueError where the scenario has too many models to enumerate their subsets."""
        self._scenario = scenario
        self._table = table
        self._allocating = allocating
        self._subsets = subsets(len(table.model_ids))
        width = frame_width(scenario, len(table.model_ids))
        self.observation_space = gymnasium.spaces.Box(0, FEATURE_HIGH, (width,))
        self.action_space = (
            gymnasium.spaces.Discrete(len(self._subsets))
            if scenario.num_nodes == 1
            else gymnasium.spaces.MultiDiscrete([len(self._subsets)] * scenario.num_nodes)
        )
        self._simulator = Simulator(scenario, table, num_envs=1, seed=seed)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Features, dict[str, Any]]:
        """Begin an episode: the first one of a seed, or else the next one."""
        super().reset(seed=seed, options=options)
        if seed is None:
            self._simulator.reset()
        else:
            self._simulator = Simulator(self._scenario, self._table, num_envs=1, seed=seed)
        return self._observe()

    def step(self, action: Any) -> tuple[Features, float, bool, bool, dict[str, Any]]:
        """Hold what the action says for a frame; return what is known after it."""
        simulator = self._simulator
        chosen = self._subsets[np.atleast_1d(action)][None]
        simulator.apply_caches(fitted(chosen, self._table, self._scenario.capacity_bytes))
        rewards = [
            simulator.apply_allocations(self._allocating(simulator.observe_slot())).reward[0]
            for _ in range(self._scenario.slots_per_frame)
        ]
        features, info = self._observe()
        return features, float(np.mean(rewards)), False, simulator.is_over, info

    def _observe(self) -> tuple[Features, dict[str, Any]]:
        frame = self._simulator.observe_frame()
        return frame_features(frame, self._scenario)[0], {"action_mask": action_mask(frame)[0]}


class SimulatedTestbed:
    """The Testbed of a run over a simulator: the same calls as the live system, at once answered.

    Users and nodes are named as in the live system ("user-3", "edge-0").
    """

    __test__: ClassVar[bool] = False

    def __init__(self, scenario: ScenarioConfig, table: ModelTable, seed: int) -> None:
        self._scenario = scenario
        self._table = table
        self._simulator = Simulator(scenario, table, num_envs=1, seed=seed)
        self._nodes = tuple(f"edge-{index}" for index in range(scenario.num_nodes))
        self._slot: SlotArrays | None = None
        self._observed: SlotObservation | None = None
        self._ended: list[RequestRecord] = []

    async def observe_frame(self, frame: int) -> FrameObservation:
        """Return what is known at the frame's begin."""
        known, table = self._simulator.observe_frame(), self._table
        if frame != known.frame:
            raise ValueError(f"the next frame is {known.frame}, got {frame}")
        past = known.request_counts[0, -frame:] if frame else known.request_counts[0, :0]
        used = known.caches[0] @ table.resident_bytes
        return FrameObservation(
            frame=frame,
            models=table.model_ids,
            request_counts=tuple(tuple(counts) for counts in past.tolist()),
            model_bytes=tuple(table.resident_bytes.tolist()),
            load_s=tuple(table.load_s.tolist()),
            nodes=tuple(
                NodeCacheState(
                    node_id=name,
                    capacity_bytes=known.capacity_bytes,
                    free_bytes=known.capacity_bytes - int(used[index]),
                    resident=tuple(
                        table.model_ids[model] for model in np.flatnonzero(known.caches[0, index])
                    ),
                )
                for index, name in enumerate(self._nodes)
            ),
        )

    async def apply_cache(self, decision: CacheDecision) -> None:
        """Make the nodes hold what was decided; a node that is not named keeps what it has."""
        caches = self._simulator.observe_frame().caches.copy()
        for name, models in decision.resident.items():
            held = [model_id in models for model_id in self._table.model_ids]
            caches[0, self._nodes.index(name)] = held
        self._simulator.apply_caches(caches)

    async def observe_slot(self, frame: int, slot: int) -> SlotObservation:
        """Return the requests that wait when the slot begins."""
        arrays = self._slot = self._simulator.observe_slot()
        bounds = self._scenario.allocation
        self._observed = SlotObservation(
            frame=frame,
            slot=slot,
            requests=tuple(
                self._request(arrays, int(user), f"f{frame}s{slot}u{user}")
                for user in np.flatnonzero(arrays.asks[0])
            ),
            min_num_steps=bounds.min_num_steps,
            max_num_steps=bounds.max_num_steps,
            compute_budget_s=bounds.compute_budget_s,
        )
        return self._observed

    def _request(self, slot: SlotArrays, user: int, request_id: str) -> RequestObservation:
        table, model, node = self._table, slot.models[0, user], slot.nodes[0, user]
        a1, a2, a3, a4 = table.curve[model].tolist()
        return RequestObservation(
            request_id=request_id,
            user_id=f"user-{user}",
            model_id=table.model_ids[model],
            node_id="" if node == MISS else self._nodes[node],
            gain=float(slot.gains[0, user]),
            waiting_s=float(slot.waiting_s[0, user]),
            curve=(a1, a2, a3, a4),
            step_s=float(table.step_s[model]),
            overhead_s=float(table.overhead_s[model]),
            image_bytes=float(table.image_bytes[model]),
        )

    async def apply_allocation(self, allocation: Allocation) -> None:
        """Serve the observed requests; no image gets more steps than its model takes.

        Raises:
            ValueError: no slot was observed.
        """
        slot, observed = self._slot, self._observed
        if slot is None or observed is None:
            raise ValueError("apply_allocation needs an observe_slot before it")
        shares, steps = np.zeros(slot.asks.shape), slot.max_num_steps.copy()
        shares[slot.asks] = allocation.shares
        steps[slot.asks] = np.minimum(allocation.num_steps, slot.max_num_steps[slot.asks])
        outcomes = self._simulator.apply_allocations(
            AllocationArrays(shares=shares, num_steps=steps)
        )
        users = np.flatnonzero(slot.asks[0])
        self._ended += [
            self._row(observed, outcomes, request, int(user))
            for request, user in zip(observed.requests, users, strict=True)
        ]
        self._slot = self._observed = None

    def _row(
        self, slot: SlotObservation, outcomes: Outcomes, request: RequestObservation, user: int
    ) -> RequestRecord:
        measured = (*CAUSES, "total_s", "quality", "utility")
        values: dict[str, Any] = {n: float(getattr(outcomes, n)[0, user]) for n in measured}
        return RequestRecord(
            request_id=request.request_id,
            user_id=request.user_id,
            model_id=request.model_id,
            prompt="",
            seed=0,
            submitted_utc="",
            frame=slot.frame,
            slot=slot.slot,
            status="served",
            node_id=request.node_id or "cloud",
            role="edge" if request.is_hit else "cloud",
            is_hit=request.is_hit,
            num_tries=1,
            num_steps=int(outcomes.num_steps[0, user]),
            upload_bytes=self._scenario.workload.upload_bytes,
            image_bytes=round(request.image_bytes),
            **values,
        )

    async def collect_outcomes(self) -> tuple[RequestRecord, ...]:
        """Return the requests that ended since the last call."""
        ended, self._ended = tuple(self._ended), []
        return ended
