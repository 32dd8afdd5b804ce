"""What goes wrong for one request stays with it: memory, a failing net, a client that leaves."""

import asyncio
import threading
from contextlib import aclosing

import pytest
import torch

from edge_node.catalog import Catalog
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job, StepDone, image_of
from protos.errors import GenerationError, NotResidentError, OverloadedError
from tests.fakes import job


async def pixels(engine: DiffusersEngine, one: Job):
    return (await image_of(engine, one)).pixels


def run(model_root, scenario):
    async def whole():
        engine = DiffusersEngine(EngineConfig(device="cpu", max_batch_size=8))
        try:
            await engine.load(
                Catalog([ModelConfig(model_id="tiny", source="folder:tiny")], [model_root]).get(
                    "tiny"
                )
            )
            return await scenario(engine, engine._models["tiny"].family.pipeline)
        finally:
            await engine.close()

    return asyncio.run(whole())


def test_out_of_memory_in_a_step_makes_the_batch_smaller_and_loses_nobody(model_root):
    calls = []

    def full(_, args):
        calls.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("no memory")

    async def scenario(engine, pipeline):
        expected = [await pixels(engine, job(index)) for index in range(4)]
        hook = pipeline.unet.register_forward_pre_hook(full)
        found = await asyncio.gather(*(pixels(engine, job(index)) for index in range(4)))
        hook.remove()
        return expected, found

    expected, found = run(model_root, scenario)
    for one, other in zip(expected, found, strict=True):
        assert abs(one.astype(int) - other).max() <= 1
    assert max(calls) > 3
    assert all(sizes <= 4 for sizes in calls[-8:])


def test_out_of_memory_alone_is_told_and_the_next_request_is_served(model_root):
    def full(*_):
        raise torch.OutOfMemoryError("no memory")

    async def scenario(engine, pipeline):
        hook = pipeline.unet.register_forward_pre_hook(full)
        with pytest.raises(OverloadedError, match="no memory left for request 'r0'"):
            await pixels(engine, job(0))
        hook.remove()
        return await pixels(engine, job(1))

    assert run(model_root, scenario).shape == (64, 64, 3)


def test_a_prompt_that_breaks_the_encoder_fails_alone(model_root):
    async def scenario(engine, pipeline):
        poison = pipeline.tokenizer("green")["input_ids"][1]

        def fail(_, args, kwargs):
            ids = args[0] if args else kwargs["input_ids"]
            if (ids == poison).any():
                raise RuntimeError("broken")

        pipeline.text_encoder.register_forward_pre_hook(fail, with_kwargs=True)
        prompts = ["a red circle", "green", "a blue square"]
        return await asyncio.gather(
            *(pixels(engine, job(i, prompt=prompt)) for i, prompt in enumerate(prompts)),
            return_exceptions=True,
        )

    first, second, third = run(model_root, scenario)
    assert isinstance(second, GenerationError)
    assert "'r1': broken" in str(second)
    assert first.shape == third.shape == (64, 64, 3)


def test_who_leaves_is_out_at_the_next_step_and_the_others_go_on(model_root):
    sizes = []

    async def scenario(engine, pipeline):
        pipeline.unet.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))

        async def leaver():
            async with aclosing(engine.generate(job(0, num_steps=50))) as stream:
                async for event in stream:
                    if event == StepDone(2):
                        return

        _, image = await asyncio.gather(leaver(), pixels(engine, job(1, num_steps=12)))
        return image

    assert run(model_root, scenario).shape == (64, 64, 3)
    assert 4 in sizes
    assert sizes[-6:] == [2] * 6
    assert len(sizes) < 20


def test_who_is_cancelled_while_joining_leaves_no_seat_behind(model_root):
    async def scenario(engine, _):
        gate = threading.Event()
        busy = engine.thread.submit(gate.wait)  # the join waits behind this
        caller = asyncio.ensure_future(pixels(engine, job(0, num_steps=50)))
        await asyncio.sleep(0.05)
        caller.cancel()
        gate.set()
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert busy.result()
        assert not list(engine._batcher)
        await engine.evict("tiny")  # nobody's lease forbids it, and nobody is left to miss it

    run(model_root, scenario)


def test_an_evicted_model_keeps_no_encoded_texts(model_root):
    async def scenario(engine, _):
        model = engine._models["tiny"]
        await pixels(engine, job(0, prompt="green"))
        assert set(model.texts) >= {"", "green"}
        await engine.evict("tiny")
        assert not list(model.texts)

    run(model_root, scenario)


def test_a_model_that_is_not_loaded_is_named(model_root):
    async def scenario(engine, _):
        with pytest.raises(NotResidentError, match="'other'"):
            await pixels(engine, job(0, model_id="other"))

    run(model_root, scenario)
