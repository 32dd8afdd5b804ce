"""Policies: who decides the cache per frame, and steps and bandwidth per slot.

Owns the interface and the two plain policies. A policy sees observations only (spaces.py) and
answers with feasible decisions for every input.
"""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from controller.spaces import Allocation, CacheDecision, FrameObservation, SlotObservation


class Policy(Protocol):
    """Decides; called by the run loop, the cache once a frame and the allocation once a slot."""

    def decide_cache(self, observation: FrameObservation) -> CacheDecision:
        """Return the models that each edge node holds in the coming frame."""
        ...

    def decide_allocation(self, observation: SlotObservation) -> Allocation:
        """Return shares and steps for the requests that wait."""
        ...


def build(name: Literal["most-popular", "random"], rng: np.random.Generator) -> Policy:
    """Return the policy of a configuration."""
    return MostPopularEqual() if name == "most-popular" else RandomFeasible(rng)


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
