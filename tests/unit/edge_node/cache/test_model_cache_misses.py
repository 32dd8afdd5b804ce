"""Reactive caches: what happens to requests whose model is not resident."""

import asyncio

import pytest

from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog
from edge_node.config import CacheConfig
from protos.errors import (
    GenerationError,
    ModelLoadError,
    ModelTooLargeError,
    NotResidentError,
    UnknownModelError,
)
from tests import fakes

SIZES = {"a": 30, "b": 40, "c": 50, "huge": 120}


def make(policy: str = "lru", **changes: int) -> tuple[ModelCache, fakes.FakeEngine]:
    engine = fakes.FakeEngine(dict(SIZES))
    catalog = Catalog([fakes.model(name) for name in SIZES])
    config = CacheConfig(capacity_bytes=100, policy=policy, **changes)
    return ModelCache(config, catalog, engine), engine


async def requested(cache: ModelCache, model_id: str) -> float:
    async with cache.ready(model_id) as load_s:
        assert model_id in cache.resident
        return load_s


def test_a_directed_cache_refuses_a_miss():
    async def scenario():
        cache, engine = make("controller")
        with pytest.raises(NotResidentError, match="'a' is not resident"):
            await requested(cache, "a")
        assert engine.num_loads == 0

    asyncio.run(scenario())


def test_a_miss_loads_and_a_hit_waits_for_nothing():
    async def scenario():
        cache, engine = make()
        assert await requested(cache, "a") > 0
        assert await requested(cache, "a") == 0
        assert engine.num_loads == 1

    asyncio.run(scenario())


def test_misses_of_one_model_share_one_load():
    async def scenario():
        cache, engine = make()
        waits_s = await asyncio.gather(*(requested(cache, "a") for _ in range(20)))
        assert all(load_s > 0 for load_s in waits_s)
        assert engine.num_loads == 1
        assert cache.infos()[0].num_leases == 0

    asyncio.run(scenario())


def test_misses_of_one_model_share_its_failure():
    async def scenario():
        cache, engine = make()
        engine.broken = {"a"}
        results = await asyncio.gather(
            *(requested(cache, "a") for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(result, ModelLoadError) for result in results)
        engine.broken = set()
        assert await requested(cache, "a") > 0

    asyncio.run(scenario())


def test_more_models_than_fit_are_all_served_and_none_is_lost_between_load_and_lease():
    async def scenario():
        cache, _ = make()
        names = ["b", "c", "a"] * 30
        waits_s = await asyncio.wait_for(asyncio.gather(*(requested(cache, n) for n in names)), 5)
        assert len(waits_s) == 90

    asyncio.run(scenario())


def test_a_leased_model_is_passed_over_and_waited_for_where_nothing_else_can_go():
    async def scenario():
        cache, _ = make()
        await requested(cache, "b")
        async with cache.ready("b"):  # used last, so lru would take "a" anyway: request it later
            await requested(cache, "a")
            await requested(cache, "c")  # b 40 + a 30 + c 50 > 100: a goes, though used after b
            assert set(cache.resident) == {"b", "c"}
            async with cache.ready("c"):
                waiting = asyncio.create_task(requested(cache, "a"))
                await asyncio.sleep(0.01)
                assert not waiting.done()
        assert await waiting > 0

    asyncio.run(scenario())


def test_what_can_never_fit_and_what_is_unknown_is_refused_with_nothing_evicted():
    async def scenario():
        cache, _ = make()
        await requested(cache, "a")
        with pytest.raises(ModelTooLargeError, match=r"huge: 120 bytes needed, the budget .* 100"):
            await requested(cache, "huge")
        with pytest.raises(UnknownModelError, match="'nobody'"):
            await requested(cache, "nobody")
        assert cache.resident == ("a",)

    asyncio.run(scenario())


def test_when_everybody_who_waits_has_left_the_load_ends_and_the_cache_is_whole():
    async def scenario():
        cache, engine = make()
        async with cache.ready("b"), cache.ready("c"):
            waiting = [asyncio.create_task(requested(cache, "a")) for _ in range(2)]
            await asyncio.sleep(0.01)
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            assert await requested(cache, "b") == 0  # it was to go, and is back in service
        await asyncio.sleep(0.01)
        assert set(cache.resident) == engine.resident == {"b", "c"}
        assert await requested(cache, "a") > 0
        assert all(info.num_leases == 0 for info in cache.infos())

    asyncio.run(scenario())


def test_an_eviction_that_fails_leaves_the_model_in_service():
    async def scenario():
        cache, engine = make()
        await requested(cache, "b")
        await requested(cache, "c")
        engine.stuck = {"b"}
        with pytest.raises(GenerationError, match="'b' cannot be evicted"):
            await requested(cache, "a")
        assert await requested(cache, "b") == 0
        assert cache.used_bytes == 90

    asyncio.run(scenario())


def test_a_reload_from_the_host_copy_needs_no_file():
    async def scenario():
        cache, engine = make("controller", host_capacity_bytes=80)
        await cache.set_cache(["a", "b"])
        assert cache.host.used_bytes == 70
        await cache.set_cache([])
        engine.broken = {"a", "b", "c"}
        await cache.set_cache(["a", "b"])
        assert set(cache.resident) == {"a", "b"}

    asyncio.run(scenario())


def test_the_least_recently_used_copy_makes_room_and_a_model_too_large_gets_none():
    async def scenario():
        cache, engine = make("controller", host_capacity_bytes=80)
        await cache.load("a")
        await cache.load("b")
        await cache.evict("a")  # used after b
        await cache.load("c")  # 30 + 40 + 50 > 80: b's copy goes
        assert engine.staged == {"a", "c"}
        cache, engine = make("controller", host_capacity_bytes=45)
        await cache.load("c")
        assert engine.staged == set()
        assert cache.resident == ("c",)

    asyncio.run(scenario())
