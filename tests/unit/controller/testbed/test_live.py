"""What the live system sees, in the simulator's arrays."""

import asyncio
from types import SimpleNamespace

import numpy as np

from controller.policies import baselines
from controller.record.config import NodeSpec, RunConfig
from controller.record.request_log import RequestLog
from controller.testbed.live import LiveTestbed
from protos.messages import ModelInfo
from protos.seeds import stream
from tests.unit.controller.scenarios import scenario, table

CONFIG = RunConfig(
    num_frames=9,
    slots_per_frame=1,
    slot_s=1e-6,
    num_users=2,
    nodes=(NodeSpec(attach="127.0.0.1:1"),),
    history_frames=3,
)


def info(model_id: str, **changes) -> ModelInfo:
    values = dict.fromkeys(("resident_bytes", "disk_bytes", "load_s")) | {"is_resident": False}
    values |= {"num_leases": 0, "max_num_steps": 20, "default_num_steps": 20}
    values |= {"default_guidance_scale": 1.0, "width_px": 64, "height_px": 64}
    return ModelInfo(model_id=model_id, **(values | changes))


class Nodes:
    """A registry of edge nodes "e" (100 bytes, holds "c") and "f" (50 bytes)."""

    def __init__(self) -> None:
        self.held = {"e": ("c",), "f": ()}
        self.room = {"e": 100, "f": 50}

    def edges(self):
        models = [info("a", resident_bytes=70, load_s=9.0), info("b"), info("c")]
        return {n: SimpleNamespace(capacity_bytes=self.room[n], models=models) for n in self.held}

    def expected(self, node_id):
        return self.held[node_id]

    def expect(self, node_id, models):
        self.held[node_id] = models

    async def set_cache(self, _node_id, _models):
        pass


class Counts:
    """A dispatcher in whose every frame "a" is asked for once more than in the frame before."""

    def __init__(self) -> None:
        self.number = 0

    def take_counts(self):
        self.number += 1
        return np.array([self.number, 0, 1])


async def observed(tmp_path, num_frames: int, registry: Nodes):
    with RequestLog(tmp_path / "requests.sqlite") as log:
        testbed = LiveTestbed(
            CONFIG, registry=registry, dispatcher=Counts(), cell=None, table=table(), log=log
        )
        for frame in range(num_frames):
            seen = await testbed.observe_frame(frame)
            policy = baselines.build("most-popular", scenario(), stream(0, "policy"))
            caches = policy.decide_caches(seen)
            seen.validate(caches)
            await testbed.apply_caches(caches)
        await testbed.close()
        return seen


def test_counts_are_those_of_the_last_frames_and_0_before_the_first(tmp_path):
    one, four = (asyncio.run(observed(tmp_path, n, Nodes())) for n in (1, 5))

    assert one.request_counts.tolist() == [[[0, 0, 0]] * 3]
    assert four.request_counts.tolist() == [[[2, 0, 1], [3, 0, 1], [4, 0, 1]]]


def test_nodes_of_unlike_room_are_filled_each_to_its_own(tmp_path):
    registry = Nodes()
    seen = asyncio.run(observed(tmp_path, 3, registry))

    assert seen.capacity_bytes.tolist() == [100, 50]
    assert seen.caches.tolist() == [[[True, False, False], [False, False, True]]]
    assert registry.held == {"e": ("a",), "f": ("c",)}


def test_bytes_and_load_times_are_the_nodes_own_where_they_measured_them(tmp_path):
    seen = asyncio.run(observed(tmp_path, 1, Nodes()))

    assert seen.table.resident_bytes.tolist() == [70, 50, 40]  # a has 60 in the profile
    assert seen.table.load_s.tolist() == [9.0, 3.0, 3.0]
    assert seen.caches.tolist() == [[[False, False, True], [False, False, False]]]


def test_without_an_edge_node_every_policy_has_nothing_to_decide(tmp_path):
    registry = Nodes()
    registry.held = {}
    seen = asyncio.run(observed(tmp_path, 2, registry))

    for name in baselines.CACHINGS:
        policy = baselines.build(name, scenario(), stream(0, "policy"))
        assert policy.decide_caches(seen).shape == (1, 0, 3)
