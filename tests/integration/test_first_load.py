"""What a model's first load measures, on a real engine: beside others, with too little memory."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from edge_node.catalog import Catalog, Entry
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine import batch_limit
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import StepDone, image_of
from edge_node.engine.step_batcher import Stage
from protos.errors import ModelLoadError
from tests.fakes import job


@pytest.fixture
def entry(model_root):
    def named(name: str) -> Entry:
        models = [ModelConfig(model_id=name, source=f"folder:{name}")]
        return Catalog(models, [model_root]).get(name)

    return named


@pytest.fixture
def calls(monkeypatch):
    """The batch size of every measuring call; a test may say what happens before each."""
    calls = SimpleNamespace(sizes=[], before=lambda _: None)
    original = batch_limit.call_s

    def call_s(model, one, batch_size):
        calls.sizes.append(batch_size)
        calls.before(batch_size)
        return original(model, one, batch_size)

    monkeypatch.setattr(batch_limit, "call_s", call_s)
    return calls


def run(scenario):
    async def whole():
        engine = DiffusersEngine(EngineConfig(device="cpu"))
        try:
            return await scenario(engine)
        finally:
            await engine.close()

    return asyncio.run(whole())


def test_other_models_take_their_steps_between_the_calls_that_measure_one(entry, calls):
    steps_at_call = []

    async def scenario(engine):
        await engine.load(entry("tiny"))
        num_steps = 0

        async def watch():
            nonlocal num_steps
            while True:
                async for event in engine.generate(job(num_steps=1000)):
                    num_steps += isinstance(event, StepDone)

        serving = asyncio.create_task(watch())
        while not num_steps:
            await asyncio.sleep(0.001)
        calls.before = lambda _: steps_at_call.append(num_steps)
        await engine.load(entry("small"))
        serving.cancel()

    run(scenario)
    assert len(steps_at_call) > 2 * len(batch_limit.SIZES)
    waited = [after > before for before, after in pairwise(steps_at_call)]
    assert sum(waited) > 0.8 * len(waited)


def test_out_of_memory_in_measuring_is_the_limit(entry, calls):
    def full(batch_size):
        if batch_size > 4:
            raise torch.OutOfMemoryError("no memory")

    async def scenario(engine):
        calls.before = full
        await engine.load(entry("tiny"))
        images = await asyncio.gather(*(image_of(engine, job(index)) for index in range(4)))
        return engine._limits["tiny"][Stage.STEP], images

    limit, images = run(scenario)
    assert 1 <= limit <= 4
    assert all(image.pixels.shape == (64, 64, 3) for image in images)
    assert max(calls.sizes) == 8


def test_a_model_that_fails_while_it_is_measured_is_not_loaded_and_can_be_later(entry, calls):
    def broken(_):
        raise RuntimeError("broken")

    async def scenario(engine):
        calls.before = broken
        with pytest.raises(ModelLoadError, match="'tiny' cannot be loaded: broken"):
            await engine.load(entry("tiny"))
        assert not engine._installed
        calls.before = lambda _: None
        await engine.load(entry("tiny"))
        return await image_of(engine, job())

    assert run(scenario).pixels.shape == (64, 64, 3)


def test_a_load_that_is_cancelled_while_it_measures_leaves_nothing(entry, calls):
    async def scenario(engine):
        loading = asyncio.create_task(engine.load(entry("tiny")))
        while len(calls.sizes) < 5:
            await asyncio.sleep(0.001)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert not engine._installed
        num_calls = len(calls.sizes)
        await engine.load(entry("tiny"))
        assert len(calls.sizes) > num_calls + 5  # measured again: nothing was concluded
        return await image_of(engine, job())

    assert run(scenario).pixels.shape == (64, 64, 3)


def test_it_is_measured_once(entry, calls):
    async def scenario(engine):
        await engine.load(entry("tiny"))
        num_calls = len(calls.sizes)
        await engine.evict("tiny")
        await engine.load(entry("tiny"))
        return num_calls

    assert run(scenario) == len(calls.sizes) > 0
