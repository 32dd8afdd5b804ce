"""How fast the simulator, the oracle and the observations are, on the default scenario."""

import time

import numpy as np
import pytest

from controller.cell import scenario
from controller.cell.observations import Allocation, SlotObservation, slot_features
from controller.cell.simulator import Simulator
from controller.policies import exact
from controller.policies.amender import amend
from controller.policies.baselines import RandomCaching, equal
from protos.seeds import stream

SLOTS = 120


@pytest.mark.bench
def test_slot_steps_per_cpu_second(capsys):
    default = scenario.load("default")
    table = scenario.read_models(default)
    rng = stream(0, "raw actions")

    def random_raw(slot: SlotObservation) -> Allocation:
        return amend(rng.uniform(-1, 1, (*slot.asks.shape, 2)), slot)

    def random_raw_and_features(slot: SlotObservation) -> Allocation:
        slot_features(slot, default.radio, default.slot_s)
        return random_raw(slot)

    def best(slot: SlotObservation) -> Allocation:
        return exact.allocate(slot, default)

    ways = {
        "random raw actions": random_raw,
        "the same, with features": random_raw_and_features,
        "equal": equal,
        "exact": best,
    }
    sizes = (1, 64, 256, 1024)
    found = {
        name: [
            _slot_steps_per_cpu_s(Simulator(default, table, num_envs=n, seed=0), way) for n in sizes
        ]
        for name, way in ways.items()
    }
    with capsys.disabled():
        print("\nslot-steps for a CPU second, one thread, default scenario")
        print(f"{'environments':<26}" + "".join(f"{size:>12}" for size in sizes))
        for name, rates in found.items():
            print(f"{name:<26}" + "".join(f"{rate:>12,.0f}" for rate in rates))
    assert max(found["random raw actions"]) > 20_000


def _slot_steps_per_cpu_s(simulator: Simulator, decide) -> float:
    """Return env x slots for a CPU second, so that what else runs matters less.

    Random caching and the caches' changes are included.
    """
    caching = RandomCaching(stream(0, "caching"))
    num_slots = max(10, min(SLOTS, 20_000 // simulator.num_envs))
    spent_s = []
    while len(spent_s) < num_slots:
        began_s = time.process_time()
        if simulator.is_over:
            simulator.reset()
        if simulator.is_at_frame_begin:
            simulator.apply_caches(caching(simulator.observe_frame()))
        simulator.apply_allocations(decide(simulator.observe_slot()))
        spent_s.append(time.process_time() - began_s)
    return simulator.num_envs * num_slots / float(np.sum(spent_s))
