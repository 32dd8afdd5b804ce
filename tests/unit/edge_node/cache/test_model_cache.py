import asyncio
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog
from edge_node.config import CacheConfig
from protos.errors import (
    EdgeError,
    ModelLoadError,
    ModelTooLargeError,
    NotResidentError,
    OverloadedError,
    UnknownModelError,
)
from protos.messages import Eviction, ModelInfo
from tests import fakes

SIZES = {"a": 30, "b": 40, "c": 50, "huge": 120}


def make(capacity_bytes: int = 100, reserve_bytes: int = 0) -> tuple[ModelCache, fakes.FakeEngine]:
    engine = fakes.FakeEngine(dict(SIZES))
    catalog = Catalog([fakes.model(name) for name in SIZES])
    budget = CacheConfig(capacity_bytes=capacity_bytes, reserve_bytes=reserve_bytes)
    return ModelCache(budget, catalog, engine), engine


def test_models_load_until_the_budget_is_full():
    async def scenario():
        cache, _ = make()
        info = await cache.load("a")
        assert (info.resident_bytes, info.is_resident, info.num_leases) == (30, True, 0)
        await cache.load("b")
        assert cache.used_bytes == 70
        with pytest.raises(OverloadedError, match=r"'c' needs 50 bytes; 70 of the budget's 100"):
            await cache.load("c")
        assert cache.resident == ("a", "b")

    asyncio.run(scenario())


def test_the_reserve_is_not_for_models():
    async def scenario():
        cache, _ = make(capacity_bytes=100, reserve_bytes=60)
        with pytest.raises(ModelTooLargeError, match=r"50 bytes needed, the budget .* is 40"):
            await cache.load("c")
        assert cache.used_bytes == 0

    asyncio.run(scenario())


def test_unknown_and_absent_models_are_named():
    async def scenario():
        cache, _ = make()
        with pytest.raises(UnknownModelError, match=r"'nobody'.*a, b, c, huge"):
            await cache.load("nobody")
        with pytest.raises(NotResidentError, match="'a' is not resident"):
            await cache.evict("a")
        with pytest.raises(NotResidentError, match="resident: none"), cache.lease("a"):
            pass

    asyncio.run(scenario())


def test_eviction_waits_for_leases_and_refuses_new_ones():
    async def scenario():
        cache, engine = make()
        await cache.load("a")
        with cache.lease("a"):
            evicting = asyncio.create_task(cache.evict("a"))
            await asyncio.sleep(0.01)
            assert not evicting.done()
            assert engine.resident == {"a"}
            with pytest.raises(NotResidentError), cache.lease("a"):
                pass
        assert (await evicting).freed_bytes == 30
        assert engine.resident == set()

    asyncio.run(scenario())


def test_a_cancelled_eviction_leaves_the_model_in_service():
    async def scenario():
        cache, _ = make()
        await cache.load("a")
        with cache.lease("a"):
            evicting = asyncio.create_task(cache.evict("a"))
            await asyncio.sleep(0.01)
            evicting.cancel()
            with suppress(asyncio.CancelledError):
                await evicting
            with cache.lease("a"):
                pass

    asyncio.run(scenario())


def test_a_caching_decision_that_fails_restores_the_one_before():
    async def scenario():
        cache, engine = make()
        await cache.set_cache(["a", "b"])
        engine.broken = {"c"}
        with pytest.raises(ModelLoadError):
            await cache.set_cache(["c"])
        assert sorted(cache.resident) == ["a", "b"]
        assert engine.resident == {"a", "b"}
        with pytest.raises(ModelTooLargeError, match=r"a \+ huge: 150 bytes needed"):
            await cache.set_cache(["a", "huge"])
        assert engine.resident == {"a", "b"}

    asyncio.run(scenario())


def test_a_caching_decision_loads_only_what_is_new():
    async def scenario():
        cache, engine = make()
        await cache.set_cache(["a", "b"])
        await cache.set_cache(["b", "c"])
        assert engine.num_loads == 3
        assert sorted(cache.resident) == ["b", "c"]

    asyncio.run(scenario())


def test_a_model_larger_than_its_files_said_is_given_back():
    async def scenario():
        cache, engine = make()
        await cache.load("b")
        engine.estimate_bytes = lambda _: 1
        engine.sizes["a"] = 70
        with pytest.raises(ModelTooLargeError, match="'a' measures 70 bytes after loading; 60"):
            await cache.load("a")
        assert engine.resident == {"b"}
        assert cache.used_bytes == 40

    asyncio.run(scenario())


MODEL = st.sampled_from([*SIZES])
OPERATION = st.one_of(
    st.tuples(st.just("load"), MODEL),
    st.tuples(st.just("evict"), MODEL),
    st.tuples(st.just("set"), st.lists(MODEL, max_size=4)),
    st.tuples(st.just("lease"), MODEL),
    st.tuples(st.just("release"), st.none()),
    st.tuples(st.just("break"), MODEL),
    st.tuples(st.just("cancel"), st.none()),
)


@given(st.lists(OPERATION, max_size=40), st.integers(60, 160))
def test_whatever_is_asked_the_invariants_hold(operations, capacity_bytes):
    async def scenario():
        cache, engine = make(capacity_bytes)
        leases: list[tuple[str, ExitStack]] = []
        tasks: list[asyncio.Task[object]] = []

        def lease(model_id):
            stack = ExitStack()
            with suppress(EdgeError):
                stack.enter_context(cache.lease(model_id))
                leases.append((model_id, stack))

        act = {
            "lease": lease,
            "release": lambda _: leases and leases.pop(0)[1].close(),
            "break": lambda model_id: engine.broken.symmetric_difference_update({model_id}),
            "cancel": lambda _: tasks and tasks[-1].cancel(),
            "load": lambda model_id: tasks.append(asyncio.create_task(cache.load(model_id))),
            "evict": lambda model_id: tasks.append(asyncio.create_task(cache.evict(model_id))),
            "set": lambda models: tasks.append(asyncio.create_task(cache.set_cache(models))),
        }
        for name, value in operations:
            act[name](value)
            for _ in range(3):
                await asyncio.sleep(0)
                assert cache.used_bytes <= capacity_bytes
                assert {model_id for model_id, _ in leases} <= engine.resident
        for _, stack in leases:
            stack.close()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            known = (EdgeError, asyncio.CancelledError, ModelInfo, Eviction, float)
            assert isinstance(result, known)
        assert set(cache.resident) == engine.resident
        assert cache.used_bytes == sum(engine.sizes[m] for m in engine.resident)

    asyncio.run(scenario())
