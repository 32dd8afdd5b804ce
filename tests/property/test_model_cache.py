"""Whatever is asked of a cache with host tier and policy, and whatever fails, it stays whole."""

import asyncio
from contextlib import AsyncExitStack, suppress

from hypothesis import given
from hypothesis import strategies as st

from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog
from edge_node.config import CacheConfig
from protos.errors import EdgeError
from tests import fakes

SIZES = {"a": 30, "b": 40, "c": 50, "huge": 120}
MODEL = st.sampled_from([*SIZES])
OPERATION = st.one_of(
    st.tuples(st.sampled_from(["load", "evict", "request"]), MODEL),
    st.tuples(st.sampled_from(["broken", "full", "stuck"]), MODEL),
    st.tuples(st.just("set"), st.lists(MODEL, max_size=4)),
    st.tuples(st.just("release"), st.none()),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
)


class Machine:
    """The cache under test, its fake engine, and everybody who uses it."""

    def __init__(self, config: CacheConfig) -> None:
        self.config = config
        self.engine = fakes.FakeEngine(dict(SIZES))
        self.cache = ModelCache(config, Catalog([fakes.model(name) for name in SIZES]), self.engine)
        self.leases: list[tuple[str, asyncio.Event]] = []
        self.tasks: list[asyncio.Task[object]] = []

    def act(self, name: str, value) -> None:
        if name in ("broken", "full", "stuck"):
            getattr(self.engine, name).symmetric_difference_update({value})
        elif name == "release":
            if self.leases:
                self.leases.pop(0)[1].set()
        elif name == "cancel":
            if self.tasks:
                self.tasks[value % len(self.tasks)].cancel()
        else:
            ask = {
                "load": self.cache.load,
                "evict": self.cache.evict,
                "set": self.cache.set_cache,
                "request": self.request,
            }[name]
            self.tasks.append(asyncio.create_task(ask(value)))

    async def request(self, model_id: str) -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.cache.ready(model_id))
            lease = (model_id, asyncio.Event())
            self.leases.append(lease)
            try:
                await lease[1].wait()
            finally:
                if lease in self.leases:
                    self.leases.remove(lease)

    def check(self) -> None:
        assert self.cache.used_bytes <= self.config.capacity_bytes
        assert self.cache.host.used_bytes <= self.config.host_capacity_bytes
        staged_bytes = sum(SIZES[name] for name in self.engine.staged)
        assert staged_bytes <= self.config.host_capacity_bytes
        assert {name for name, _ in self.leases} <= self.engine.resident

    async def end(self) -> None:
        self.engine.stuck.clear()
        while not all(task.done() for task in self.tasks):
            while self.leases:
                self.leases.pop(0)[1].set()
            await asyncio.sleep(0)
            self.check()
        for task in self.tasks:
            with suppress(asyncio.CancelledError, EdgeError):
                task.result()
        async with asyncio.timeout(5):
            while self.cache._misses or self.cache._changing.locked():
                await asyncio.sleep(0)


@given(
    operations=st.lists(OPERATION, max_size=40),
    capacity_bytes=st.integers(60, 160),
    host_capacity_bytes=st.integers(0, 160),
    policy=st.sampled_from(["controller", "lru", "lfu", "size-aware"]),
)
def test_budgets_leases_and_books_hold(operations, capacity_bytes, host_capacity_bytes, policy):
    async def scenario():
        machine = Machine(
            CacheConfig(
                capacity_bytes=capacity_bytes,
                host_capacity_bytes=host_capacity_bytes,
                policy=policy,
            )
        )
        for name, value in operations:
            machine.act(name, value)
            for _ in range(3):
                await asyncio.sleep(0)
                machine.check()
        await machine.end()
        cache, engine = machine.cache, machine.engine
        assert set(cache.resident) == engine.resident
        assert cache.used_bytes == sum(SIZES[name] for name in engine.resident)
        assert cache.host.used_bytes == sum(SIZES[name] for name in engine.staged)
        assert all(info.num_leases == 0 for info in cache.infos())

    asyncio.run(scenario())
