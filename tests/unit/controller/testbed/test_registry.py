"""The registry over nodes that answer for real, in this process, with an engine without nets."""

import asyncio
import contextlib

import pytest

from controller.record.config import DeadlinesConfig
from controller.testbed.registry import Registry
from edge_node.servicer import EdgeNodeServicer
from protos import edge_node_pb2
from protos.config import ConfigError
from protos.edge_node_pb2_grpc import add_EdgeNodeServiceServicer_to_server
from protos.errors import InvalidRequestError, ModelTooLargeError, NodeDownError
from protos.messages import Role
from protos.serving import listening
from tests import fakes

_SERVICE = edge_node_pb2.DESCRIPTOR.services_by_name["EdgeNodeService"].full_name
DEADLINES = DeadlinesConfig(poll_s=0.5, call_s=2.0)


@contextlib.asynccontextmanager
async def node(role: str = "edge", node_id: str = "", capacity_bytes: int = 100):
    """Serve a node of models "a" and "b", 40 bytes each; yield it and its address."""
    config = fakes.config(capacity_bytes=capacity_bytes, node_id=node_id or f"{role}-0", role=role)
    made, _ = fakes.node(config)
    await made.start()
    async with listening(
        "127.0.0.1:0",
        _SERVICE,
        lambda server: add_EdgeNodeServiceServicer_to_server(EdgeNodeServicer(made), server),
        grace_s=0.0,
    ) as bound:
        yield made, bound.address


def test_what_a_node_holds_is_known_after_a_cache_change():
    async def scenario():
        async with node() as (_, edge), node("cloud") as (_, cloud), Registry(DEADLINES) as known:
            await known.attach(edge)
            await known.attach(cloud)
            assert known.models() == ("a", "b")
            assert (known.holders("a"), known.cloud("a"), known.cloud("z")) == ([], "cloud-0", "")
            await known.set_cache("edge-0", ("a",))
            assert (known.holders("a"), known.holders("b")) == (["edge-0"], [])
            assert (known.address("edge-0"), known.role("cloud-0")) == (edge, Role.CLOUD)
            await known.set_cache("edge-0", ())
            assert known.holders("a") == []

    asyncio.run(scenario())


def test_a_model_about_to_be_evicted_gets_no_more_requests():
    async def scenario():
        async with node() as (served, edge), Registry(DEADLINES) as known:
            await known.attach(edge)
            await known.set_cache("edge-0", ("a", "b"))
            with served.cache.lease("a"):
                change = asyncio.create_task(known.set_cache("edge-0", ("b",)))
                while "a" in served.cache.resident:
                    await asyncio.sleep(0.01)
                assert (known.holders("a"), known.holders("b")) == ([], ["edge-0"])
            await change

    asyncio.run(scenario())


def test_nobody_is_sent_for_what_a_later_decision_evicts():
    async def scenario():
        async with node() as (_, edge), Registry(DEADLINES) as known:
            await known.attach(edge)
            await known.set_cache("edge-0", ("a",))
            known.expect("edge-0", ("a", "b"))
            first = asyncio.create_task(known.set_cache("edge-0", ("a", "b")))
            known.expect("edge-0", ())  # decided before the first change has ended
            assert known.holders("a") == []
            await first
            assert (known.holders("a"), known.holders("b")) == ([], [])
            await known.set_cache("edge-0", ())
            await known.set_cache("edge-0", ("b",))
            assert known.holders("b") == ["edge-0"]  # nothing of the old decisions is left

    asyncio.run(scenario())


def test_a_cache_change_that_a_node_refuses_leaves_its_models_known():
    async def scenario():
        async with node(capacity_bytes=50) as (_, edge), Registry(DEADLINES) as known:
            await known.attach(edge)
            await known.set_cache("edge-0", ("a",))
            with pytest.raises(ModelTooLargeError, match="a \\+ b: 80 bytes needed"):
                await known.set_cache("edge-0", ("a", "b"))
            assert known.holders("a") == ["edge-0"]

    asyncio.run(scenario())


def test_a_node_that_stops_answering_is_lost_and_one_that_drains_gets_no_requests():
    async def scenario():
        async with node("cloud") as (cloud, address), Registry(DEADLINES) as known:
            async with node() as (_, edge):
                await known.attach(edge)
                await known.attach(address)
                await known.set_cache("edge-0", ("a",))
            await known.poll()
            assert (known.holders("a"), known.cloud("a")) == ([], "cloud-0")
            states = {one.node_id: one.is_alive for one in known.summaries()}
            assert states == {"edge-0": False, "cloud-0": True}
            cloud.begin_drain()
            await known.poll("cloud-0")
            assert known.cloud("a") == ""

    asyncio.run(scenario())


def test_a_refresh_is_done_soon_and_waited_for_by_nobody():
    async def scenario():
        async with Registry(DEADLINES) as known:
            async with node() as (_, edge):
                await known.attach(edge)
            known.refresh("edge-0")
            assert known.statuses(Role.EDGE)
            while known.statuses(Role.EDGE):
                await asyncio.sleep(0.01)

    asyncio.run(scenario())


def test_two_nodes_of_one_name_are_refused():
    async def scenario():
        async with node() as (_, one), node() as (_, other), Registry(DEADLINES) as known:
            await known.attach(one)
            await known.attach(one)
            with pytest.raises(ConfigError, match=f"'edge-0' is at {one} and at {other}"):
                await known.attach(other)

    asyncio.run(scenario())


def test_a_node_may_register_again_and_move():
    async def scenario():
        async with node() as (_, one), node() as (_, other), Registry(DEADLINES) as known:
            await known.register("edge-0", one, Role.EDGE)
            await known.register("edge-0", other, Role.EDGE)
            await known.poll()
            assert [summary.address for summary in known.summaries()] == [other]
            assert known.summaries()[0].is_alive

    asyncio.run(scenario())


def test_a_heartbeat_brings_a_registered_node_to_life_and_no_other():
    async def scenario():
        async with node() as (served, edge), Registry(DEADLINES) as known:
            with pytest.raises(InvalidRequestError, match="'edge-0' is not registered"):
                known.heartbeat("edge-0", served.status())
            await known.register("edge-0", edge, Role.EDGE)
            assert not known.statuses(Role.EDGE)
            known.heartbeat("edge-0", served.status())
            assert list(known.statuses(Role.EDGE)) == ["edge-0"]

    asyncio.run(scenario())


@pytest.mark.parametrize(("node_id", "address"), [("", "h:1"), ("e", "h"), ("e", "h:x")])
def test_a_registration_without_name_or_port_is_refused(node_id, address):
    async def scenario():
        async with Registry(DEADLINES) as known:
            with pytest.raises(InvalidRequestError, match="needs a node_id and HOST:PORT"):
                await known.register(node_id, address, Role.EDGE)

    asyncio.run(scenario())


def test_nobody_at_an_address_is_an_error_that_names_it():
    async def scenario():
        async with node() as (_, gone):
            pass
        async with Registry(DEADLINES) as known:
            with pytest.raises(NodeDownError, match=gone):
                await known.attach(gone)

    asyncio.run(scenario())
