"""Compiled denoisers draw the same images, and stay compiled while models come and go."""

import asyncio
import shutil

import numpy as np
import pytest
import torch

from edge_node.catalog import Catalog
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import image_of
from tests.fakes import job


def images(model_root, **changes) -> list[np.ndarray]:
    """Return four images made together, then again after an eviction and a load."""

    async def main():
        engine = DiffusersEngine(EngineConfig(device="cpu", max_batch_size=8, **changes))
        (entry,) = Catalog([ModelConfig(model_id="tiny", source="folder:tiny")], [model_root])
        found = []
        for _ in range(2):
            await engine.load(entry)
            jobs = [job(seed, guidance_scale=seed % 2 * 3.0) for seed in range(4)]
            found += await asyncio.gather(*(image_of(engine, one) for one in jobs))
            await engine.evict("tiny")
        await engine.close()
        return [one.pixels for one in found]

    return asyncio.run(main())


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch, of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_denoisers_draw_the_same_images_also_after_an_eviction(model_root):
    plain = images(model_root)
    torch._dynamo.utils.counters.clear()

    compiled = images(model_root, is_compiled=True)

    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs == 2  # one row, and more
    for one, other in zip(compiled, plain, strict=True):
        apart = np.abs(one.astype(int) - other.astype(int))
        assert apart.max() <= 1
        assert (apart > 0).mean() < 0.01
    assert all(np.array_equal(a, b) for a, b in zip(compiled[:4], compiled[4:], strict=True))
