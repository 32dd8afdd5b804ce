import dataclasses
from collections import Counter

import pytest

from profiling import samples
from profiling.measure import grid
from profiling.measure.config import GridConfig

STEPS = (1, 2, 4, 8, 16, 32)


@pytest.fixture
def model(choice):
    return choice.models[0]


def test_every_repeat_visits_every_point_once_in_an_order_of_its_own(choice, model):
    choice = dataclasses.replace(choice, grid=dataclasses.replace(choice.grid, batches=(1, 4)))

    points = grid.latency_points(choice, model)

    assert set(Counter((p.num_steps, p.batch, p.repeat) for p in points).values()) == {1}
    assert len(points) == 6 * 2 * 5
    orders = {tuple(p.num_steps for p in points if p.repeat == r) for r in range(5)}
    assert len(orders) == 5
    assert points == grid.latency_points(choice, model)


def test_all_step_counts_of_a_prompt_come_before_the_next_prompts(choice, model):
    choice = dataclasses.replace(choice, grid=dataclasses.replace(choice.grid, quality_batch=8))

    chunks = grid.chunks(choice, model, 20)

    assert [chunk.first for chunk in chunks] == [0] * 6 + [8] * 6 + [16] * 6
    made = Counter((chunk.num_steps, index) for chunk in chunks for index in chunk.indices())
    assert made == Counter((steps, index) for steps in STEPS for index in range(20))


def test_complete_samples_lack_nothing(choice, measured):
    rates = [
        samples.RateSample(model=m.model_id, seconds_per_step=1.0, seconds_per_image=1.0)
        for m in choice.models
    ]
    done = [*measured, *rates]

    for model in choice.models:
        assert grid.is_timed(choice, model, done)
        assert grid.missing_chunks(choice, model, 20, done) == []
    assert grid.missing_distances(choice, done) == []


def test_a_lost_sample_is_missing(choice, measured, model):
    def without(kind, **fields):
        return [
            s
            for s in measured
            if not (isinstance(s, kind) and all(getattr(s, k) == v for k, v in fields.items()))
        ]

    name = model.model_id
    latency = without(samples.LatencySample, model=name, num_steps=8, repeat=3)
    quality = without(samples.QualitySample, model=name, num_steps=8, index=7)
    distance = without(samples.FidSample, model=name, num_steps=8)

    assert grid.missing_points(choice, model, latency) == [grid.LatencyPoint(8, 1, 3)]
    (chunk,) = grid.missing_chunks(choice, model, 20, quality)
    assert (chunk.num_steps, 7 in chunk.indices()) == (8, True)
    assert grid.missing_distances(choice, distance) == [(name, 8)]
    assert not grid.has_loads(model, without(samples.LoadSample, model=name, repeat=2))
    assert not grid.has_rate(model, measured)
    assert grid.missing_points(choice, choice.models[1], latency) == []


def test_no_distance_is_missing_where_there_are_no_real_images(choice):
    choice = dataclasses.replace(choice, scorer=dataclasses.replace(choice.scorer, reference=""))

    assert grid.missing_distances(choice, []) == []


@pytest.mark.parametrize(
    ("budget_s", "expected"),
    [
        (1000.0, 128),  # 666 would be affordable: the most that is asked for
        (150.0, 96),  # 100: three whole batches
        (60.0, 40),  # 40: less than the 64 of two batches, but all of min_images
        (59.0, 0),  # 39: fewer than min_images
        (-5.0, 0),
    ],
)
def test_images_are_as_many_as_the_budget_affords(budget_s, expected):
    choice = GridConfig(quality_batch=32, min_images=40, max_images=128)

    assert grid.affordable_images(choice, [0.5, 1.0], budget_s) == expected
