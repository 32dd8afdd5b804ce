"""Policies: who decides the cache per frame, and steps and bandwidth per slot.

Owns the interface, for one run and for arrays of environments, the bridge between the two, and the
two plain policies. A policy sees observations only (spaces.py) and answers with feasible decisions
for every input.
"""

from dataclasses import replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.cell.config import AllocationConfig
from controller.cell.dynamics import ModelTable
from controller.cell.observations import (
    MISS,
    AllocationArrays,
    Bools,
    FrameArrays,
    SlotArrays,
    slot_arrays,
)
from controller.cell.spaces import Allocation, CacheDecision, FrameObservation, SlotObservation


class Policy(Protocol):
    """Decides; called by the run loop, the cache once a frame and the allocation once a slot."""

    def decide_cache(self, observation: FrameObservation) -> CacheDecision:
        """Return the models that each edge node holds in the coming frame."""
        ...

    def decide_allocation(self, observation: SlotObservation) -> Allocation:
        """Return shares and steps for the requests that wait."""
        ...


class ArrayPolicy(Protocol):
    """The same for many environments at once."""

    def decide_caches(self, frame: FrameArrays) -> Bools:
        """Return the models [env, node, model] that each edge node holds in the coming frame."""
        ...

    def decide_allocations(self, slot: SlotArrays) -> AllocationArrays:
        """Return shares and steps [env, user] for the requests that wait."""
        ...


def build(name: Literal["most-popular", "random"], rng: np.random.Generator) -> Policy:
    """Return a plain policy by its name."""
    return MostPopularEqual() if name == "most-popular" else RandomFeasible(rng)


class ForOneRun:
    """An ArrayPolicy as the Policy of one run, an array of one environment.

    The environment has as many users as requests wait; nodes and models are in the order of their
    names and of the table. Nodes of unlike capacity are all taken for the smallest.
    """

    def __init__(self, policy: ArrayPolicy, table: ModelTable, history_frames: int) -> None:
        self._policy = policy
        self._table = table
        self._history_frames = history_frames

    def decide_cache(self, observation: FrameObservation) -> CacheDecision:
        """Return the models that each edge node holds in the coming frame.

        Raises:
            ValueError: the run's models are not the table's; both are named.
        """
        if not observation.nodes:
            return CacheDecision(resident={})
        names = self._table.model_ids
        if sorted(names) != sorted(observation.models):
            raise ValueError(f"the policy decides on {names}, the run has {observation.models}")
        order = [observation.models.index(name) for name in names]
        counts = np.zeros((1, self._history_frames, len(names)), dtype=np.int64)
        for age, frame in enumerate(reversed(observation.request_counts[-self._history_frames :])):
            counts[0, -1 - age] = np.asarray(frame)[order]
        nodes = sorted(observation.nodes, key=lambda node: node.node_id)
        caches = self._policy.decide_caches(
            FrameArrays(
                frame=observation.frame,
                table=replace(
                    self._table,
                    resident_bytes=np.asarray(observation.model_bytes)[order],
                    load_s=np.asarray(observation.load_s)[order],
                ),
                request_counts=counts,
                caches=np.array([[[name in node.resident for name in names] for node in nodes]]),
                capacity_bytes=min(node.capacity_bytes for node in nodes),
            )
        )
        return CacheDecision(
            resident={
                node.node_id: tuple(names[model] for model in np.flatnonzero(held))
                for node, held in zip(nodes, caches[0], strict=True)
            }
        )

    def decide_allocation(self, observation: SlotObservation) -> Allocation:
        """Return shares and steps for the requests that wait."""
        requests = observation.requests
        if not requests:
            return Allocation(shares=(), num_steps=())
        nodes = sorted({request.node_id for request in requests if request.is_hit})
        models = [self._table.model_ids.index(request.model_id) for request in requests]
        most = np.minimum(self._table.max_num_steps, observation.max_num_steps)
        slot = slot_arrays(
            replace(self._table, max_num_steps=most),
            AllocationConfig(
                min_num_steps=observation.min_num_steps,
                max_num_steps=observation.max_num_steps,
                compute_budget_s=observation.compute_budget_s,
            ),
            num_nodes=max(1, len(nodes)),
            asks=np.ones((1, len(requests)), dtype=bool),
            models=np.array([models]),
            nodes=np.array([[nodes.index(r.node_id) if r.is_hit else MISS for r in requests]]),
            gains=np.array([[request.gain for request in requests]]),
            waiting_s=np.array([[request.waiting_s for request in requests]]),
        )
        found = self._policy.decide_allocations(slot)
        return Allocation(
            shares=tuple(float(share) for share in found.shares[0]),
            num_steps=tuple(int(steps) for steps in found.num_steps[0]),
        )


class MostPopularEqual:
    """Hold what was asked for most; share bandwidth and steps equally."""

    def decide_cache(self, observation: FrameObservation) -> CacheDecision:
        """Return the most requested models that fit, on every node."""
        totals = np.zeros(len(observation.models), dtype=int)
        for counts in observation.request_counts:
            totals += np.asarray(counts)
        order = np.argsort(-totals, kind="stable")
        return _filled(observation, {node.node_id: order for node in observation.nodes})

    def decide_allocation(self, observation: SlotObservation) -> Allocation:
        """Return equal shares and equal steps."""
        return equal_allocation(observation)


class RandomFeasible:
    """The floor of every comparison: a random feasible cache, equal shares and equal steps."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def decide_cache(self, observation: FrameObservation) -> CacheDecision:
        """Return models in random order, as many as fit, for each node."""
        orders = {
            node.node_id: self._rng.permutation(len(observation.models))
            for node in observation.nodes
        }
        return _filled(observation, orders)

    def decide_allocation(self, observation: SlotObservation) -> Allocation:
        """Return equal shares and equal steps."""
        return equal_allocation(observation)


def _filled(observation: FrameObservation, orders: dict[str, NDArray[np.int64]]) -> CacheDecision:
    resident: dict[str, tuple[str, ...]] = {}
    for node in observation.nodes:
        free, chosen = node.capacity_bytes, []
        for index in orders[node.node_id]:
            if observation.model_bytes[index] <= free:
                free -= observation.model_bytes[index]
                chosen.append(observation.models[index])
        resident[node.node_id] = tuple(chosen)
    return CacheDecision(resident=resident)


def equal_allocation(observation: SlotObservation) -> Allocation:
    """Return equal shares, and on each node the largest equal step count within its budget."""
    requests = observation.requests
    step_s: dict[str, float] = {}
    for request in requests:
        step_s[request.node_id] = step_s.get(request.node_id, 0.0) + request.step_s
    steps = {
        node_id: _equal_steps(observation, total) if node_id else observation.max_num_steps
        for node_id, total in step_s.items()
    }
    return Allocation(
        shares=(1.0 / len(requests),) * len(requests) if requests else (),
        num_steps=tuple(steps[request.node_id] for request in requests),
    )


def _equal_steps(observation: SlotObservation, step_s: float) -> int:
    if step_s * observation.max_num_steps <= observation.compute_budget_s:
        return observation.max_num_steps
    return max(observation.min_num_steps, int(observation.compute_budget_s / step_s))
