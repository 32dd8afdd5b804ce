"""The simulator as two Gymnasium environments, each of one cell.

Responsible for the adapters. Not: simulating (simulator.py), deciding.
"""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from controller.cell.dynamics import ModelTable
from controller.cell.observations import (
    CONTEXT_FEATURES,
    FEATURE_HIGH,
    FEATURE_LOW,
    RAW_ACTION,
    USER_FEATURES,
    Features,
    action_mask,
    fitted,
    frame_features,
    frame_width,
    slot_features,
    subsets,
)
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Simulator
from controller.policies import amender
from controller.policies.policy import Allocating, Caching
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
        caching: Callable[[np.random.Generator], Caching],
        seed: int = 0,
    ) -> None:
        self._scenario, self._table, self._build = scenario, table, caching
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
        self._caching = self._build(stream(seed, "environment caching"))

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
        self, scenario: ScenarioConfig, table: ModelTable, allocating: Allocating, seed: int = 0
    ) -> None:
        """Raise ValueError where the scenario has too many models to enumerate their subsets."""
        self._scenario, self._table, self._allocating = scenario, table, allocating
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
