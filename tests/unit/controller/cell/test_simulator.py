import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from controller.cell.observations import MISS, Allocation
from controller.cell.simulator import Simulator, place, serve
from controller.policies.baselines import equal
from tests.unit.controller.scenarios import scenario, slot, table

CAUSES = ("wait_s", "upload_s", "queue_s", "load_s", "generate_s", "backhaul_s", "download_s")
FIRST_TWO = np.array([[[True, False, True]]])  # a and c: 100 of 100 bytes


def simulator(seed=0, num_envs=1, **changes) -> Simulator:
    setting = scenario(**changes)
    return Simulator(setting, table(**changes), num_envs=num_envs, seed=seed)


def halves(*num_steps: int) -> Allocation:
    count = len(num_steps)
    return Allocation(shares=np.full((1, count), 0.5), num_steps=np.array([num_steps]))


def test_the_latency_and_utility_of_a_hit_by_hand():
    outcomes = serve(slot([0, -1]), halves(6, 20), scenario())
    # 8 kbit up and 1 Mbit down at 1 Mbit/s; 0.5 s + 6 * 0.1 s; quality 0.2 + 0.8 * 4 / 8
    assert outcomes.upload_s[0] == pytest.approx([0.008, 0])
    assert outcomes.download_s[0] == pytest.approx([1.0, 0])
    assert outcomes.generate_s[0] == pytest.approx([1.1, 0])
    assert outcomes.backhaul_s[0].tolist() == [0, 0]
    assert outcomes.total_s[0] == pytest.approx([0.25 + 0.008 + 1.1 + 1.0, 0])
    assert outcomes.quality[0] == pytest.approx([0.6, 0])
    # 0.6 * 0.6 - 0.4 * 2.358 / 10
    assert outcomes.utility[0] == pytest.approx([0.26568, 0])
    # of 4 * 0.8 requests that a slot has in the mean
    assert outcomes.reward == pytest.approx([0.26568 / 3.2])


def test_a_miss_pays_for_the_backhaul_and_gets_full_steps():
    outcomes = serve(slot([0, 2], [MISS, MISS]), halves(20, 8), scenario())
    # both ways 0.5 s, 1.008 Mbit over 1 Mbit/s; 0.5 s + 20 or 8 * 0.1 s
    assert outcomes.backhaul_s[0] == pytest.approx([2.008, 2.008])
    assert outcomes.generate_s[0] == pytest.approx([2.5, 1.3])
    assert outcomes.quality[0] == pytest.approx([1.0, 0.8])
    assert not outcomes.is_hit.any()


def test_causes_sum_to_the_total_in_a_whole_episode():
    sim = simulator(num_envs=8, num_users=6)
    while not sim.is_over:
        sim.apply_caches(np.repeat(FIRST_TWO, 8, axis=0))
        for _ in range(5):
            outcomes = sim.apply_allocations(equal(sim.observe_slot()))
            parts = np.stack([getattr(outcomes, cause) for cause in CAUSES])
            assert (parts >= 0).all()
            assert parts.sum(axis=0) == pytest.approx(outcomes.total_s)
            assert not outcomes.utility[~outcomes.asks].any()
            assert ((outcomes.wait_s > 0.2 - 1e-9) & (outcomes.wait_s <= 2))[outcomes.asks].all()


def loaded(sim: Simulator) -> set[int]:
    """Return the models that some request of the slot was a hit for."""
    seen = sim.observe_slot()
    hits = set(seen.models[seen.nodes != MISS].tolist())
    sim.apply_allocations(equal(seen))
    return hits


def test_the_first_frame_begins_loaded_and_later_loads_are_misses_until_done():
    sim = simulator(num_envs=64)
    sim.apply_caches(np.zeros((64, 1, 3), dtype=bool))
    assert [loaded(sim) for _ in range(5)] == [set()] * 5
    sim.apply_caches(np.repeat(FIRST_TWO, 64, axis=0))
    # slots begin at 0, 2, 4, 6, 8 s; a is there after 3 s, c after 6 s
    assert [loaded(sim) for _ in range(5)] == [set(), set(), {0}, {0, 2}, {0, 2}]
    sim.apply_caches(np.repeat(FIRST_TWO, 64, axis=0))
    assert [loaded(sim) for _ in range(5)] == [{0, 2}] * 5

    sim.reset()
    sim.apply_caches(np.repeat(FIRST_TWO, 64, axis=0))
    assert loaded(sim) == {0, 2}


def test_free_loads_take_no_time_and_are_observed_as_they_are():
    sim = Simulator(scenario(), table(), num_envs=64, seed=0, are_loads_free=True)
    sim.apply_caches(np.zeros((64, 1, 3), dtype=bool))
    for _ in range(5):
        loaded(sim)
    assert sim.observe_frame().table.load_s.tolist() == table().load_s.tolist()
    sim.apply_caches(np.repeat(FIRST_TWO, 64, axis=0))
    assert loaded(sim) == {0, 2}


def test_a_load_longer_than_a_frame_goes_on_in_the_next_one():
    slow = tuple(dataclasses.replace(model, load_s=12.0) for model in scenario().synthetic_models)
    sim = simulator(num_envs=64, synthetic_models=slow)
    sim.apply_caches(np.zeros((64, 1, 3), dtype=bool))
    for _ in range(5):
        loaded(sim)
    only_a = np.repeat(np.array([[[True, False, False]]]), 64, axis=0)
    sim.apply_caches(only_a)
    assert [loaded(sim) for _ in range(5)] == [set()] * 5  # 10 of 12 s
    sim.apply_caches(only_a)
    assert [loaded(sim) for _ in range(5)] == [set(), {0}, {0}, {0}, {0}]


def test_an_evicted_model_must_be_loaded_again():
    sim = simulator(num_envs=64)
    for caches in (FIRST_TWO, FIRST_TWO & False, FIRST_TWO):
        sim.apply_caches(np.repeat(caches, 64, axis=0))
        hits = [loaded(sim) for _ in range(5)]
    assert hits[0] == set()
    assert hits[4] == {0, 2}


def test_a_request_goes_to_the_holder_with_the_fewest_before_it():
    is_loaded = np.array([[[True, True], [True, False]]])  # node 0 holds both, node 1 only model 0
    models, asks = np.array([[0, 0, 1, 0, 0, 0]]), np.array([[1, 1, 1, 1, 0, 1]], dtype=bool)
    # loads before each: 00 10 11 21 - 22
    assert place(models, asks, is_loaded).tolist() == [[0, 1, 0, 1, MISS, 0]]
    assert place(models, asks, is_loaded[:, 1:]).tolist() == [[0, 0, MISS, 0, MISS, 0]]


def test_what_was_asked_is_counted_and_remembered():
    sim = simulator(num_envs=3)
    seen = []
    for _ in range(3):
        counts = np.zeros((3, 3), dtype=int)
        sim.apply_caches(np.zeros((3, 1, 3), dtype=bool))
        for _ in range(5):
            observed = sim.observe_slot()
            for env, user in zip(*np.nonzero(observed.asks), strict=True):
                counts[env, observed.models[env, user]] += 1
            sim.apply_allocations(equal(observed))
        seen.append(counts)
    assert np.array_equal(sim.observe_frame().request_counts, np.stack(seen[1:], axis=1))


def test_nature_is_the_same_whatever_is_decided_and_repeats_with_its_seed():
    def nature(seed: int, caches: np.ndarray) -> list[np.ndarray]:
        sim = simulator(seed, num_envs=2)
        seen = []
        while not sim.is_over:
            sim.apply_caches(np.repeat(caches, 2, axis=0))
            for _ in range(5):
                observed = sim.observe_slot()
                seen += [observed.asks, observed.models, observed.gains, observed.waiting_s]
                sim.apply_allocations(equal(observed))
        return [*seen, sim.popularity]

    one, other = nature(1, FIRST_TWO), nature(1, FIRST_TWO & False)
    assert all(np.array_equal(*pair) for pair in zip(one, other, strict=True))
    assert not np.array_equal(one[2], nature(2, FIRST_TWO)[2])


def test_episodes_and_environments_differ():
    sim = simulator(num_envs=2)
    first = sim.popularity
    sim.reset()
    assert not np.array_equal(first, sim.popularity)
    sim.apply_caches(np.zeros((2, 1, 3), dtype=bool))
    gains = sim.observe_slot().gains
    assert not np.array_equal(gains[0], gains[1])


def test_popularity_is_that_of_the_requests():
    sim = simulator(num_envs=400, num_frames=1, slots_per_frame=20, num_users=10)
    sim.apply_caches(np.zeros((400, 1, 3), dtype=bool))
    for _ in range(20):
        sim.apply_allocations(equal(sim.observe_slot()))
    counts = sim.observe_frame().request_counts[:, -1]
    shares = counts / counts.sum(axis=1, keepdims=True)
    assert np.abs(shares - sim.popularity[:, 0]).mean() < 0.03


def test_calls_out_of_order_and_infeasible_decisions_are_refused():
    sim = simulator()
    with pytest.raises(ValueError, match="needs apply_caches before observe_slot"):
        sim.observe_slot()
    with pytest.raises(ValueError, match="holds 100 bytes, got 150 bytes"):
        sim.apply_caches(np.ones((1, 1, 3), dtype=bool))
    with pytest.raises(ValueError, match=r"caches must be bool \(1, 1, 3\)"):
        sim.apply_caches(np.ones((1, 2, 3), dtype=bool))
    sim.apply_caches(FIRST_TWO)
    with pytest.raises(ValueError, match="decided once"):
        sim.apply_caches(FIRST_TWO)
    with pytest.raises(ValueError, match="needs an observe_slot before it"):
        sim.apply_allocations(halves(1, 1, 1, 1))
    sim.observe_slot()
    with pytest.raises(ValueError, match="sum to <= 1"):
        sim.apply_allocations(halves(1, 1, 1, 1))


def test_importing_the_simulator_loads_no_serving_code():
    code = (
        "import sys, controller.cell.simulator, controller.training.environments; "
        "names = ('torch', 'diffusers', 'transformers', 'edge_node'); "
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
