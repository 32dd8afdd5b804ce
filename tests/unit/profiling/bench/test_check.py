import asyncio

import numpy as np
import pytest

from profiling.bench import check, shapes
from profiling.bench.backends import by_engine
from profiling.bench.check import Contest
from tests import fakes

IMAGE = np.zeros((8, 8, 3), np.uint8)


class SlowPipeline:
    """Serves one request at a time, in a set time."""

    def __init__(self, serve_s: float) -> None:
        self.serve_s = serve_s
        self.device = asyncio.Lock()

    async def one_by_one(self, _):
        async with self.device:
            await asyncio.sleep(self.serve_s)
        return IMAGE


class SlowDoor:
    """Serves as the engine does, later."""

    def __init__(self, engine: fakes.FakeEngine, late_s: float) -> None:
        self.engine = engine
        self.late_s = late_s

    async def run_timed(self, loop, *args):
        async def serve(job):
            await asyncio.sleep(self.late_s)
            return await by_engine(self.engine)(job)

        return await loop(serve, *args), {}


def contest(late_s: float) -> Contest:
    engine = fakes.FakeEngine({"tiny": 1})
    engine.resident.add("tiny")
    requests = [fakes.job(seed) for seed in range(4)]
    return Contest(engine, SlowPipeline(0.05), SlowDoor(engine, late_s), requests)


def test_a_faster_engine_is_a_ratio_over_1():
    assert asyncio.run(contest(0.0).engine_over_pipeline()) > 1


def test_a_slower_door_is_a_ratio_over_1():
    assert asyncio.run(contest(0.2).grpc_over_in_process()) > 1


@pytest.mark.parametrize(("taken_s", "rounds"), [(0.0, check.ROUNDS), (2 * check.ENOUGH_S, 1)])
def test_rounds_end_where_they_take_too_long(taken_s, rounds, monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(check.time, "perf_counter", lambda: now_s[0])

    async def pair() -> float:
        now_s[0] += taken_s
        return 1.5

    assert asyncio.run(check._rounds(pair)) == rounds * [1.5]


def test_the_model_to_load_is_far_larger_than_caches():
    unet, config = check._half_width(shapes.SD15_DENOISER).nets["unet"]
    assert config["block_out_channels"] == (160, 320, 640, 640)
    assert unet is shapes.SD15.nets["unet"][0]
