"""The simulated system: many environments side by side, in NumPy.

Responsible for the order of a frame and a slot, and for the caches while they load. Popularity and
requests are workload.py's, channels radio.py's, latency and utility dynamics.py's: the formulas of
the live system. Not: deciding.

    observe_frame -> apply_caches, then for each slot observe_slot -> apply_allocations

As in the live system: requests made during a slot are decided at its end; the first frame's models
are loaded before the clock starts; later ones load one after another from the start of the frame,
in the table's order, and miss until they are there; a model on several nodes is served by the one
with the fewest requests so far. Departs: images of a slot run side by side within the compute
budget, each step at its batch-1 cost, so queue_s is 0; load_s is 0, for loading models miss.
"""

from dataclasses import dataclass

import numpy as np

from controller.cell.dynamics import Array, Ints, ModelTable, utility
from controller.cell.observations import (
    MISS,
    Allocation,
    Bools,
    FrameObservation,
    SlotObservation,
    place,
)
from controller.cell.radio import MIN_RATE_BPS, RadioCell, downlink_bps, uplink_bps
from controller.cell.scenario import ScenarioConfig
from controller.cell.workload import Popularity, draw_requests
from protos.seeds import stream


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outcomes:
    """What became of a slot's requests; arrays are [env, user], 0 where nobody asked."""

    asks: Bools
    is_hit: Bools
    num_steps: Ints
    quality: Array
    utility: Array
    wait_s: Array
    upload_s: Array
    queue_s: Array
    load_s: Array
    generate_s: Array
    backhaul_s: Array
    download_s: Array
    total_s: Array
    reward: Array
    """[env]: the sum of utilities over the mean number of requests in a slot, so that its mean over
    time is the mean utility of a request."""


def serve(slot: SlotObservation, allocation: Allocation, scenario: ScenarioConfig) -> Outcomes:
    """Return what an allocation leads to: the latency by cause, quality and utility of requests."""
    radio, cloud, table = scenario.radio, scenario.cloud, slot.table
    upload_bits = 8.0 * scenario.workload.upload_bytes
    image_bits = 8.0 * table.image_bytes[slot.models]
    asks, is_hit = slot.asks, slot.nodes != MISS
    up_bps = uplink_bps(radio, allocation.shares, slot.gains)
    down_bps = downlink_bps(radio, allocation.shares, slot.gains)
    upload_s = asks * (upload_bits / np.maximum(up_bps, MIN_RATE_BPS))
    download_s = asks * (image_bits / np.maximum(down_bps, MIN_RATE_BPS))
    num_steps = np.where(asks, allocation.num_steps, 0)
    generate_s = asks * (table.overhead_s[slot.models] + slot.step_s * num_steps)
    backhaul_s = (asks & ~is_hit) * (
        2 * cloud.delay_s + (upload_bits + image_bits) / cloud.rate_bps
    )
    wait_s = asks * slot.waiting_s
    total_s = wait_s + upload_s + generate_s + backhaul_s + download_s
    quality = asks * table.quality[slot.models, num_steps]
    worth = asks * utility(quality, total_s, scenario.utility)
    none_s = np.zeros_like(total_s)
    return Outcomes(
        asks=asks,
        is_hit=is_hit,
        num_steps=num_steps,
        quality=quality,
        utility=worth,
        wait_s=wait_s,
        upload_s=upload_s,
        queue_s=none_s,
        load_s=none_s,
        generate_s=generate_s,
        backhaul_s=backhaul_s,
        download_s=download_s,
        total_s=total_s,
        reward=worth.sum(axis=-1) / scenario.expected_requests,
    )


class Simulator:
    """Episodes of a scenario, all environments in step.

    What nature does (channels, popularity, requests) is drawn from streams of its own and does not
    depend on decisions: policies can be compared on the same episodes.
    """

    def __init__(
        self,
        scenario: ScenarioConfig,
        table: ModelTable,
        *,
        num_envs: int,
        seed: int,
        are_loads_free: bool = False,
    ) -> None:
        """Begin an episode; with free loads a model serves as soon as it is cached."""
        self.scenario = scenario
        self._load_s = np.zeros_like(table.load_s) if are_loads_free else table.load_s
        self.table = table
        self.num_envs = num_envs
        self._radio_rng = stream(seed, "simulator radio")
        self._popularity_rng = stream(seed, "simulator popularity")
        self._requests_rng = stream(seed, "simulator requests")
        self._reset()

    @property
    def is_over(self) -> bool:
        """All frames of the episode have been run."""
        return self._frame == self.scenario.num_frames

    @property
    def is_at_frame_begin(self) -> bool:
        """The frame's caches are still to be decided."""
        return not self._is_decided

    @property
    def popularity(self) -> Array:
        """True probabilities [env, frame, model] of an episode: for clairvoyant bounds only."""
        return self._popularity

    def reset(self) -> FrameObservation:
        """Begin the next episode: new places, channels, popularity; empty caches."""
        self._reset()
        return self.observe_frame()

    def _reset(self) -> None:
        scenario, num_models = self.scenario, len(self.table.model_ids)
        self._frame = self._slot = 0
        self._is_decided = False
        self._cell = RadioCell(scenario.radio, (self.num_envs, scenario.num_users), self._radio_rng)
        self._popularity = self._draw_popularity()
        self._counts = np.zeros((self.num_envs, num_models), dtype=np.int64)
        self._history = np.zeros(
            (self.num_envs, scenario.history_frames, num_models), dtype=np.int64
        )
        self._caches = np.zeros((self.num_envs, scenario.num_nodes, num_models), dtype=bool)
        self._ready_s = np.zeros(self._caches.shape)  # from the start of the frame until loaded
        self._observed: SlotObservation | None = None

    def _draw_popularity(self) -> Array:
        scenario = self.scenario
        popularity = Popularity(
            scenario.workload,
            len(self.table.model_ids),
            self._popularity_rng,
            (self.num_envs,),
        )
        path = [popularity.probabilities]
        for _ in range(scenario.num_frames - 1):
            popularity.step()
            path.append(popularity.probabilities)
        return np.stack(path, axis=1)

    def observe_frame(self) -> FrameObservation:
        """Return what is known at the start of the frame."""
        return FrameObservation(
            frame=self._frame,
            table=self.table,
            request_counts=self._history,
            caches=self._caches,
            capacity_bytes=np.full(self.scenario.num_nodes, self.scenario.capacity_bytes),
        )

    def apply_caches(self, caches: Bools) -> None:
        """Make the nodes hold [env, node, model]; what is new begins to load.

        Raises:
            ValueError: not at the start of a frame, the episode is over, or infeasible caches.
        """
        if self._is_decided or self.is_over:
            raise ValueError(
                f"caches are decided once, at the start of a frame, got frame {self._frame} of "
                f"{self.scenario.num_frames}, slot {self._slot}"
            )
        self.observe_frame().validate(caches)
        added = caches & ~self._caches
        left_s = np.where(caches & self._caches, np.maximum(self._ready_s, 0.0), 0.0)
        queue_s = left_s.max(axis=-1, keepdims=True)  # what loads already comes first
        loads_s = queue_s + np.cumsum(added * self._load_s, axis=-1)
        self._ready_s = np.where(added, loads_s, left_s) if self._frame else np.zeros(caches.shape)
        self._caches = caches.copy()
        self._is_decided = True

    def observe_slot(self) -> SlotObservation:
        """Let the users move and ask; return the requests that wait when the slot begins.

        Once the episode is over this is a last look, for learners that bootstrap from it.

        Raises:
            ValueError: the frame's caches are not decided.
        """
        scenario = self.scenario
        if not (self._is_decided or self.is_over):
            raise ValueError(f"frame {self._frame} needs apply_caches before observe_slot")
        self._cell.step(scenario.slot_s)
        probabilities = self._popularity[:, min(self._frame, scenario.num_frames - 1)]
        requests = draw_requests(
            scenario.workload, probabilities, scenario.num_users, self._requests_rng
        )
        is_loaded = self._caches & (self._ready_s <= self._slot * scenario.slot_s)
        self._observed = SlotObservation(
            table=self.table,
            bounds=scenario.allocation,
            num_nodes=scenario.num_nodes,
            asks=requests.asks,
            models=requests.models,
            nodes=place(requests.models, requests.asks, is_loaded),
            gains=self._cell.gains,
            waiting_s=scenario.slot_s * (1 - requests.offset_frac),
        )
        return self._observed

    def apply_allocations(self, allocation: Allocation) -> Outcomes:
        """Serve the observed requests; move the clock on by a slot.

        Raises:
            ValueError: no slot was observed, or an infeasible allocation.
        """
        slot = self._observed
        if slot is None or self.is_over:
            raise ValueError("apply_allocations needs an observe_slot before it, in an episode")
        allocation.validate(slot)
        outcomes = serve(slot, allocation, self.scenario)
        env = np.broadcast_to(np.arange(self.num_envs)[:, None], slot.models.shape)
        num_models = len(self.table.model_ids)
        asked = (env * num_models + slot.models)[slot.asks]
        self._counts += np.bincount(asked, minlength=self._counts.size).reshape(self._counts.shape)
        self._observed = None
        self._slot += 1
        if self._slot == self.scenario.slots_per_frame:
            self._end_frame()
        return outcomes

    def _end_frame(self) -> None:
        self._frame, self._slot, self._is_decided = self._frame + 1, 0, False
        self._ready_s = self._ready_s - self.scenario.frame_s
        self._history = np.concatenate([self._history[:, 1:], self._counts[:, None]], axis=1)
        self._counts = np.zeros_like(self._counts)
