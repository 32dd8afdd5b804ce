"""EdgeNodeService over real gRPC on port 0, with an engine without nets behind it."""

import asyncio
import contextlib
from collections import Counter
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edge_node.server import SERVICE
from edge_node.servicer import EdgeNodeServicer
from protos import edge_node_pb2, errors
from protos.clients import EdgeNodeClient
from protos.config import ConfigError
from protos.edge_node_pb2_grpc import EdgeNodeServiceStub, add_EdgeNodeServiceServicer_to_server
from protos.messages import Done, GenerateRequest, ImageChunk, Progress, Role
from protos.serving import listening
from tests import fakes

REQUEST = GenerateRequest(request_id="r1", model_id="a", prompt="a red circle", num_steps=3, seed=1)


@contextlib.asynccontextmanager
async def served(node=None, **changes):
    node = node or fakes.node(fakes.config(**changes))[0]
    servicer = EdgeNodeServicer(node)
    async with (
        listening(
            "127.0.0.1:0",
            SERVICE,
            lambda server: add_EdgeNodeServiceServicer_to_server(servicer, server),
            grace_s=0.1,
        ) as bound,
        EdgeNodeClient(bound.address, deadline_s=5, peer="edge-0") as client,
    ):
        yield client, bound.address


async def collect(client, request=REQUEST, deadline_s=None):
    return [event async for event in client.generate(request, deadline_s)]


def test_the_life_of_a_model():
    async def scenario():
        async with served() as (client, _):
            assert [m.is_resident for m in await client.list_models()] == [False, False]
            assert (await client.load_model("a")).resident_bytes == 40
            change = await client.set_cache(["b"])
            assert change.used_bytes == 40
            assert [m.model_id for m in change.models if m.is_resident] == ["b"]
            assert (await client.evict_model("b")).freed_bytes == 40
            status = await client.status()
            assert (status.node_id, status.role, status.used_bytes) == ("edge-0", Role.EDGE, 0)
            assert status.telemetry.memory_total_bytes > 1e8
            assert status.telemetry.power_w is None

    asyncio.run(scenario())


def test_a_stream_of_events_ends_with_done():
    async def scenario():
        async with served() as (client, _):
            await client.load_model("a")
            events = await collect(client)
            assert isinstance(events[-1], Done)
            assert sum(isinstance(event, Progress) for event in events) == 3

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_steps": 0}, errors.InvalidRequestError, "num_steps must be 1..100"),
        ({"model_id": "zzz"}, errors.UnknownModelError, "'zzz'"),
        ({"model_id": "b"}, errors.NotResidentError, "'b' is not resident"),
        ({"prompt": "crash"}, errors.GenerationError, "failed"),
        ({"prompt": "x" * 100_000}, errors.InvalidRequestError, "at most 2000 characters"),
        ({"guidance_scale": float("nan")}, errors.InvalidRequestError, "got nan"),
    ],
)
def test_a_refusal_arrives_as_its_class_and_the_node_serves_on(change, error, message):
    async def scenario():
        async with served() as (client, _):
            await client.load_model("a")
            with pytest.raises(error, match=message):
                await collect(client, replace(REQUEST, **change))
            assert isinstance((await collect(client))[-1], Done)
            assert (await client.status()).num_active == 0

    asyncio.run(scenario())


def test_refusals_of_the_cache_arrive_as_their_classes():
    async def scenario():
        async with served(models=("a", "b", "c")) as (client, _):
            await client.set_cache(["a", "b"])
            with pytest.raises(errors.OverloadedError, match="'c' needs 40 bytes"):
                await client.load_model("c")
            with pytest.raises(errors.ModelTooLargeError, match="120 bytes needed"):
                await client.set_cache(["a", "b", "c"])
            with pytest.raises(errors.NotResidentError):
                await client.evict_model("c")
            with pytest.raises(errors.InvalidRequestError, match="not active"):
                await client.update_allocation("r1", 1e6)

    asyncio.run(scenario())


def test_a_ticket_is_needed_where_there_is_a_secret():
    async def scenario():
        async with served(fakes.node(secret=b"key")[0]) as (client, _):
            with pytest.raises(errors.TicketError, match="there is none"):
                await collect(client)

    asyncio.run(scenario())


def test_a_deadline_ends_the_request_and_frees_the_node():
    async def scenario():
        node, engine = fakes.node()
        engine.step_s = 0.05
        async with served(node) as (client, _):
            await client.load_model("a")
            with pytest.raises(errors.DeadlineError, match=r"edge-0 at 127|took longer"):
                await collect(client, replace(REQUEST, num_steps=100), deadline_s=0.2)
            await asyncio.sleep(0.1)
            assert (await client.status()).num_active == 0
            assert not engine.running

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_the_node():
    async def scenario():
        node, engine = fakes.node()
        engine.step_s = 0.02
        async with served(node) as (client, _):
            await client.load_model("a")
            events = client.generate(replace(REQUEST, num_steps=100))
            async with contextlib.aclosing(events):
                async for event in events:
                    if isinstance(event, Progress):
                        break
            async with asyncio.timeout(2):
                while (await client.status()).num_active:
                    await asyncio.sleep(0.01)
            assert not engine.running

    asyncio.run(scenario())


def test_a_client_that_leaves_in_mid_transfer_frees_the_node():
    async def scenario():
        node, _ = fakes.node()
        async with served(node) as (client, _):
            await client.load_model("a")
            slow = replace(REQUEST, num_steps=1, rate_bps=20e3)  # seconds for the image
            async with contextlib.aclosing(client.generate(slow)) as events:
                async for event in events:
                    if isinstance(event, ImageChunk):
                        break
            async with asyncio.timeout(2):
                while (await client.status()).num_active:
                    await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_ten_thousand_requests_at_once_are_each_served_or_refused_by_name():
    async def ask(client, number):
        try:
            events = await collect(client, replace(REQUEST, request_id=f"r{number}"), 100)
        except errors.OverloadedError as error:
            return str(error)
        return type(events[-1])

    async def scenario():
        node, engine = fakes.node()
        engine.step_s = 0.01
        async with served(node) as (client, _):
            await client.load_model("a")
            answers = Counter(await asyncio.gather(*(ask(client, n) for n in range(10_000))))
            assert answers.pop(Done) >= node.config.limits.max_queue
            assert answers.total() > 5_000
            assert all("the queue is full: max_queue 64, got 64" in text for text in answers)
            status = await client.status()
            assert (status.num_active, status.queue_depth) == (0, 0)

    asyncio.run(scenario())


def test_nobody_at_the_address_is_a_node_that_is_down():
    async def scenario():
        async with EdgeNodeClient("127.0.0.1:1", deadline_s=2, peer="edge-7") as client:
            with pytest.raises(errors.NodeDownError, match=r"edge-7 at 127\.0\.0\.1:1"):
                await client.status()

    asyncio.run(scenario())


def test_a_port_in_use_is_named():
    async def scenario():
        async with served() as (_, address):
            with pytest.raises(ConfigError, match=f"cannot listen on {address}"):
                async with listening(address, SERVICE, lambda _: None):
                    pass

    asyncio.run(scenario())


def test_health_and_reflection_answer():
    async def scenario():
        async with served() as (_, address), grpc.aio.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            reply = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            call = stub.ServerReflectionInfo(iter([asked]), timeout=5)
            answer = await anext(aiter(call))
            names = [service.name for service in answer.list_services_response.service]
            assert "edge.v1.EdgeNodeService" in names

    asyncio.run(scenario())


def test_a_message_over_the_limit_is_refused_and_the_node_serves_on():
    async def scenario():
        async with served() as (client, address), grpc.aio.insecure_channel(address) as channel:
            await client.load_model("a")
            stub = EdgeNodeServiceStub(channel)
            huge = edge_node_pb2.LoadModelRequest(model_id="x" * 5_000_000)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.LoadModel(huge, timeout=5)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert isinstance((await collect(client))[-1], Done)

    asyncio.run(scenario())
