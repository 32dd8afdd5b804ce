"""How good a policy is: measured utilities, normalised scores, intervals over seeds, lever tables.

Responsible for the references that policies are rated against. Not: deciding, writing files.

    score = (policy - floor) / (oracle - floor)

floor: random feasible caching, equal shares and equal steps. oracle: clairvoyant caching, optimal
allocation. The allocation score is the same with every policy's caches fixed to the oracle's.

Source: interquartile mean and its bootstrap interval: Agarwal et al. 2021 (rliable).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from controller.cell.dynamics import CAUSES, Array, ModelTable
from controller.cell.observations import Allocation, Bools, SlotObservation
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Simulator
from controller.policies.baselines import RandomCaching, equal
from controller.policies.caching_bound import CachingBound
from controller.policies.exact import allocate
from controller.policies.policy import Allocating, Pair, Policy
from profiling.curves import interval
from protos.seeds import stream

LEVER_SEEDS = range(5)
LEVER_ENVS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """Means over the requests of an episode, all environments together."""

    utility: float
    hit_frac: float
    quality: float
    num_steps: float
    """Of hits."""
    total_s: float
    by_cause: dict[str, float]
    """Seconds of each of CAUSES."""
    num_requests: int


def run_episode(policy: Policy, simulator: Simulator) -> Measured:
    """Return what a policy makes of the simulator's next episode, the first one included."""
    if simulator.is_over:
        simulator.reset()
    names = ("utility", "is_hit", "quality", "total_s", *CAUSES)
    sums = dict.fromkeys((*names, "asks", "hit_steps"), 0.0)
    while not simulator.is_over:
        simulator.apply_caches(policy.decide_caches(simulator.observe_frame()))
        for _ in range(simulator.scenario.slots_per_frame):
            slot = simulator.observe_slot()
            outcomes = simulator.apply_allocations(policy.decide_allocations(slot))
            for name in (*names, "asks"):
                sums[name] += float(getattr(outcomes, name).sum())
            sums["hit_steps"] += float((outcomes.num_steps * outcomes.is_hit).sum())
    count = max(sums["asks"], 1.0)
    return Measured(
        utility=sums["utility"] / count,
        hit_frac=sums["is_hit"] / count,
        quality=sums["quality"] / count,
        num_steps=sums["hit_steps"] / max(sums["is_hit"], 1.0),
        total_s=sums["total_s"] / count,
        by_cause={cause: sums[cause] / count for cause in CAUSES},
        num_requests=int(sums["asks"]),
    )


def normalised(utility: ArrayLike, floor: ArrayLike, oracle: ArrayLike) -> Array:
    """Return (utility - floor) / (oracle - floor).

    >>> float(normalised(0.75, 0.5, 1.5))
    0.25

    Raises:
        ValueError: the oracle is not above the floor, so the scenario has no headroom.
    """
    span = np.asarray(oracle, float) - np.asarray(floor, float)
    if not (span > 0).all():
        raise ValueError(f"the oracle must be above the floor, got {oracle!r} and {floor!r}")
    return np.asarray((np.asarray(utility, float) - floor) / span)


def iqm(values: ArrayLike) -> Array:
    """Return the mean of the middle half along the last axis.

    A quarter of the weight is cut at each end; a value on the cut counts in part.

    >>> float(iqm([0.0, 1.0, 2.0, 3.0, 100.0])), float(iqm([1.0, 2.0, 3.0, 9.0]))
    (2.0, 2.5)
    """
    ranked = np.sort(np.asarray(values, float), axis=-1)
    count = ranked.shape[-1]
    edges = np.clip(np.arange(count + 1), count / 4, 3 * count / 4)
    return np.asarray(ranked @ np.diff(edges) / (count / 2))


def iqm_interval(
    values: ArrayLike, rng: np.random.Generator, level: float = 0.95, count: int = 2000
) -> tuple[float, float]:
    """Return the bootstrap percentile interval of the IQM over seeds [seed]."""
    scores = np.asarray(values, float)
    replicates = iqm(scores[rng.integers(len(scores), size=(count, len(scores)))])
    return interval(replicates, level)


class Estimate(NamedTuple):
    """The interquartile mean of some values, and its 95 % bootstrap interval."""

    middle: float
    low: float
    high: float


def estimate(values: Sequence[float]) -> Estimate:
    """Return the estimate of at least one value."""
    return Estimate(float(iqm(values)), *iqm_interval(values, stream(0, "study report")))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceScores:
    """What one seed's episode gives its references: mean utilities of a request."""

    floor: float
    oracle: float
    equal_allocation: float
    """The oracle's caches with equal shares and equal steps: the floor of allocation scores."""

    def score(self, utility: float) -> float:
        """Return the normalised score of a policy's utility."""
        return float(normalised(utility, self.floor, self.oracle))

    def allocation_score(self, utility: float) -> float:
        """Return the allocation score of a utility that was reached with the oracle's caches."""
        return float(normalised(utility, self.equal_allocation, self.oracle))


class EvaluationEpisode:
    """One seed's episode, again and again for each policy that is measured on it."""

    def __init__(
        self, scenario: ScenarioConfig, table: ModelTable, *, num_envs: int, seed: int
    ) -> None:
        self._scenario, self._table, self._num_envs, self._seed = scenario, table, num_envs, seed
        self._bound = CachingBound(scenario, table, self.rng)
        self._schedule: Bools | None = None

    @property
    def rng(self) -> np.random.Generator:
        """A fresh generator for a policy of this seed."""
        return stream(self._seed, "yard policy")

    def simulator(self) -> Simulator:
        """Return a simulator at the start of the episode."""
        return Simulator(self._scenario, self._table, num_envs=self._num_envs, seed=self._seed)

    def measure(self, policy: Policy) -> Measured:
        """Return what a policy makes of the episode."""
        return run_episode(policy, self.simulator())

    def measure_allocation(self, allocating: Allocating) -> Measured:
        """Return what an allocation rule makes of it with the oracle's caches."""
        if self._schedule is None:
            self._schedule = self._bound.cache_schedule(self.simulator().popularity)
        return self._measure_scheduled(self._schedule, allocating)

    def measure_static(self, allocating: Allocating) -> Measured:
        """Return the same with one set for all frames, the best in hindsight."""
        schedule = self._bound.static_cache_schedule(self.simulator().popularity)
        return self._measure_scheduled(schedule, allocating)

    def _measure_scheduled(self, schedule: Bools, allocating: Allocating) -> Measured:
        """Return what becomes of caches [env, frame, node, model] that were decided before."""
        return self.measure(Pair(lambda frame: schedule[:, frame.frame], allocating))

    def reference_scores(self) -> ReferenceScores:
        """Return the episode's references."""

        def best(slot: SlotObservation) -> Allocation:
            return allocate(slot, self._scenario)

        return ReferenceScores(
            floor=self.measure(Pair(RandomCaching(self.rng), equal)).utility,
            oracle=self.measure_allocation(best).utility,
            equal_allocation=self.measure_allocation(equal).utility,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lever:
    """What the oracle loses without one of its levers."""

    name: str
    scores: tuple[float, ...]
    """[seed], normalised: the oracle's is 1, the floor's 0."""

    @property
    def headroom(self) -> float:
        """The normalised score that is lost without it: IQM over seeds."""
        return 1.0 - float(iqm(self.scores))


def levers(
    scenario: ScenarioConfig, table: ModelTable, *, seeds: Sequence[int], num_envs: int
) -> tuple[Lever, ...]:
    """Return the oracle with each of its levers alone replaced.

    By equal bandwidth, by equal steps, by one set of models for the whole episode, which is the
    best in hindsight.
    """

    def best(slot: SlotObservation) -> Allocation:
        return allocate(slot, scenario)

    def equal_bandwidth(slot: SlotObservation) -> Allocation:
        return replace(best(slot), shares=equal(slot).shares)

    def equal_steps(slot: SlotObservation) -> Allocation:
        return replace(best(slot), num_steps=equal(slot).num_steps)

    scores: dict[str, list[float]] = {}
    for seed in seeds:
        episode = EvaluationEpisode(scenario, table, num_envs=num_envs, seed=seed)
        reference_scores = episode.reference_scores()
        for name, measured in (
            ("equal bandwidth", episode.measure_allocation(equal_bandwidth)),
            ("equal steps", episode.measure_allocation(equal_steps)),
            ("static caching", episode.measure_static(best)),
        ):
            scores.setdefault(name, []).append(reference_scores.score(measured.utility))
    return tuple(Lever(name=name, scores=tuple(values)) for name, values in scores.items())


def lever_report(scenario: ScenarioConfig, table: ModelTable) -> str:
    """Return the levers over LEVER_SEEDS as a Markdown table, with 95 % intervals."""
    lines = ["| without | score | headroom | 95 % interval |", "|---|---|---|---|"]
    for lever in levers(scenario, table, seeds=LEVER_SEEDS, num_envs=LEVER_ENVS):
        low, high = iqm_interval(lever.scores, stream(0, "lever report"))
        lines.append(
            f"| {lever.name} | {1 - lever.headroom:.3f} | {lever.headroom:.3f} "
            f"| {1 - high:.3f} .. {1 - low:.3f} |"
        )
    return "\n".join(lines)
