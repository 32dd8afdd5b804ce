"""How much of a request's progress its listener hears of, from a real engine."""

import asyncio
import math
import time
from contextlib import aclosing
from itertools import pairwise

import pytest

from edge_node.catalog import Catalog
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import ImageDone, Started, StepDone
from tests.fakes import job


@pytest.fixture
def events_of(model_root):
    """The events of jobs that run at once, each with when it came (s)."""

    def of(*jobs):
        async def listen(engine, one):
            async with aclosing(engine.generate(one)) as events:
                return [(time.perf_counter(), event) async for event in events]

        async def scenario():
            engine = DiffusersEngine(EngineConfig(device="cpu", max_batch_size=8))
            try:
                models = [ModelConfig(model_id="tiny", source="folder:tiny")]
                await engine.load(Catalog(models, [model_root]).get("tiny"))
                return await asyncio.gather(*(listen(engine, one) for one in jobs))
            finally:
                await engine.close()

        return asyncio.run(scenario())

    return of


def test_without_an_interval_every_step_is_told(events_of):
    ((_, *steps, _),) = events_of(job(num_steps=30))
    assert [event for _, event in steps] == [StepDone(step) for step in range(1, 31)]


def test_however_long_the_interval_the_last_step_is_told_and_before_the_image(events_of):
    jobs = [job(index, num_steps=index, progress_s=math.inf) for index in (1, 2, 30)]
    for one, events in zip(jobs, events_of(*jobs), strict=True):
        started, step, image = (event for _, event in events)
        assert isinstance(started, Started)
        assert step == StepDone(one.num_steps)
        assert isinstance(image, ImageDone)


def test_steps_go_up_to_the_last_and_come_once_an_interval(events_of):
    interval_s = 0.02
    jobs = [job(index, num_steps=40 * (index + 1), progress_s=interval_s) for index in range(3)]
    for one, events in zip(jobs, events_of(*jobs), strict=True):
        (_, started), *told, (ended_s, image) = events
        assert isinstance(started, Started)
        assert isinstance(image, ImageDone)
        steps = [event.step for _, event in told]
        assert all(step < later for step, later in pairwise(steps))
        assert steps[-1] == one.num_steps
        assert len(steps) <= (ended_s - started.at_s) / interval_s + 2  # a tick, and the last step
        assert len(steps) > 1
