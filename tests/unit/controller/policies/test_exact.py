import dataclasses
import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from controller.cell import scenario as scenarios
from controller.cell.config import AllocationConfig, UtilityConfig
from controller.cell.dynamics import utility
from controller.cell.observations import MISS
from controller.policies import exact
from protos.seeds import stream
from tests.unit.controller.scenarios import curves, scenario, slot

WORTH = UtilityConfig(quality_weight=0.6, reference_latency_s=10.0)


def transfer_s(seconds, snr, shares):
    return (seconds / (shares * np.log1p(snr / shares))).sum(axis=0)


def test_the_best_shares_are_those_that_scipy_finds():
    rng = stream(0, "shares")
    for _ in range(5):
        seconds, snr = rng.uniform(0.05, 2, (2, 5)), 10 ** rng.uniform(-1, 4, (2, 5))
        found = exact.equalise(seconds, snr, np.ones(5, dtype=bool))
        reference = minimize(
            lambda shares, c=seconds, z=snr: transfer_s(c, z, shares).sum(),
            np.full(5, 0.2),
            method="SLSQP",
            bounds=[(1e-6, 1)] * 5,
            constraints={"type": "eq", "fun": lambda shares: shares.sum() - 1},
            options={"ftol": 1e-13, "maxiter": 500},
        )
        assert found.sum() == pytest.approx(1.0)
        assert transfer_s(seconds, snr, found).sum() <= reference.fun + 1e-9
        assert found == pytest.approx(reference.x, abs=1e-3)


def test_the_slopes_of_all_who_take_part_are_equal_in_extreme_cells_too():
    rng = stream(1, "shares")
    seconds, snr = rng.uniform(0, 2, (2, 200, 12)), 10 ** rng.uniform(-6, 8, (2, 200, 12))
    active = rng.random((200, 12)) < 0.7
    shares = exact.equalise(seconds, snr, active)
    assert shares.sum(axis=1) == pytest.approx(1.0)
    assert not shares[~active].any()
    log_slope, _ = exact._log_slope(seconds, snr, np.log(np.where(active, shares, 1.0)))
    spread = np.where(active, log_slope, -np.inf).max(1) - np.where(active, log_slope, np.inf).min(
        1
    )
    assert spread.max() < 1e-6


def test_equal_users_share_equally_and_nobody_gets_nothing_of_nothing():
    asks = slot([0, 0, -1])
    assert exact.best_shares(asks, scenario().radio, 1000)[0] == pytest.approx([0.5, 0.5, 0])
    assert exact.best_shares(slot([-1, -1]), scenario().radio, 1000)[0].tolist() == [0, 0]


def value(asks, steps) -> float:
    """Return what the hits' steps are worth."""
    quality = asks.table.quality[asks.models, steps]
    worth = utility(quality, asks.step_s * steps, WORTH)
    return float(worth[asks.nodes != MISS].sum())


def brute_force(asks, budget_s: float) -> float:
    hits = np.flatnonzero(asks.nodes[0] != MISS)
    best = -np.inf
    for choice in itertools.product(*(range(1, asks.max_num_steps[0, u] + 1) for u in hits)):
        if (asks.step_s[0, hits] * choice).sum() <= budget_s * (1 + 1e-9):
            steps = asks.max_num_steps.copy()
            steps[0, hits] = choice
            best = max(best, value(asks, steps))
    return best


@pytest.mark.parametrize("budget_s", [0.65, 1.0, 2.0, 3.0])
def test_the_best_steps_are_those_of_brute_force_where_steps_are_whole_cells(budget_s):
    bounds = AllocationConfig(min_num_steps=1, max_num_steps=20, compute_budget_s=budget_s)
    asks = slot([0, 1, 2, -1, 1], [0, 0, 0, 0, MISS], allocation=bounds)
    # every step is 0.1 or 0.2 s and every budget whole cells of 0.05 s: some grid is exact
    steps = exact.best_num_steps(asks, WORTH)
    assert value(asks, steps) == pytest.approx(brute_force(asks, budget_s))
    assert steps[0, 4] == 20  # the cloud's


def test_in_the_default_scenario_every_step_is_whole_cells():
    default = scenarios.load("default")
    table = scenarios.read_models(default)
    cell_s = default.allocation.compute_budget_s / exact._suiting_cells(table, default.allocation)
    cells = table.step_s / cell_s
    assert cells == pytest.approx(np.round(cells))


def test_on_any_grid_the_steps_are_feasible_and_within_the_stated_bound():
    rng = stream(0, "steps")
    for _ in range(6):
        models = tuple(
            curves(
                name,
                step_s=rng.uniform(0.03, 0.3),
                curve=(rng.uniform(0, 4), rng.uniform(0, 0.5), rng.uniform(5, 12), 0.9),
                max_num_steps=12,
            )
            for name in "abc"
        )
        budget_s = rng.uniform(0.5, 4)
        bounds = AllocationConfig(min_num_steps=1, max_num_steps=12, compute_budget_s=budget_s)
        asks = slot([0, 1, 2], synthetic_models=models, allocation=bounds)
        steps = exact.best_num_steps(asks, WORTH, num_cells=40)
        used_s = (asks.step_s * steps).sum()
        assert used_s <= max(budget_s, asks.step_s.sum()) * (1 + 1e-9)
        smaller = budget_s - 4 * budget_s / 40  # three requests: four cells less
        assert value(asks, steps) <= brute_force(asks, max(budget_s, used_s)) + 1e-12
        if smaller >= asks.step_s.sum():
            assert value(asks, steps) >= brute_force(asks, smaller) - 1e-12


def test_with_room_for_all_everybody_gets_what_is_worth_most_and_without_any_the_fewest():
    ample = AllocationConfig(min_num_steps=1, max_num_steps=20, compute_budget_s=50.0)
    steps = exact.best_num_steps(slot([0, 1, 2], allocation=ample), WORTH)
    # 0.6 * 0.1 a step of quality against 0.4 * 0.1 / 10 a step of latency: up to the second knee
    assert steps.tolist() == [[10, 10, 4]]
    scarce = AllocationConfig(min_num_steps=2, max_num_steps=20, compute_budget_s=0.1)
    assert exact.best_num_steps(slot([0, 1, 2], allocation=scarce), WORTH).tolist() == [[2, 2, 2]]


def test_each_node_has_a_budget_of_its_own():
    bounds = AllocationConfig(min_num_steps=1, max_num_steps=20, compute_budget_s=1.0)
    asks = slot([0, 0, 0], [0, 0, 1], num_nodes=2, allocation=bounds)
    steps = exact.best_num_steps(asks, WORTH)
    assert steps[0, 2] == 10
    assert steps[0, :2].sum() <= 10


def test_the_oracle_is_feasible_and_no_other_allocation_is_worth_more():
    from controller.cell.simulator import Simulator, serve
    from controller.policies.amender import amend
    from controller.policies.baselines import equal

    setting = scenario(num_users=6)
    sim = Simulator(setting, slot([0]).table, num_envs=40, seed=0)
    sim.apply_caches(np.repeat(np.array([[[True, False, True]]]), 40, axis=0))
    asks = sim.observe_slot()
    best = exact.allocate(asks, setting)
    best.validate(asks)
    top = serve(asks, best, setting).reward
    rng = stream(0, "rivals")
    rivals = [equal(asks), *(amend(rng.uniform(-1, 1, (40, 6, 2)), asks) for _ in range(50))]
    for rival in rivals:
        assert (serve(asks, rival, setting).reward <= top + 1e-9).all()
        assert serve(asks, rival, setting).reward.mean() < top.mean()
    fixed = dataclasses.replace(best, shares=equal(asks).shares)
    assert (serve(asks, fixed, setting).reward <= top + 1e-12).all()
