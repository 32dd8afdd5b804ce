"""Loading on a real GPU: pinned copies, bytes that return, working memory that is measured."""

import asyncio

import numpy as np
import pytest
import torch

from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog
from edge_node.config import CacheConfig, EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import image_of
from tests.fakes import job

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_comes_and_goes_by_host_copies_beside_another_that_runs(model_root, dtype, caplog):
    names = ("tiny", "small")
    models = Catalog(
        [ModelConfig(model_id=name, source=f"folder:{name}") for name in names], [model_root]
    )

    async def scenario():
        engine = DiffusersEngine(EngineConfig(device="cuda", dtype=dtype, max_batch_size=8))
        budget = CacheConfig(capacity_bytes=10**9, host_capacity_bytes=10**9, reserve_bytes=1)
        cache = ModelCache(budget, models, engine)
        await cache.load("tiny")
        assert all(block.is_pinned() for block in engine._loader._staged.values())
        assert engine.working_bytes("tiny") > 0
        assert "working memory, reserve_bytes is 1" in caplog.text
        alone = [(await image_of(engine, job(seed, num_steps=6))).pixels for seed in range(3)]
        await cache.load("small")
        await cache.evict("small")
        before = torch.cuda.memory_allocated()
        stop = False

        async def load_in_a_loop():
            while not stop:
                size = (await cache.load("small")).resident_bytes
                assert torch.cuda.memory_allocated() - before >= size
                await cache.evict("small")

        loading = asyncio.create_task(load_in_a_loop())
        for turn in range(30):
            image = (await image_of(engine, job(turn % 3, num_steps=6))).pixels
            assert np.array_equal(image, alone[turn % 3])
        stop = True
        await loading
        assert abs(torch.cuda.memory_allocated() - before) < 2**20
        await engine.close()

    asyncio.run(scenario())
