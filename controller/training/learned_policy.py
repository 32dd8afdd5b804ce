"""T2DRL's two agents as policies: observation -> features -> agent -> feasible decision.

Responsible for the way from what a policy may know to what an agent decides, the same while
learning and in use, and back to a transition that the agent learns from. Not: learning, which is
two_timescale.py's.

Several edge nodes are decided one after the other by the same net: it reads which node it decides
for, and sees what the nodes before it will hold. Each of them earns the reward of all.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from controller.agents import d3pg, ddqn, sequential_cache
from controller.agents.d3pg import D3pg, D3pgConfig
from controller.agents.ddqn import Ddqn, DdqnConfig
from controller.agents.networks import SlotSizes
from controller.agents.replay import Fields
from controller.agents.sequential_cache import SequentialCache
from controller.agents.soft_amender import COMPUTE_NEEDS, SoftAmender, compute_needs
from controller.cell.dynamics import Array, ModelTable
from controller.cell.observations import (
    CONTEXT_FEATURES,
    MAX_SUBSETS,
    MISS,
    RAW_ACTION,
    USER_FEATURES,
    Allocation,
    Bools,
    Features,
    FrameObservation,
    SlotObservation,
    action_mask,
    fitted,
    frame_features,
    frame_width,
    slot_features,
    subsets,
)
from controller.cell.scenario import ScenarioConfig
from controller.policies import amender
from protos.config import ConfigError, require

if TYPE_CHECKING:
    from controller.training.sb3_agents import Sb3Agent

AllocationAgentKind = Literal["d3pg", "sb3-ddpg", "sb3-td3", "sb3-sac"]
Transitions = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CachingDecision:
    """A frame's caches, and what the agent read when it chose them."""

    features: Features
    """[env, node, D]."""
    caches: Bools
    """[env, node, model]."""
    feasible: Bools
    """[action], which subsets fit; empty where they are not enumerated."""


class CachingAgent:
    """A double DQN over subsets of models; model by model where the subsets are too many."""

    def __init__(
        self,
        config: DdqnConfig,
        scenario: ScenarioConfig,
        table: ModelTable,
        rng: np.random.Generator,
    ) -> None:
        self._scenario = scenario
        num_models, self._num_nodes = len(table.model_ids), scenario.num_nodes
        self._node_width = self._num_nodes if self._num_nodes > 1 else 0
        width = frame_width(scenario, num_models) + self._node_width
        self.agent: Ddqn
        if 2**num_models <= MAX_SUBSETS:
            self.agent = Ddqn(config, width, 2**num_models, rng)
            self.fields: Fields = ddqn.replay_fields(width, 2**num_models)
        else:
            sizes = tuple(table.resident_bytes.tolist())
            self.agent = SequentialCache(config, width, sizes, scenario.capacity_bytes, rng)
            self.fields = sequential_cache.replay_fields(width, num_models)

    def decide(self, frame: FrameObservation, *, explore: bool) -> CachingDecision:
        """Return feasible caches; lost nodes count as empty. ValueError: too many edge nodes."""
        num_envs, num_nodes, num_models = frame.caches.shape
        is_known = num_nodes <= self._num_nodes
        require(is_known, f"the agent caches on {self._num_nodes} nodes, got {num_nodes}")
        is_by_model = isinstance(self.agent, SequentialCache)
        feasible = np.zeros((num_envs, 0), dtype=bool) if is_by_model else action_mask(frame)
        caches = np.zeros((num_envs, self._num_nodes, num_models), dtype=bool)
        caches[:, :num_nodes] = frame.caches
        seen = []
        for node in range(num_nodes):
            known = frame_features(replace(frame, caches=caches), self._scenario)
            which = np.zeros((num_envs, self._node_width), dtype=np.float32)
            which[:, node : node + 1] = 1.0  # no column where there is one node
            seen.append(np.concatenate([known, which], axis=1))
            if isinstance(self.agent, SequentialCache):
                chosen = self.agent.choose(seen[-1], explore=explore)
            else:
                action = self.agent.act(seen[-1], feasible, explore=explore)
                chosen = subsets(num_models)[action]
            caches[:, node] = fitted(chosen, frame.table, frame.capacity_bytes[node])
        return CachingDecision(
            features=np.stack(seen, axis=1), caches=caches[:, :num_nodes], feasible=feasible[0]
        )

    def transitions(
        self, decision: CachingDecision, reward: Array, following: CachingDecision
    ) -> Transitions:
        """Return what is learnt of one frame: one transition for each environment and node.

        ``reward`` is [env]; ``following`` is the next frame's decision, or a last look after the
        last one: episodes are cut off, they do not end.
        """
        num_models = decision.caches.shape[-1]
        held = decision.caches.reshape(-1, num_models)
        found: Transitions = {
            "features": decision.features.reshape(len(held), -1),
            "reward": np.repeat(reward, self._num_nodes).astype(np.float32),
            "continues": np.ones(len(held), dtype=bool),
            "next_features": following.features.reshape(len(held), -1),
        }
        if isinstance(self.agent, SequentialCache):
            return found | {"subset": held}
        shape = (len(held), len(following.feasible))
        return found | {
            "action": held @ (1 << np.arange(num_models)),  # bit m of the index is model m
            "next_feasible": np.broadcast_to(following.feasible, shape),
        }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AllocationDecision:
    """A slot's allocation, and what the agent read and answered when it chose it."""

    seen: Transitions
    """What a transition holds of the slot; [env, ...] of groups of the scenario's users."""
    raw_action: Features
    """[env, user, 2]."""
    allocation: Allocation


class AllocationAgent:
    """D3PG, or a reference agent in its place, behind the amender."""

    agent: "D3pg | Sb3Agent"

    def __init__(
        self,
        config: D3pgConfig,
        scenario: ScenarioConfig,
        rng: np.random.Generator,
        kind: AllocationAgentKind = "d3pg",
    ) -> None:
        """Raise ConfigError where the kind needs a package that is not installed."""
        self._scenario = scenario
        sizes = SlotSizes(
            num_users=scenario.num_users,
            user_dim=len(USER_FEATURES),
            context_dim=len(CONTEXT_FEATURES),
        )
        is_amended = kind == "d3pg" and config.nets.critic_action_input == "amended"
        self.fields = d3pg.replay_fields(config, sizes, is_amended=is_amended)
        if kind == "d3pg":
            amend = SoftAmender(scenario.allocation.min_num_steps, scenario.num_nodes)
            self.agent = D3pg(config, sizes, rng, amend if is_amended else None)
            return
        try:  # Stable-Baselines3 is an extra, and takes a second to import
            from controller.training.sb3_agents import Sb3Agent  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"allocation_agent = {kind!r} needs {error.name}: pip install .[sb3]"
            ) from error
        self.agent = Sb3Agent(kind, config, sizes, rng)

    def decide(self, slot: SlotObservation, *, explore: bool) -> AllocationDecision:
        """Return a feasible allocation of the slot, of as many requests as there are.

        The agent's users are groups of the scenario's number of users, the last one filled up with
        users who do not ask.
        """
        num_envs, num_requests = slot.asks.shape
        num_users = self._scenario.num_users
        whole = _filled_up(slot, num_users)
        features = slot_features(whole, self._scenario.radio, self._scenario.slot_s)
        num_groups = whole.asks.shape[1] // num_users
        seen: Transitions = {
            "user_features": features.user_features.reshape(-1, num_users, len(USER_FEATURES)),
            "user_mask": features.user_mask.reshape(-1, num_users),
            "context": np.repeat(features.context, num_groups, axis=0),
        }
        raw = self.agent.act(**seen, explore=explore)
        of_users = raw.reshape(num_envs, -1, len(RAW_ACTION))
        needs = compute_needs(whole).reshape(-1, num_users, len(COMPUTE_NEEDS))
        return AllocationDecision(
            seen={**seen, "compute_needs": needs},
            raw_action=raw,
            allocation=amender.amend(of_users[:, :num_requests], slot),
        )

    def transitions(
        self, decision: AllocationDecision, reward: Array, following: AllocationDecision
    ) -> Transitions:
        """Return what is learnt of one slot: one transition for each environment.

        ``reward`` is [env, user]; ``following`` is the next slot's decision, or a last look as
        above; stored only where it counts.
        """
        found: Transitions = {
            "raw_action": decision.raw_action,
            "reward": reward.astype(np.float32),
            "continues": np.ones(len(reward), dtype=bool),
        }
        found |= decision.seen | {f"next_{name}": part for name, part in following.seen.items()}
        return {name: found[name] for name in self.fields}


def _filled_up(slot: SlotObservation, num_users: int) -> SlotObservation:
    """Return the slot with users who do not ask, so that ``num_users`` divides their number."""
    missing = -slot.asks.shape[1] % num_users
    if not missing:
        return slot
    nobody = {"asks": False, "models": 0, "nodes": MISS, "gains": 1.0, "waiting_s": 0.0}
    filled: dict[str, Any] = {
        name: np.pad(getattr(slot, name), ((0, 0), (0, missing)), constant_values=value)
        for name, value in nobody.items()
    }
    return replace(slot, **filled)


@dataclass(frozen=True, slots=True)
class LearnedPolicy:
    """Both agents as the Policy that they are without exploration."""

    caching: CachingAgent
    allocation: AllocationAgent

    def decide_caches(self, frame: FrameObservation) -> Bools:
        """Return the caches [env, node, model]."""
        if not len(frame.capacity_bytes):  # live, no edge node answers
            return frame.caches
        return self.caching.decide(frame, explore=False).caches

    def decide_allocations(self, slot: SlotObservation) -> Allocation:
        """Return shares and steps [env, user]."""
        return self.allocation.decide(slot, explore=False).allocation
