"""T2DRL: what nodes cache, frame by frame, and who gets what, slot by slot, learnt together.

    for each episode
        for each frame
            DDQN decides the caches
            for each slot
                D3PG decides bandwidth shares and denoising steps
                the requests are served; each user's own utility is D3PG's reward
                D3PG learns
            the mean utility over the frame's slots, loads included, is DDQN's reward
            DDQN learns

Responsible for this loop and both replays. Not: the agents (ddqn.py, d3pg.py), what they read and
answer (learned_policy.py), rewards (rewards.py), files and clocks (train.py).

A decision is stored once its successor is known: a slot's when the next slot is observed, a frame's
at the start of the next frame. Rewards are stored as they are and normalised when they are drawn.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from controller.agents import checkpoint
from controller.agents.d3pg import D3pgConfig
from controller.agents.ddqn import DdqnConfig
from controller.agents.learner import Learner
from controller.agents.replay import Replay
from controller.cell.dynamics import Array, ModelTable
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Outcomes, Simulator
from controller.training import metrics
from controller.training.learned_policy import (
    AllocationAgent,
    AllocationAgentKind,
    AllocationDecision,
    CachingAgent,
)
from controller.training.metrics import Metrics
from controller.training.rewards import Normaliser, RewardKind, Tail, rewards_of
from protos.config import require_non_negative, require_positive
from protos.seeds import stream


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningConfig:
    """How both agents learn, side by side."""

    caching: DdqnConfig = field(default_factory=DdqnConfig)
    """DDQN's, once a frame."""
    allocation: D3pgConfig = field(default_factory=D3pgConfig)
    """D3PG's, once a slot."""
    allocation_agent: AllocationAgentKind = "d3pg"
    """Who learns the allocation: D3PG, or in its place an agent of Stable-Baselines3, with those of
    its settings that training/sb3_agents.py names."""
    reward: RewardKind = "gain"
    """What agents learn from: the gain over equal allocation and over the cloud, or utilities."""
    tail: Tail = "log"
    """How rewards count utilities below -1: on a logarithm, or as -1."""
    caching_warmup_frames: int = 60
    """First frames that DDQN learns nothing from: D3PG does not allocate well yet."""
    caching_updates: int = 16
    """DDQN's in each frame."""
    allocation_updates: int = 1
    """D3PG's in each slot."""
    caching_minibatch: int = 128
    """Transitions of one update of DDQN."""
    allocation_minibatch: int = 64
    """Transitions of one update of D3PG."""
    caching_replay: int = 50_000
    """Frames kept, of all environments and nodes together."""
    allocation_replay: int = 100_000
    """Slots kept, of all environments together."""

    def __post_init__(self) -> None:
        require_non_negative(self, "caching_warmup_frames", "caching_updates", "allocation_updates")
        require_positive(self, "caching_minibatch", "allocation_minibatch")


class TwoTimescale:
    """Both agents while they learn; ``learn_episode`` is the algorithm."""

    def __init__(
        self, config: LearningConfig, scenario: ScenarioConfig, table: ModelTable, seed: int
    ) -> None:
        self._config = config
        rng = partial(stream, seed)
        self.caching = CachingAgent(config.caching, scenario, table, rng("caching agent"))
        self.allocation = AllocationAgent(
            config.allocation, scenario, rng("allocation agent"), config.allocation_agent
        )
        self._frames = Replay(self.caching.fields, config.caching_replay, rng("caching replay"))
        self._slots = Replay(
            self.allocation.fields, config.allocation_replay, rng("allocation replay")
        )
        self._frame_reward, self._user_reward = Normaliser(), Normaliser()
        self._before: tuple[AllocationDecision, Array] | None = None  # slot without a successor
        self.num_frames = 0

    def learn_episode(self, simulator: Simulator) -> Iterator[Metrics]:
        """Run one episode from its start and learn from it; yield each frame's metrics."""
        config = self._config
        caching = self.caching.decide(simulator.observe_frame(), explore=True)
        while not simulator.is_over:
            simulator.apply_caches(caching.caches)
            slots = [self._run_slot(simulator) for _ in range(simulator.scenario.slots_per_frame)]
            outcomes, rewards, learnt_in_slots = zip(*slots, strict=True)
            reward = np.mean(rewards, axis=0)

            following = self.caching.decide(simulator.observe_frame(), explore=True)
            self.num_frames += 1
            if self.num_frames > config.caching_warmup_frames:
                self._frame_reward.observe(reward)
                self._frames.add(self.caching.transitions(caching, reward, following))
            learnt = _learn(
                self.caching.agent,
                self._frames,
                self._frame_reward,
                num_updates=config.caching_updates,
                minibatch=config.caching_minibatch,
            )
            yield {
                **metrics.of_frame(outcomes),
                **metrics.means(learnt_in_slots),
                **learnt,
                **self._frame_reward.metrics("frame"),
                **self._user_reward.metrics("user"),
            }
            caching = following
        self._remember_slot(self.allocation.decide(simulator.observe_slot(), explore=False))
        self._before = None

    def _run_slot(self, simulator: Simulator) -> tuple[Outcomes, Array, Metrics]:
        """Return what became of the slot, its share of DDQN's reward, D3PG's metrics."""
        slot = simulator.observe_slot()
        decision = self.allocation.decide(slot, explore=True)
        self._remember_slot(decision)

        done = simulator.apply_allocations(decision.allocation)
        how = self._config.reward, self._config.tail
        reward, of_frame = rewards_of(slot, done.utility, simulator.scenario, *how)
        self._user_reward.observe(reward[slot.asks])
        self._before = decision, reward
        learnt = _learn(
            self.allocation.agent,
            self._slots,
            self._user_reward,
            num_updates=self._config.allocation_updates,
            minibatch=self._config.allocation_minibatch,
        )
        return done, of_frame, learnt

    def _remember_slot(self, following: AllocationDecision) -> None:
        if self._before:
            self._slots.add(self.allocation.transitions(*self._before, following))

    def save(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Write everything between two episodes; ``identity`` is what a reader must share."""
        for name, part in self._parts().items():
            part.save(folder / name)
        state = {
            "num_frames": self.num_frames,
            "frame_reward": asdict(self._frame_reward),
            "user_reward": asdict(self._user_reward),
        }
        checkpoint.write(folder / "learning", {}, identity, state)

    def load(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Become what was saved, to go on as if never stopped; raises as ``checkpoint.read``."""
        state = checkpoint.read(folder / "learning", identity)[1]
        for name, part in self._parts().items():
            part.load(folder / name)
        self.num_frames = state["num_frames"]
        self._frame_reward = Normaliser(**state["frame_reward"])
        self._user_reward = Normaliser(**state["user_reward"])

    def _parts(self) -> dict[str, Learner | Replay]:
        return {
            "caching": self.caching.agent,
            "allocation": self.allocation.agent,
            "caching-replay": self._frames,
            "allocation-replay": self._slots,
        }


def _learn(
    agent: Learner, replay: Replay, scale: Normaliser, *, num_updates: int, minibatch: int
) -> Metrics:
    """Return the mean metrics of so many updates; none where too little is stored."""
    if len(replay) < minibatch:
        return {}
    return metrics.means(
        agent.update(scale.applied(replay.sample(minibatch))) for _ in range(num_updates)
    )
