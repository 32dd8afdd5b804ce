"""One agent for all: D3PG says in every slot what to allocate, and what nodes are to cache next.

What two agents on two timescales are compared with. Owns the wishes in D3PG's raw action and the
way from them to caches. Refuses to learn about them apart: they earn what later slots earn, so D3PG
needs a discount and must be rewarded with utilities, of which caches are a part.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from controller.agents.d3pg import D3pgConfig
from controller.agents.ddqn import DdqnConfig
from controller.agents.networks import ACTION_DIM, SlotSizes
from controller.agents.replay import Fields
from controller.cell.dynamics import Array, ModelTable
from controller.cell.observations import (
    Bools,
    FrameArrays,
    SlotArrays,
    SlotFeatures,
    filled,
    frame_features,
    frame_width,
)
from controller.cell.scenario import ScenarioConfig
from controller.training.learned_policy import (
    AllocationAgent,
    AllocationDecision,
    CachingAgent,
    CachingDecision,
    CachingLearner,
    Transitions,
)

CachesBy = Literal["ddqn", "d3pg"]


def require_fit(caches_by: CachesBy, allocation: D3pgConfig, reward: str) -> None:
    """Check that D3PG, where it decides caches, can learn of them.

    Raises:
        ValueError: a reward, a discount or nets that leave the caches out.
    """
    nets, discounts = allocation.nets, allocation.discount > 0
    told = (reward, nets.form, nets.critic_reads)
    if caches_by == "d3pg" and not (discounts and told == ("utility", "flat", "raw")):
        raise ValueError(
            "caches_by d3pg needs reward utility, form flat, critic_reads raw and a discount > 0, "
            f"got {', '.join(told)} and {allocation.discount:g}"
        )


def agents(
    caches_by: CachesBy,
    caching: DdqnConfig,
    allocation: D3pgConfig,
    scenario: ScenarioConfig,
    table: ModelTable,
    rng: Callable[[str], np.random.Generator],
) -> tuple[CachingLearner, AllocationAgent]:
    """Return who decides caches and who decides allocations; ``rng`` makes a named generator."""
    if caches_by == "ddqn":
        return (
            CachingAgent(caching, scenario, table, rng("caching agent")),
            AllocationAgent(allocation, scenario, table, rng("allocation agent")),
        )
    one = OneAgent(allocation, scenario, table, rng("allocation agent"))
    return Wished(one), one


class OneAgent(AllocationAgent):
    """Allocates as D3PG; the rows of its raw action after the users' are wishes.

    A wish for each node and model, -1..1, two in a row. In the slots of a frame it sees, beside the
    slot: the frame's features with what is cached now, and the part of the frame that is left.
    """

    def __init__(
        self,
        config: D3pgConfig,
        scenario: ScenarioConfig,
        table: ModelTable,
        rng: np.random.Generator,
    ) -> None:
        num_models = len(table.model_ids)
        self._num_wishes = scenario.num_nodes * num_models
        self._num_rows = -(-self._num_wishes // ACTION_DIM)
        self._frame_width = frame_width(scenario, num_models)
        self._wishes = np.zeros((0, self._num_wishes), np.float32)
        self._known = np.zeros((0, self._frame_width), np.float32)
        self._slots_left = 0
        super().__init__(config, scenario, table, rng)

    def cache(self, frame: FrameArrays) -> Bools:
        """Return caches [env, node, model]: each node takes what was wished most, if it fits.

        Nothing is wished for yet at an episode's begin: then models count in the table's order.
        """
        num_envs, num_nodes, num_models = frame.caches.shape
        wishes = np.zeros((num_envs, self._scenario.num_nodes, num_models), np.float32)
        if frame.frame:
            wishes = self._wishes.reshape(wishes.shape)
        order = np.argsort(-wishes[:, :num_nodes], axis=-1, kind="stable")
        caches = filled(order, frame.table, frame.capacity_bytes)
        self._known = frame_features(replace(frame, caches=caches), self._scenario)
        self._slots_left = self._scenario.slots_per_frame
        return caches

    def decide(self, slot: SlotArrays, *, explore: bool) -> AllocationDecision:
        """Return a feasible allocation of the slot; keep what was wished for."""
        decision = super().decide(slot, explore=explore)
        rows = decision.raw_action[:, self._scenario.num_users :]
        by_env = rows.reshape(len(slot.asks), -1)  # of groups of users, the first one's
        self._wishes = by_env[:, : self._num_wishes]
        self._slots_left = max(self._slots_left - 1, 0)
        return decision

    def transitions(
        self, decision: AllocationDecision, reward: Array, following: AllocationDecision
    ) -> Transitions:
        """Return what is learnt of one slot; wishes earn nothing of their own."""
        padded = np.pad(reward, ((0, 0), (0, self._num_rows)))
        return super().transitions(decision, padded, following)

    def _sizes(self) -> SlotSizes:
        sizes = super()._sizes()
        return replace(
            sizes,
            num_users=sizes.num_users + self._num_rows,
            context_dim=sizes.context_dim + self._frame_width + 1,
        )

    def _read(self, seen: SlotFeatures) -> SlotFeatures:
        """Append empty rows for the wishes, and what is known of the frame."""
        rows = ((0, 0), (0, self._num_rows))
        num_groups = len(seen.context)
        known = np.zeros((num_groups, self._frame_width + 1), np.float32)
        if (
            self._slots_left
        ):  # without a frame's begin before it, as where caches are given: nothing
            known[:, :-1] = np.repeat(self._known, num_groups // len(self._known), axis=0)
            known[:, -1] = self._slots_left / self._scenario.slots_per_frame
        return SlotFeatures(
            user_features=np.pad(seen.user_features, (*rows, (0, 0))),
            user_mask=np.pad(seen.user_mask, rows, constant_values=True),
            context=np.concatenate([seen.context, known], axis=1),
        )


class Wished:
    """Caches what one agent for all wished for; learns nothing itself."""

    def __init__(self, one: OneAgent) -> None:
        self._one = one
        self.agent = _LearnsNothing()
        self.fields: Fields = {"reward": ((), torch.float32)}

    def decide(self, frame: FrameArrays, *, explore: bool) -> CachingDecision:  # noqa: ARG002 - D3PG explores
        """Return the caches of the frame."""
        caches = self._one.cache(frame)
        nothing = np.zeros((*caches.shape[:2], 0), np.float32)
        return CachingDecision(features=nothing, caches=caches, feasible=np.zeros(0, bool))

    def transitions(
        self,
        decision: CachingDecision,  # noqa: ARG002 - as CachingAgent
        reward: Array,
        following: CachingDecision,  # noqa: ARG002
    ) -> Transitions:
        """Return the rewards."""
        return {"reward": reward.astype(np.float32)}


class _LearnsNothing:
    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:  # noqa: ARG002
        return {}

    def save(self, stem: Path) -> None:
        pass

    def load(self, stem: Path) -> None:
        pass
