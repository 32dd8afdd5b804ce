"""Plain policies: caching rules, allocation rules and their pairs, by name.

Responsible for what learners are compared with. A name is CACHING-ALLOCATION, such as "lru-exact";
CACHING alone means CACHING-equal.

    caching      random, most-popular (counts of the window), lru, lfu, greedy (requests per byte),
                 static (most popular at first), cloud (nothing)
    allocation   equal, exact (exact.py), genetic

None of them knows more than an observation shows, so each decides live as well. Clairvoyant caching
does know more, and rates the others: evaluation.py.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from controller.cell.dynamics import Array, Ints
from controller.cell.observations import (
    MISS,
    Allocation,
    Bools,
    FrameObservation,
    SlotObservation,
    filled,
)
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import serve
from controller.policies import amender, exact
from controller.policies.policy import Allocating, Caching, Pair, Policy

FLOOR = "random-equal"
BASELINES = (
    FLOOR,
    "lru-equal",
    "lru-exact",
    "lfu-equal",
    "lfu-exact",
    "greedy-equal",
    "greedy-exact",
    "most-popular-equal",
    "static-genetic",
    "cloud-equal",
)
"""Those that stand in tables."""
CACHINGS = ("random", "most-popular", "lru", "lfu", "greedy", "static", "cloud")
ALLOCATIONS = ("equal", "exact", "genetic")


def split(name: str) -> tuple[str, str]:
    """Return the caching and the allocation that a policy's name stands for.

    >>> split("most-popular-exact"), split("lru")
    (('most-popular', 'exact'), ('lru', 'equal'))

    Raises:
        ValueError: no such policy; the message lists the names.
    """
    caching, _, allocation = name.rpartition("-")
    if allocation not in ALLOCATIONS:
        caching, allocation = name, "equal"
    if caching not in CACHINGS:
        raise ValueError(
            f"no policy {name!r}; there are {', '.join(CACHINGS)}, each with "
            f"-{', -'.join(ALLOCATIONS)} (alone: -equal)"
        )
    return caching, allocation


def build(name: str, scenario: ScenarioConfig, rng: np.random.Generator) -> Policy:
    """Return the policy of a name.

    Raises:
        ValueError: no such policy; the message lists the names.
    """
    caching, allocation = split(name)
    rules: dict[str, Callable[[], Caching]] = {
        "random": lambda: RandomCaching(rng),
        "most-popular": lambda: most_popular,
        "lru": lambda: least_recently_used,
        "lfu": LeastFrequentlyUsed,
        "greedy": lambda: most_popular_per_byte,
        "static": StaticCaching,
        "cloud": lambda: nothing,
    }
    return Pair(rules[caching](), allocation_rule(allocation, scenario, rng))


def allocation_rule(name: str, scenario: ScenarioConfig, rng: np.random.Generator) -> Allocating:
    """Return one of ALLOCATIONS."""
    rules: dict[str, Callable[[], Allocating]] = {
        "equal": lambda: equal,
        "exact": lambda: lambda slot: exact.allocate(slot, scenario),
        "genetic": lambda: Genetic(scenario, rng),
    }
    return rules[name]()


def _ranked(scores: Array, frame: FrameObservation) -> Bools:
    """Return every node holding the models of the highest scores [env, model] that fit."""
    order = np.argsort(-scores, axis=-1, kind="stable")
    return filled(np.broadcast_to(order[:, None], frame.caches.shape), frame)


def nothing(frame: FrameObservation) -> Bools:
    """Return empty caches: everything goes to the cloud."""
    return np.zeros_like(frame.caches)


def most_popular(frame: FrameObservation) -> Bools:
    """Return the models with most requests in the frames that are seen."""
    return _ranked(frame.request_counts.sum(axis=1), frame)


def most_popular_per_byte(frame: FrameObservation) -> Bools:
    """Return the models with most requests for each byte in the frames that are seen."""
    return _ranked(
        frame.request_counts.sum(axis=1) / np.maximum(frame.table.resident_bytes, 1), frame
    )


def least_recently_used(frame: FrameObservation) -> Bools:
    """Return the models used last: by frame, those that are held already first among equals."""
    history = frame.request_counts.shape[1]
    latest = (frame.request_counts > 0) * np.arange(1, history + 1)[:, None]
    return _ranked(latest.max(axis=1) + 0.5 * frame.caches.any(axis=1), frame)


class RandomCaching:
    """Models in random order, as many as fit, for each node: the floor's."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def __call__(self, frame: FrameObservation) -> Bools:
        """Return caches [env, node, model]."""
        order = np.broadcast_to(np.arange(frame.caches.shape[-1]), frame.caches.shape)
        return filled(self._rng.permuted(order, axis=-1), frame)


class LeastFrequentlyUsed:
    """The models with most requests since the episode began; nothing is forgotten."""

    def __init__(self) -> None:
        self._counts: Ints | int = 0

    def __call__(self, frame: FrameObservation) -> Bools:
        """Return caches [env, node, model]."""
        latest = frame.request_counts[:, -1]
        self._counts = latest + (self._counts if frame.frame > 1 else 0)
        return _ranked(np.asarray(self._counts), frame)


class StaticCaching:
    """The models with most requests in the first frame, held for the rest of the episode."""

    def __init__(self) -> None:
        self._caches = np.zeros((0, 0, 0), dtype=bool)

    def __call__(self, frame: FrameObservation) -> Bools:
        """Return caches [env, node, model]; anew where nodes joined or left."""
        if frame.frame <= 1 or self._caches.shape != frame.caches.shape:
            self._caches = most_popular(frame)
        return self._caches


def equal(slot: SlotObservation) -> Allocation:
    """Return equal shares, and on each node the largest equal step count within its budget."""
    count = slot.asks.sum(axis=-1, keepdims=True)
    step_s = slot.node_step_s.sum(axis=-1)
    affordable = slot.bounds.compute_budget_s / np.where(step_s > 0, step_s, np.inf)
    affordable = np.where(step_s > 0, affordable, np.inf)
    of_node = np.clip(np.floor(affordable), slot.bounds.min_num_steps, slot.bounds.max_num_steps)
    steps = np.where(slot.members, of_node[..., None], 0).sum(axis=1)
    steps = np.where(slot.nodes == MISS, slot.max_num_steps, steps)
    return Allocation(
        shares=slot.asks / np.maximum(count, 1),
        num_steps=np.minimum(steps, slot.max_num_steps).astype(np.int64),
    )


class Genetic:
    """A genetic search over raw actions, anew in every slot, that knows the slot's utility."""

    population = 32
    generations = 20
    mutation = 0.3
    """Standard deviation of what is added to a gene."""
    mutated_frac = 0.2
    """Of the genes of a child."""

    def __init__(self, scenario: ScenarioConfig, rng: np.random.Generator) -> None:
        self._scenario = scenario
        self._rng = rng

    def __call__(self, slot: SlotObservation) -> Allocation:
        """Return the best allocation found."""
        rng, count = self._rng, self.population
        many = _repeated(slot, count)
        num_envs, num_users = slot.asks.shape
        genes = rng.uniform(-1, 1, (num_envs, count, num_users, 2))
        genes[:, 0] = 0.0
        for _ in range(self.generations):
            fitness = self._fitness(genes, many)
            elite = np.take_along_axis(genes, fitness.argmax(axis=1)[:, None, None, None], axis=1)
            mother, father = (self._selected(genes, fitness) for _ in range(2))
            genes = np.where(rng.random(genes.shape) < 0.5, mother, father)
            mutates = rng.random(genes.shape) < self.mutated_frac
            genes = np.clip(genes + mutates * rng.normal(0, self.mutation, genes.shape), -1, 1)
            genes[:, :1] = elite
        best = self._fitness(genes, many).argmax(axis=1)
        return amender.amend(genes[np.arange(num_envs), best], slot)

    def _fitness(self, genes: Array, many: SlotObservation) -> Array:
        allocation = amender.amend(genes.reshape(-1, *genes.shape[2:]), many)
        worth = serve(many, allocation, self._scenario).utility.sum(axis=-1)
        return worth.reshape(genes.shape[:2])

    def _selected(self, genes: Array, fitness: Array) -> Array:
        """Return the better of two drawn at random, for each place of the population."""
        pairs = self._rng.integers(self.population, size=(2, *fitness.shape))
        first, second = (np.take_along_axis(fitness, pair, axis=1) for pair in pairs)
        winner = np.where(first >= second, pairs[0], pairs[1])
        return np.take_along_axis(genes, winner[..., None, None], axis=1)


def _repeated(slot: SlotObservation, count: int) -> SlotObservation:
    names = ("asks", "models", "nodes", "gains", "waiting_s")
    many: dict[str, Any] = {name: np.repeat(getattr(slot, name), count, axis=0) for name in names}
    return replace(slot, **many)
