"""The episodes that policies are rated on, and what a policy scores on each of them.

Responsible for a scenario's episodes with their floors and oracles. Not: training, printing.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from controller.cell.scenario import ScenarioConfig, read_models
from controller.policies.baselines import BASELINES, Allocating, allocation_rule, build
from controller.policies.policy import ArrayPolicy
from controller.policies.scores import EvaluationEpisode, Measured


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

    def rate(self, name: str, policy_of: Callable[[EvaluationEpisode], ArrayPolicy]) -> Rating:
        """Return what a whole policy scores; ``policy_of`` makes it for an episode."""
        measured = tuple(episode.measure(policy_of(episode)) for episode in self._episodes)
        pairs = zip(self._known, measured, strict=True)
        scores = tuple(known.score(one.utility) for known, one in pairs)
        return Rating(policy=name, scores=scores, measured=measured)

    def rate_allocation(
        self, name: str, rule_of: Callable[[EvaluationEpisode], Allocating]
    ) -> Rating:
        """Return what an allocation rule scores with the oracle's caches."""
        measured = tuple(episode.measure_allocation(rule_of(episode)) for episode in self._episodes)
        pairs = zip(self._known, measured, strict=True)
        scores = tuple(known.allocation_score(one.utility) for known, one in pairs)
        return Rating(policy=name, scores=scores, measured=measured)

    def baselines(self) -> Iterator[Rating]:
        """Yield the ratings of all baselines, floor and oracle included."""
        for name in BASELINES:
            yield self.rate(name, partial(_baseline, name))

    def allocations(self) -> Iterator[Rating]:
        """Yield the ratings of equal and of optimal allocation."""
        for name in ("equal", "oracle"):
            yield self.rate_allocation(name, partial(_allocation, name, self._scenario))


def _baseline(name: str, episode: EvaluationEpisode) -> ArrayPolicy:
    return build(name, episode.simulator(), episode.rng)


def _allocation(name: str, scenario: ScenarioConfig, episode: EvaluationEpisode) -> Allocating:
    return allocation_rule(name, scenario, episode.rng)
