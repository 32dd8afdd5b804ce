import itertools

import numpy as np
import pytest

from controller.cell.observations import MISS
from controller.policies.caching_bound import CachingBound, _hull_slopes, feasible_sets
from controller.policies.exact import best_num_steps
from protos.seeds import stream
from tests.unit.controller.scenarios import MODELS, curves, scenario, slot, table


def bound(**changes) -> CachingBound:
    setting = scenario(**changes)
    return CachingBound(setting, table(**changes), stream(0, "bound"))


def test_the_feasible_sets_are_those_that_fit():
    # 60, 50 and 40 of 100 bytes: a and b together do not
    sets = feasible_sets(table(), 100)
    assert sorted(sets.astype(int).tolist()) == [
        [0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1],
    ]  # fmt: skip


def test_too_many_sets_are_refused():
    many = tuple(curves(f"m{index}", resident_bytes=1) for index in range(17))
    with pytest.raises(ValueError, match="at most 65536 feasible sets"):
        feasible_sets(table(synthetic_models=many), 100)


def test_the_hull_skips_points_below_it():
    # (0, 0), (1, 0), (2, 4), (3, 5), (4, 5): straight to the third point, slope 2, then 1, then 0
    slopes = _hull_slopes(np.arange(5.0), np.array([0.0, 0.0, 4.0, 5.0, 5.0]))
    assert slopes.tolist() == [2.0, 1.0, 0.0]


def test_what_is_asked_for_is_held_when_its_time_comes():
    popularity = np.array([[[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.9, 0.05]]])
    schedule = bound(slots_per_frame=50).cache_schedule(popularity)
    assert schedule.shape == (1, 3, 1, 3)
    assert schedule[0, :, 0, :2].tolist() == [[True, False], [False, True], [False, True]]


def test_what_takes_a_frame_to_load_is_not_worth_a_frame():
    slow = tuple(curves(m.model_id, resident_bytes=90, load_s=10.0) for m in MODELS)
    popularity = np.array([[[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.9, 0.1, 0.0]]])
    held = bound(synthetic_models=slow).cache_schedule(popularity)[0, :, 0].argmax(axis=1)
    assert held.tolist() == [0, 0, 0]
    fast = tuple(curves(m.model_id, resident_bytes=90, load_s=0.0) for m in MODELS)
    held = bound(synthetic_models=fast).cache_schedule(popularity)[0, :, 0].argmax(axis=1)
    assert held.tolist() == [0, 1, 0]


def test_a_static_plan_is_one_set_and_worth_no_more():
    rng = stream(0, "popularity")
    popularity = rng.dirichlet([0.5] * 3, size=(1, 3))
    static = bound().static_cache_schedule(popularity)[0, :, 0]
    assert (static == static[0]).all()


def test_the_sequence_is_the_best_of_all_sequences():
    planner = bound(num_frames=4)
    values = stream(3, "values").uniform(0, 1, (4, 6))
    stages = planner._stages(planner._sets)

    def total(sequence) -> float:
        pairs = itertools.pairwise(sequence)
        later = sum(values[f][stages[b, a]].sum() for f, (b, a) in enumerate(pairs, start=1))
        return values[0][sequence[0]] * 5 + later

    best = max(itertools.product(range(6), repeat=4), key=total)
    assert total(planner._best_sequence(values)) == pytest.approx(total(best))


def test_the_stages_of_a_change_follow_the_loads():
    planner = bound()
    sets = planner._sets.tolist()
    empty, both = sets.index([False] * 3), sets.index([True, False, True])
    only_a = sets.index([True, False, False])
    # slots begin at 0, 2, 4, 6, 8 s; a is there after 3 s, c after 6 s
    assert planner._stages(planner._sets)[empty, both].tolist() == [
        empty, empty, only_a, both, both,
    ]  # fmt: skip


@pytest.mark.parametrize("models", [[0, 0, 2], [0, 2, 2], [0, 0, 0], [2]])
def test_a_sets_value_is_just_above_the_exact_slots(models):
    setting = scenario()
    planner = bound()
    asks = slot(models)
    steps = best_num_steps(asks, setting.utility, num_cells=60)  # cells of 0.05 s: exact
    quality = asks.table.quality[asks.models, steps]
    total_s = 0.5 + asks.step_s * steps  # overheads are part of a set's value, transfers are not
    exact = float((0.6 * quality - 0.4 * total_s / 10).sum())
    counts = np.bincount(models, minlength=3)[None].astype(float)
    held = np.flatnonzero((planner._sets == [True, False, True]).all(axis=1))[0]
    relaxed = planner._values(counts, np.zeros((0, 3), dtype=bool))[held]
    assert exact - 1e-9 <= relaxed <= exact + 0.1


def test_a_miss_is_worth_what_the_simulator_says():
    from controller.cell.observations import Allocation
    from controller.cell.simulator import serve

    setting = scenario()
    asks = slot([0, 1, 2], [MISS] * 3)
    served = serve(
        asks, Allocation(shares=np.full((1, 3), 1 / 3), num_steps=asks.max_num_steps), setting
    )
    transfers = 0.4 * (served.wait_s + served.upload_s + served.download_s) / 10
    assert bound()._worth.miss == pytest.approx((served.utility + transfers)[0])


def test_two_nodes_hold_different_models_where_one_cannot_hold_both():
    popularity = np.array([[[0.5, 0.5, 0.0]] * 2])
    schedule = bound(num_nodes=2, num_frames=2).cache_schedule(popularity)
    assert schedule[0, 0].any(axis=0)[:2].tolist() == [True, True]
