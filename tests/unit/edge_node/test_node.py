import asyncio
import contextlib
import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edge_node.config import CacheConfig, LimitsConfig
from edge_node.engine.interface import image_of
from protos.config import BackhaulConfig
from protos.errors import (
    DuplicateRequestError,
    GenerationError,
    InvalidRequestError,
    NodeDownError,
    NotResidentError,
    OverloadedError,
)
from protos.messages import Accepted, Done, GenerateRequest, ImageChunk, Progress
from tests import fakes


def request(name: str = "r1", **changes) -> GenerateRequest:
    values = {"model_id": "a", "prompt": "a red circle", "num_steps": 3, "seed": 5} | changes
    return GenerateRequest(request_id=name, **values)


async def events_of(node, asked):
    return [event async for event in node.generate(asked)]


def test_a_request_is_accepted_then_steps_then_bytes_then_done():
    async def scenario():
        node, _ = fakes.node()
        await node.cache.load("a")
        events = await events_of(node, request())
        assert events[0] == Accepted(seed=5, queue_depth=0, is_hit=True)
        assert events[1:4] == [Progress(step=s, num_steps=3) for s in (1, 2, 3)]
        data = b"".join(e.data for e in events if isinstance(e, ImageChunk))
        done = events[-1]
        assert isinstance(done, Done)
        assert done.total_bytes == len(data)
        assert done.sha256 == hashlib.sha256(data).hexdigest()
        assert Image.open(io.BytesIO(data)).size == (64, 64)
        assert done.timings.backhaul_s == done.timings.load_s == 0
        assert node.status().num_active == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("size_px", [64, 256])
def test_an_image_arrives_whole_whether_it_is_encoded_here_or_in_a_thread(size_px):
    async def scenario():
        models = (fakes.model("a", width_px=size_px, height_px=size_px),)
        node, engine = fakes.node(replace(fakes.config(), models=models))
        await node.cache.load("a")
        events = await events_of(node, request())
        data = b"".join(event.data for event in events if isinstance(event, ImageChunk))
        expected = await image_of(engine, fakes.job(5, "a", width_px=size_px, height_px=size_px))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), expected.pixels)

    asyncio.run(scenario())


def test_an_edge_does_not_serve_what_it_does_not_hold():
    async def scenario():
        node, _ = fakes.node()
        await node.cache.load("b")
        with pytest.raises(NotResidentError, match="'a' is not resident; resident: b"):
            await events_of(node, request())
        assert node.status().num_active == 0

    asyncio.run(scenario())


def test_requests_take_turns_and_wait_is_queueing():
    async def scenario():
        node, engine = fakes.node()
        engine.step_s = 0.02
        await node.cache.load("a")
        results = await asyncio.gather(*(events_of(node, request(f"r{i}")) for i in range(3)))
        waits_s = [events[-1].timings.queue_s for events in results]
        assert waits_s[0] < 0.02
        assert waits_s[2] >= 0.11

    asyncio.run(scenario())


def test_leaving_frees_the_device_at_the_next_step():
    async def scenario():
        node, engine = fakes.node()
        engine.step_s = 0.01
        await node.cache.load("a")
        async with contextlib.aclosing(node.generate(request(num_steps=100))) as events:
            async for event in events:
                if isinstance(event, Progress) and event.step == 2:
                    break
        assert engine.num_stopped == 1
        assert node.status().num_active == 0
        assert (await events_of(node, request("r2")))[-1].timings.queue_s < 0.02

    asyncio.run(scenario())


def test_a_failure_frees_everything_for_the_next():
    async def scenario():
        node, _ = fakes.node()
        await node.cache.load("a")
        with pytest.raises(GenerationError):
            await events_of(node, request(prompt="crash"))
        assert isinstance((await events_of(node, request()))[-1], Done)
        await asyncio.wait_for(node.cache.evict("a"), 1)

    asyncio.run(scenario())


def test_a_full_queue_a_running_id_and_a_draining_node_refuse():
    async def scenario():
        node, engine = fakes.node(fakes.config(limits=LimitsConfig(max_queue=1)))
        engine.step_s = 0.05
        await node.cache.load("a")
        running = asyncio.create_task(events_of(node, request("r1")))
        await asyncio.sleep(0.02)
        with pytest.raises(DuplicateRequestError, match="'r1'"):
            await events_of(node, request("r1"))
        waiting = asyncio.create_task(events_of(node, request("r2")))
        await asyncio.sleep(0.02)
        with pytest.raises(OverloadedError, match="max_queue 1, got 1"):
            await events_of(node, request("r3"))
        node.begin_drain()
        with pytest.raises(NodeDownError, match="'edge-0' is draining"):
            await events_of(node, request("r4"))
        await node.drained()
        assert isinstance((await running)[-1], Done)
        assert isinstance((await waiting)[-1], Done)

    asyncio.run(scenario())


def test_the_rate_changes_for_active_requests_only():
    async def scenario():
        node, _ = fakes.node()
        await node.cache.load("a")
        with pytest.raises(InvalidRequestError, match="'r1' is not active"):
            node.update_allocation("r1", 1e6)
        began_s = asyncio.get_running_loop().time()
        async for event in node.generate(request(rate_bps=8_000.0)):  # 12 kB would take 12 s
            if isinstance(event, ImageChunk):
                node.update_allocation("r1", 1e9)
        assert asyncio.get_running_loop().time() - began_s < 2

    asyncio.run(scenario())


def test_a_cloud_holds_its_catalog_and_adds_the_backhaul():
    async def scenario():
        backhaul = BackhaulConfig(delay_s=0.05, rate_bps=1e6)
        node, _ = fakes.node(fakes.config(role="cloud", backhaul=backhaul))
        await node.start()
        assert node.cache.resident == ("a", "b")
        done = (await events_of(node, request(upload_bytes=1250)))[-1]
        expected_s = 2 * 0.05 + 8 * (1250 + done.total_bytes) / 1e6
        assert expected_s <= done.timings.backhaul_s <= expected_s + 0.1

    asyncio.run(scenario())


def test_under_a_reactive_policy_a_miss_is_loaded_and_its_seconds_have_a_name():
    async def scenario():
        reactive = CacheConfig(capacity_bytes=100, policy="lru")
        node, engine = fakes.node(replace(fakes.config(), cache=reactive))
        load = engine.load

        async def slow(entry):
            await asyncio.sleep(0.05)
            return await load(entry)

        engine.load = slow
        began_s = asyncio.get_running_loop().time()
        first = await events_of(node, request())
        total_s = asyncio.get_running_loop().time() - began_s
        timings = first[-1].timings
        assert first[0].is_hit is False
        assert 0.05 <= timings.load_s < total_s
        assert timings.queue_s < 0.02
        second = await events_of(node, request("r2"))
        assert second[0].is_hit is True
        assert second[-1].timings.load_s == 0

    asyncio.run(scenario())
