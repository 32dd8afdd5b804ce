"""The episodes that policies are rated on, and what a policy scores on each of them.

Responsible for a scenario's episodes with their floors and oracles. Not: training, printing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from controller.cell.scenario import ScenarioConfig, read_models
from controller.policies.baselines import BASELINES, FLOOR, allocation_rule, build
from controller.policies.policy import Allocating, Policy
from controller.policies.scores import EvaluationEpisode, Measured, ReferenceScores

ORACLE = "clairvoyant-exact"
"""Caches planned with the true popularity known, exact allocation: what bounds every policy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rating:
    """What one policy did, episode by episode."""

    policy: str
    scores: tuple[float, ...]
    """[episode], normalised; of an allocation rule its allocation scores."""
    measured: tuple[Measured, ...]
    """[episode]."""

    @property
    def score(self) -> float:
        """The mean score."""
        return sum(self.scores) / len(self.scores)

    def mean(self, quantity: str) -> float:
        """Return the mean over episodes of one of Measured's numbers."""
        return float(sum(getattr(one, quantity) for one in self.measured) / len(self.measured))


class EvaluationSuite:
    """Episodes of one scenario, one for each seed, the same for every policy."""

    def __init__(self, scenario: ScenarioConfig, *, seeds: Sequence[int], num_envs: int) -> None:
        table = read_models(scenario)
        self._scenario = scenario
        self._episodes = [
            EvaluationEpisode(scenario, table, num_envs=num_envs, seed=seed) for seed in seeds
        ]
        self._known = [episode.reference_scores() for episode in self._episodes]

    def rate(self, name: str, policy_of: Callable[[EvaluationEpisode], Policy]) -> Rating:
        """Return what a whole policy scores; ``policy_of`` makes it for an episode."""
        return self._rate(
            name, lambda episode: episode.measure(policy_of(episode)), ReferenceScores.score
        )

    def rate_allocation(
        self, name: str, rule_of: Callable[[EvaluationEpisode], Allocating]
    ) -> Rating:
        """Return what an allocation rule scores with the oracle's caches."""
        return self._rate(
            name,
            lambda episode: episode.measure_allocation(rule_of(episode)),
            ReferenceScores.allocation_score,
        )

    def baselines(self) -> Iterator[Rating]:
        """Yield the ratings of all baselines, floor and oracle included."""
        yield self._rate_baseline(FLOOR)
        yield self._rate(
            ORACLE,
            lambda episode: episode.measure_allocation(self._rule("exact")(episode)),
            ReferenceScores.score,
        )
        for name in BASELINES:
            if name != FLOOR:
                yield self._rate_baseline(name)

    def allocations(self) -> Iterator[Rating]:
        """Yield the ratings of equal and of exact allocation."""
        for name in ("equal", "exact"):
            yield self.rate_allocation(name, self._rule(name))

    def _rate_baseline(self, name: str) -> Rating:
        return self.rate(name, lambda episode: build(name, self._scenario, episode.rng))

    def _rule(self, name: str) -> Callable[[EvaluationEpisode], Allocating]:
        return lambda episode: allocation_rule(name, self._scenario, episode.rng)

    def _rate(
        self,
        name: str,
        measure: Callable[[EvaluationEpisode], Measured],
        score: Callable[[ReferenceScores, float], float],
    ) -> Rating:
        measured = tuple(map(measure, self._episodes))
        scores = tuple(
            score(known, one.utility) for known, one in zip(self._known, measured, strict=True)
        )
        return Rating(policy=name, scores=scores, measured=measured)
