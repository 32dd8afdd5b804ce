"""What a policy sees and what it may answer, with the bounds of both in one place.

Owns the observations and decisions of the two timescales. Refuses to compute them: the testbed
observes, the policy decides. Every ``validate`` raises ValueError naming the value.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeCacheState:
    """An edge node's cache at a frame's begin."""

    node_id: str
    capacity_bytes: int
    free_bytes: int
    resident: tuple[str, ...]
    """Model ids."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameObservation:
    """What a caching decision may know."""

    frame: int
    models: tuple[str, ...]
    """Model ids; the order of every per-model tuple here."""
    request_counts: tuple[tuple[int, ...], ...]
    """[frame, model], the latest frame last; empty before the first frame."""
    model_bytes: tuple[int, ...]
    """Measured bytes when resident."""
    load_s: tuple[float, ...]
    """Measured load times."""
    nodes: tuple[NodeCacheState, ...]
    """Edge nodes that answer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheDecision:
    """Models to hold, for each edge node."""

    resident: Mapping[str, tuple[str, ...]]
    """node_id -> model ids."""

    def validate(self, observation: FrameObservation) -> None:
        """Check that every node is known and holds what it is given.

        Raises:
            ValueError: an unknown node or model, a model twice, more bytes than the capacity.
        """
        sizes = dict(zip(observation.models, observation.model_bytes, strict=True))
        capacities = {node.node_id: node.capacity_bytes for node in observation.nodes}
        for node_id, models in self.resident.items():
            if node_id not in capacities:
                raise ValueError(f"no edge node {node_id!r}; there are {sorted(capacities)}")
            if len(set(models)) < len(models) or not set(models) <= set(sizes):
                raise ValueError(f"models must be different ones of {sorted(sizes)}, got {models}")
            used = sum(sizes[model] for model in models)
            if used > capacities[node_id]:
                raise ValueError(
                    f"{node_id!r} holds {capacities[node_id]} bytes, got {models} of {used} bytes"
                )


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestObservation:
    """One request that waits for a slot's decision."""

    request_id: str
    user_id: str
    model_id: str
    node_id: str
    """Edge node that holds the model; empty: a miss, served by the cloud with full steps."""
    gain: float
    """Channel power gain, unitless."""
    waiting_s: float
    curve: tuple[float, float, float, float]
    """A1 (steps), A2, A3 (steps), A4: quality normalised to 0..1 against steps."""
    step_s: float
    """Seconds for a denoising step at batch 1."""
    overhead_s: float
    """Seconds of an image apart from its steps."""
    image_bytes: float
    """Mean size of the model's images."""

    @property
    def is_hit(self) -> bool:
        """An edge node holds the model."""
        return bool(self.node_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotObservation:
    """What an allocation decision may know."""

    frame: int
    slot: int
    requests: tuple[RequestObservation, ...]
    min_num_steps: int
    max_num_steps: int
    compute_budget_s: float
    """Device seconds of the slot on each edge node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """Bandwidth shares and denoising steps, in the order of the observation's requests."""

    shares: tuple[float, ...]
    """Of the bandwidth: each >= 0, together <= 1."""
    num_steps: tuple[int, ...]

    def validate(self, observation: SlotObservation) -> None:
        """Check that the allocation is feasible.

        A node's budget binds the steps above the minimum: the minimum is always allowed, for a
        request cannot be served with less.

        Raises:
            ValueError: naming the value that is out of bounds.
        """
        count = len(observation.requests)
        if len(self.shares) != count or len(self.num_steps) != count:
            raise ValueError(
                f"there are {count} requests, got {len(self.shares)} shares "
                f"and {len(self.num_steps)} step counts"
            )
        for share in self.shares:
            if not (math.isfinite(share) and share >= 0):
                raise ValueError(f"a share must be >= 0, got {share}")
        if sum(self.shares) > 1 + _ROUNDING:
            raise ValueError(f"shares must sum to <= 1, got {sum(self.shares)}")
        low, high = observation.min_num_steps, observation.max_num_steps
        for steps in self.num_steps:
            if not (isinstance(steps, int) and low <= steps <= high):
                raise ValueError(f"num_steps must be an integer in {low}..{high}, got {steps!r}")
        for node_id in {request.node_id for request in observation.requests if request.is_hit}:
            self._validate_budget(observation, node_id)

    def _validate_budget(self, observation: SlotObservation, node_id: str) -> None:
        used_s = least_s = 0.0
        for request, steps in zip(observation.requests, self.num_steps, strict=True):
            if request.node_id == node_id:
                used_s += request.step_s * steps
                least_s += request.step_s * observation.min_num_steps
        limit_s = max(observation.compute_budget_s, least_s)
        if used_s > limit_s + _ROUNDING:
            raise ValueError(f"{node_id!r} has {limit_s:.6g} s of compute, got {used_s:.6g} s")
