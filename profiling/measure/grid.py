"""What is measured: the points of model × steps × batch, their order, and which are still missing.

Responsible for the points as pure values. Not: measuring them. Every point has a key, so that a run
cut off in the middle goes on with the points that its samples lack.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from edge_node.config import ModelConfig
from profiling.measure.config import GridConfig, ProfileConfig
from profiling.samples import (
    FidSample,
    LatencySample,
    LoadSample,
    QualitySample,
    RateSample,
    Sample,
    select,
)
from protos import seeds

NUM_LOADS = 3
"""The first is cold, the others warm."""


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """One timed generation of ``batch`` images."""

    num_steps: int
    batch: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Prompts ``first .. first + count - 1``, generated together at one step count and scored."""

    num_steps: int
    first: int
    count: int

    def indices(self) -> range:
        """Return the numbers of its prompts."""
        return range(self.first, self.first + self.count)


def latency_points(config: ProfileConfig, model: ModelConfig) -> list[LatencyPoint]:
    """Return every timed point; each repeat visits all points in an order of its own.

    Interleaving spreads a disturbance of the machine over all points instead of spoiling one.
    """
    rng = seeds.stream(config.seed, f"latency-order/{model.model_id}")
    cases = [(steps, batch) for batch in config.grid.batches for steps in config.steps_of(model)]
    return [
        LatencyPoint(cases[index][0], cases[index][1], repeat)
        for repeat in range(config.grid.latency_repeats)
        for index in rng.permutation(len(cases))
    ]


def chunks(config: ProfileConfig, model: ModelConfig, num_images: int) -> list[Chunk]:
    """Return the chunks of ``num_images`` prompts at every step count, prompts first.

    All step counts of a prompt come before the next prompts: stopped early, a run is balanced.
    """
    size = config.grid.quality_batch
    return [
        Chunk(steps, first, min(size, num_images - first))
        for first in range(0, num_images, size)
        for steps in config.steps_of(model)
    ]


def missing_points(
    config: ProfileConfig, model: ModelConfig, done: Sequence[Sample]
) -> list[LatencyPoint]:
    """Return the timed points of a model that the samples lack."""
    found = select(done, LatencySample, model=model.model_id)
    timed = {LatencyPoint(s.num_steps, s.batch, s.repeat) for s in found}
    return [point for point in latency_points(config, model) if point not in timed]


def has_loads(model: ModelConfig, done: Sequence[Sample]) -> bool:
    """Return whether all loads of a model are measured."""
    return len(select(done, LoadSample, model=model.model_id)) >= NUM_LOADS


def has_rate(model: ModelConfig, done: Sequence[Sample]) -> bool:
    """Return whether the cost of a model's batches is measured."""
    return bool(select(done, RateSample, model=model.model_id))


def is_timed(config: ProfileConfig, model: ModelConfig, done: Sequence[Sample]) -> bool:
    """Return whether the samples hold everything that the timing of a model measures."""
    has_all = has_loads(model, done) and has_rate(model, done)
    return has_all and not missing_points(config, model, done)


def missing_chunks(
    config: ProfileConfig, model: ModelConfig, num_images: int, done: Sequence[Sample]
) -> list[Chunk]:
    """Return the chunks of a model of which the samples lack an image."""
    found = select(done, QualitySample, model=model.model_id)
    made = {(s.num_steps, s.index) for s in found}
    return [
        chunk
        for chunk in chunks(config, model, num_images)
        if any((chunk.num_steps, index) not in made for index in chunk.indices())
    ]


def missing_distances(config: ProfileConfig, done: Sequence[Sample]) -> list[tuple[str, int]]:
    """Return (model, steps) of every FID that the samples lack; none where FID is left out."""
    if not config.scorer.reference:
        return []
    have = {(s.model, s.num_steps) for s in select(done, FidSample)}
    wanted = [(m.model_id, steps) for m in config.models for steps in config.steps_of(m)]
    return [one for one in wanted if one not in have]


def affordable_images(
    choice: GridConfig, seconds_per_prompt: Sequence[float], budget_s: float
) -> int:
    """Return how many prompts every model can have within the budget: whole batches, or the most.

    ``seconds_per_prompt`` is, for each model, the cost of one prompt at all of its step counts.
    0 where not even ``min_images`` are affordable.

    >>> affordable_images(GridConfig(max_images=256), [0.5, 1.0], budget_s=150)
    96
    """
    affordable = int(min(budget_s / sum(seconds_per_prompt), choice.max_images))
    if affordable < choice.min_images:
        return 0
    if affordable == choice.max_images:
        return affordable
    return max(affordable // choice.quality_batch * choice.quality_batch, choice.min_images)
