"""What policies see and answer, as arrays over environments, and the features that nets read.

Responsible for the observations and decisions of the two timescales, their feasibility, and the
encoding of both as features with names and bounds: one contract for simulator, live system (one
environment), baselines and learners. Not: deciding, simulating.

    env   environments side by side     user  users of the cell, masked where they do not ask;
                                              live, the requests that wait
    node  edge nodes                    model models of the table, in its order

Slot features: ``user_features`` [env, user, len(USER_FEATURES)], ``user_mask`` [env, user],
``context`` [env, len(CONTEXT_FEATURES)]; raw action [env, user, len(RAW_ACTION)]. Frame features
[env, frame_width] with ``action_mask`` [env, action]; action a is ``subsets(M)[a]``.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.cell.config import AllocationConfig, RadioConfig
from controller.cell.dynamics import Array, Ints, ModelTable
from controller.cell.radio import noise_w_per_hz
from controller.cell.scenario import ScenarioConfig

Bools = NDArray[np.bool_]
Features = NDArray[np.float32]

MISS = -1
"""Instead of a node: no edge node has the model loaded."""
MAX_SUBSETS = 2**12
"""More subsets than these are not enumerated: their learner picks model by model."""
_ROUNDING = 1e-9

RAW_ACTION = ("bandwidth_logit", "num_steps")
"""Last axis of a raw action, each -1..1; amender.py says what they mean."""
USER_FEATURES = (
    "is_active",  # asks in this slot; every other feature is 0 where not
    "is_hit",
    "first_knee",  # A1 of the requested model's curve, over the most steps of any model
    "low_quality",  # A2
    "second_knee",  # A3, as A1
    "high_quality",  # A4
    "step_cost",  # step_s over the largest step_s of the table
    "max_steps",  # as A1
    "image_size",  # image_bytes over the largest of the table
    "gain",  # SNR over the whole band: -5 dB is -1, 30 dB is 1, clipped at 2
    "waiting",  # waiting_s in slots, clipped at 2
    "node",  # the number of the node that serves it, 1.., over nodes; 0 for misses
    "node_demand",  # full steps for all requests of its node, in budgets, clipped at 2
)
CONTEXT_FEATURES = (
    "free_compute",  # mean over nodes: budget left when each hit has its fewest steps, in budgets
    "active_frac",  # active users over users
    "hit_frac",  # hits over users
    "demand",  # mean over nodes: full steps for all hits, in budgets, clipped at 2
)
FEATURE_LOW, FEATURE_HIGH = -2.0, 2.0
_WORST_SNR_DB, _BEST_SNR_DB = -5.0, 30.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameObservation:
    """What a caching decision may know."""

    frame: int
    table: ModelTable
    request_counts: Ints
    """[env, history, model], the latest frame last; 0 before the first frame."""
    caches: Bools
    """[env, node, model], what each node holds or is to hold; simulated, first nothing."""
    capacity_bytes: Ints
    """[node]."""

    def validate(self, caches: Bools) -> None:
        """Check a caching decision [env, node, model].

        Raises:
            ValueError: another shape, or more bytes than a node holds.
        """
        if caches.shape != self.caches.shape or caches.dtype != np.bool_:
            raise ValueError(
                f"caches must be bool {self.caches.shape}, got {caches.dtype} {caches.shape}"
            )
        used = caches @ self.table.resident_bytes  # [env, node]
        over = used > self.capacity_bytes
        if over.any():
            limit = np.broadcast_to(self.capacity_bytes, used.shape)[over][0]
            raise ValueError(f"an edge node holds {limit} bytes, got {used[over][0]} bytes")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SlotObservation:
    """What an allocation decision may know; arrays are [env, user]."""

    table: ModelTable
    bounds: AllocationConfig
    num_nodes: int
    asks: Bools
    models: Ints
    """Index into the table; meaningless where the user does not ask."""
    nodes: Ints
    """Edge node that serves the request; MISS where the cloud does or nobody asks."""
    gains: Array
    """Channel power gains, unitless."""
    waiting_s: Array

    @property
    def step_s(self) -> Array:
        """[env, user]: seconds of a denoising step of the requested model."""
        return self.table.step_s[self.models]

    @property
    def max_num_steps(self) -> Ints:
        """[env, user]: the most steps that an image of the requested model gets."""
        return self.table.max_num_steps[self.models]

    @property
    def members(self) -> Bools:
        """[env, node, user]: which requests are whose."""
        return np.asarray(self.nodes[:, None, :] == np.arange(self.num_nodes)[:, None])

    @property
    def useful_num_steps(self) -> Array:
        """[env, user]: the curve's second knee, real, within the fewest and the most steps."""
        knee = self.table.curve[self.models, 2]
        return np.clip(knee, self.bounds.min_num_steps, self.max_num_steps)

    @property
    def node_step_s(self) -> Array:
        """[env, node, user]: seconds of a denoising step, 0 where another node serves."""
        return np.where(self.members, self.step_s[:, None, :], 0.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Allocation:
    """Bandwidth shares and denoising steps, [env, user]; the cloud's steps are the most."""

    shares: Array
    num_steps: Ints

    def validate(self, slot: SlotObservation) -> None:
        """Check feasibility.

        A node's budget binds the steps above the fewest: these are always allowed, for a request
        cannot be served with less. A miss gets its model's most steps.

        Raises:
            ValueError: naming the value that is out of bounds.
        """
        if self.shares.shape != slot.asks.shape or self.num_steps.shape != slot.asks.shape:
            raise ValueError(
                f"shares and num_steps must be {slot.asks.shape}, got {self.shares.shape} "
                f"and {self.num_steps.shape}"
            )
        if self.num_steps.dtype.kind != "i":
            raise ValueError(f"num_steps must be integers, got {self.num_steps.dtype}")
        lowest = self.shares.min(initial=0.0)
        widest = self.shares.sum(axis=-1).max(initial=0.0)
        if not (lowest >= 0 and widest <= 1 + _ROUNDING):
            raise ValueError(f"shares must be >= 0 and sum to <= 1, got {lowest} and {widest}")
        fewest = np.where(slot.nodes == MISS, slot.max_num_steps, slot.bounds.min_num_steps)
        wrong = slot.asks & ((self.num_steps < fewest) | (self.num_steps > slot.max_num_steps))
        if wrong.any():
            raise ValueError(
                f"num_steps must be {fewest[wrong][0]}..{slot.max_num_steps[wrong][0]}, "
                f"got {self.num_steps[wrong][0]}"
            )
        step_s = slot.node_step_s
        used_s = (step_s * self.num_steps[:, None]).sum(axis=-1)
        least_s = slot.bounds.min_num_steps * step_s.sum(axis=-1)
        limit_s = np.maximum(slot.bounds.compute_budget_s, least_s)
        over = used_s > limit_s * (1 + _ROUNDING)
        if over.any():
            raise ValueError(
                f"a node has {limit_s[over][0]:g} s of compute, got {used_s[over][0]:g} s"
            )


def place(models: Ints, asks: Bools, is_loaded: Bools) -> Ints:
    """Return the node of each request [env, user], MISS where none has its model loaded.

    A request goes to the holder that has fewest of the requests before it, the first of equals.

    Args:
        models: [env, user].
        asks: [env, user].
        is_loaded: [env, node, model].
    """
    num_envs, num_nodes, _ = is_loaded.shape
    envs = np.arange(num_envs)
    if num_nodes == 1:
        return np.where(asks & is_loaded[envs[:, None], 0, models], 0, MISS)
    load = np.zeros((num_envs, num_nodes))
    nodes = np.empty(models.shape, dtype=np.int64)
    for user in range(models.shape[1]):
        holds = is_loaded[envs, :, models[:, user]]
        chosen = np.argmin(np.where(holds, load, np.inf), axis=1)
        served = asks[:, user] & holds.any(axis=1)
        load[envs, chosen] += served
        nodes[:, user] = np.where(served, chosen, MISS)
    return nodes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SlotFeatures:
    """A slot as nets read it; every feature is FEATURE_LOW..FEATURE_HIGH."""

    user_features: Features
    user_mask: Bools
    context: Features

    @property
    def flat(self) -> Features:
        """[env, user * len(USER_FEATURES) + len(CONTEXT_FEATURES)]."""
        flat = self.user_features.reshape(len(self.user_features), -1)
        return np.concatenate([flat, self.context], axis=1)


def slot_features(slot: SlotObservation, radio: RadioConfig, slot_s: float) -> SlotFeatures:
    """Return the features of a slot."""
    table, budget_s = slot.table, slot.bounds.compute_budget_s
    most = table.max_num_steps.max()
    per_model = np.column_stack(
        [
            table.curve / [most, 1, most, 1],
            table.step_s / table.step_s.max(),
            table.max_num_steps / most,
            table.image_bytes / table.image_bytes.max(),
        ]
    ).astype(np.float32)
    noise_w = noise_w_per_hz(radio.noise_dbm_per_hz) * radio.bandwidth_hz
    snr_db = 10 * np.log10(radio.transmit_power_w / noise_w * slot.gains)
    scaled_snr = 2 * (snr_db - _WORST_SNR_DB) / (_BEST_SNR_DB - _WORST_SNR_DB) - 1
    step_s = slot.node_step_s
    demand = (step_s * slot.max_num_steps[:, None]).sum(axis=-1) / budget_s
    own_demand = np.where(slot.members, demand[..., None], 0).sum(axis=1)
    least = slot.bounds.min_num_steps * step_s.sum(axis=-1) / budget_s
    hits = slot.nodes != MISS
    features = np.empty((*slot.asks.shape, len(USER_FEATURES)), dtype=np.float32)
    features[..., 0] = 1.0
    features[..., 1] = hits
    features[..., 2:9] = per_model[slot.models]
    features[..., 9] = scaled_snr
    features[..., 10] = slot.waiting_s / slot_s
    features[..., 11] = (slot.nodes + 1) / slot.num_nodes  # MISS is -1
    features[..., 12] = own_demand
    np.clip(features, FEATURE_LOW, FEATURE_HIGH, out=features)
    features *= slot.asks[..., None]
    context = np.stack(
        [
            np.maximum(1 - least, 0).mean(axis=1),
            slot.asks.mean(axis=1),
            hits.mean(axis=1),
            demand.mean(axis=1),
        ],
        axis=1,
    ).clip(FEATURE_LOW, FEATURE_HIGH)
    return SlotFeatures(
        user_features=features, user_mask=slot.asks, context=context.astype(np.float32)
    )


def frame_width(scenario: ScenarioConfig, num_models: int) -> int:
    """Return the number of frame features."""
    nodes = scenario.num_nodes
    return num_models * (scenario.history_frames + nodes + 2) + nodes


def frame_features(frame: FrameObservation, scenario: ScenarioConfig) -> Features:
    """Return the features of a frame [env, frame_width], each 0..FEATURE_HIGH.

    They are: the share of each model in each past frame's requests, the latest frame last; the
    caches, node by node; each model's bytes in capacities; its load time in frames; each node's
    free bytes in capacities.
    """
    table, num_envs = frame.table, len(frame.caches)
    counts = frame.request_counts
    asked = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    sizes = table.resident_bytes / max(smallest_capacity(frame), 1)
    loads = table.load_s / scenario.frame_s
    features = np.concatenate(
        [
            asked.reshape(num_envs, -1),
            frame.caches.reshape(num_envs, -1),
            np.broadcast_to(sizes, (num_envs, len(sizes))),
            np.broadcast_to(loads, (num_envs, len(loads))),
            1 - frame.caches @ sizes,
        ],
        axis=1,
    )
    return features.clip(0, FEATURE_HIGH).astype(np.float32)


def smallest_capacity(frame: FrameObservation) -> int:
    """Return the bytes that every edge node holds: a learner takes all nodes for the smallest."""
    return int(frame.capacity_bytes.min(initial=np.iinfo(np.int64).max))


def action_mask(frame: FrameObservation) -> Bools:
    """Return which of ``subsets`` fit an edge node, [env, action]; the same for every env and node.

    Raises:
        ValueError: too many models to enumerate their subsets.
    """
    table = frame.table
    mask = subsets(len(table.model_ids)) @ table.resident_bytes <= smallest_capacity(frame)
    return np.broadcast_to(mask, (len(frame.caches), len(mask)))


def subsets(num_models: int) -> Bools:
    """Return every subset [2 ** num_models, num_models]: bit m of the index is model m.

    >>> subsets(2).astype(int).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]

    Raises:
        ValueError: they would be more than MAX_SUBSETS.
    """
    if 2**num_models > MAX_SUBSETS:
        raise ValueError(f"at most {MAX_SUBSETS} subsets are enumerated, got 2 ** {num_models}")
    return np.asarray(np.arange(2**num_models)[:, None] >> np.arange(num_models) & 1 == 1)


def filled(order: Ints, frame: FrameObservation) -> Bools:
    """Return caches that hold models in this order [env, node, rank], each if it fits."""
    table = frame.table
    chosen = np.zeros((*order.shape[:-1], len(table.model_ids)), dtype=bool)
    free = np.broadcast_to(frame.capacity_bytes, order.shape[:-1])
    for rank in range(order.shape[-1]):
        models = order[..., rank]
        takes = table.resident_bytes[models] <= free
        free = free - takes * table.resident_bytes[models]
        np.put_along_axis(chosen, models[..., None], takes[..., None], axis=-1)
    return chosen


def fitted(chosen: Bools, table: ModelTable, capacity_bytes: int | Ints) -> Bools:
    """Return the sets [..., model] without what does not fit, first models first."""
    kept = chosen.copy()
    used = np.zeros(chosen.shape[:-1], dtype=np.int64)
    for model, size in enumerate(table.resident_bytes):
        kept[..., model] &= used + size <= capacity_bytes
        used += kept[..., model] * size
    return kept
