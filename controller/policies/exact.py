"""The exact optimum of a slot's allocation, given the caches.

Responsible for the two halves that a slot separates into. It reads no more than a learner does, so
it decides live as well. Not: the choice of the caches; caching_bound.py bounds that.

Bandwidth: minimise sum_u T_u(b_u) over shares b_u >= 0 with sum_u b_u = 1, where T_u is a request's
upload and download time. T_u is convex and falling, so at the optimum all slopes are equal:
-T_u'(b_u) = lambda. Bisection on log lambda, sped up: Newton's step is taken instead of the middle
where it stays between the ends. For each lambda the shares follow by Newton in log b.

Steps: on each node maximise sum_u v_u(s_u) subject to sum_u step_s_u s_u <= budget: a
multiple-choice knapsack, solved by dynamic programming over equal cells of the budget. Costs are
rounded up to whole cells, so what is found is feasible, and it is worth at least the true optimum
of a budget smaller by k + 1 cells, where k is the number of the node's requests. Of MIN_CELLS to
MAX_CELLS that number is taken for which every model's step is closest to whole cells; where it is
whole, what is found is exact.

    T  transfer seconds       h  -T', slope           lambda  multiplier, seconds a share
    v  value of a request's steps: w * quality - (1 - w) * step_s * s / reference_latency_s
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from controller.cell.config import AllocationConfig, RadioConfig, UtilityConfig
from controller.cell.dynamics import Array, Ints, ModelTable, utility
from controller.cell.observations import Allocation, Bools, SlotObservation
from controller.cell.radio import noise_w_per_hz
from controller.cell.scenario import ScenarioConfig

MIN_CELLS, MAX_CELLS = 400, 1000
_ROUNDS = 10
_NEWTON_STEPS = 2
_SAME = 1e-9


def allocate(slot: SlotObservation, scenario: ScenarioConfig) -> Allocation:
    """Return the optimal allocation of a slot."""
    return Allocation(
        shares=best_shares(slot, scenario.radio, scenario.workload.upload_bytes),
        num_steps=best_num_steps(slot, scenario.utility),
    )


def best_shares(slot: SlotObservation, radio: RadioConfig, upload_bytes: float) -> Array:
    """Return the shares [env, user] with the least sum of transfer times; 0 where none asks."""
    noise = noise_w_per_hz(radio.noise_dbm_per_hz)
    image_bytes = slot.table.image_bytes[slot.models]
    bits = 8.0 * np.stack([np.full_like(image_bytes, upload_bytes), image_bytes])
    width_hz = np.array([radio.uplink_bandwidth_hz, radio.bandwidth_hz])[:, None, None]
    power_w = np.array([radio.user_power_w, radio.transmit_power_w])[:, None, None]
    snr = power_w * slot.gains / (noise * width_hz)
    return equalise(bits * np.log(2) / width_hz, snr, slot.asks)


def equalise(seconds: Array, snr: Array, active: Bools) -> Array:
    """Return the shares b [..., user] that minimise sum_u sum_k seconds / (b ln(1 + snr / b)).

    Args:
        seconds: [k, ..., user], each transfer's bits * ln 2 / bandwidth_hz.
        snr: [k, ..., user], signal to noise over the whole band.
        active: [..., user], who takes part; the others get 0.
    """
    count = np.maximum(active.sum(axis=-1, keepdims=True), 1)
    log_share = np.broadcast_to(-np.log(count), active.shape)
    log_slope, _ = _log_slope(seconds, snr, log_share)
    # At the equal shares' steepest slope nobody takes more than an equal share, at their flattest
    # nobody takes less: the multiplier lies in between.
    some = active.any(axis=-1, keepdims=True)
    low = np.where(some, np.where(active, log_slope, np.inf).min(-1, keepdims=True), 0.0)
    high = np.where(some, np.where(active, log_slope, -np.inf).max(-1, keepdims=True), 0.0)
    middle = (low + high) / 2
    for _ in range(_ROUNDS):
        for _ in range(_NEWTON_STEPS):  # log slope against log share is nearly a line
            log_slope, bend = _log_slope(seconds, snr, log_share)
            log_share = log_share - (log_slope - middle) / bend
        shares = active * np.exp(log_share)
        total = np.where(some, shares.sum(axis=-1, keepdims=True), 1.0)
        low, high = np.where(total > 1, middle, low), np.where(total > 1, high, middle)
        falls = np.where(some, (shares / bend).sum(axis=-1, keepdims=True) / total, -1.0)
        newton = middle - np.log(total) / falls
        is_inside = (newton >= low) & (newton <= high)
        middle = np.where(is_inside, newton, (low + high) / 2)
    return np.asarray(shares / total)


def _log_slope(seconds: Array, snr: Array, log_share: Array) -> tuple[Array, Array]:
    """Return log h and d log h / d log b at log b [..., user]; the latter is -2..-1.

    With z = snr / b, L = ln(1 + z) and r = z / (1 + z): h = seconds (L - r) / (b L)^2.
    """
    share = np.exp(log_share)
    z = snr / share
    log1p_z, r = np.log1p(z), z / (1 + z)
    rest = np.maximum(log1p_z - r, 1e-300)
    slopes = seconds * rest / np.square(share * log1p_z)
    bends = 2 * r / log1p_z - 2 - np.square(r) / rest
    slope = slopes.sum(axis=0)
    return np.log(slope), (slopes * bends).sum(axis=0) / slope


def best_num_steps(
    slot: SlotObservation, worth: UtilityConfig, num_cells: int | None = None
) -> Ints:
    """Return the steps [env, user] that are worth most within every node's budget.

    Args:
        slot: the requests.
        worth: what a request is worth.
        num_cells: the grid; None takes what suits the models.
    """
    bounds, table = slot.bounds, slot.table
    cell_s = bounds.compute_budget_s / (num_cells or _suiting_cells(table, bounds))
    menus = [_menu(table, model, bounds, worth, cell_s) for model in range(len(table.model_ids))]
    steps = slot.max_num_steps.copy()  # what misses get
    top_steps = np.array([menu.num_steps[-1] for menu in menus])
    top_cells = np.array([menu.cells[-1] for menu in menus])
    least_s = bounds.min_num_steps * slot.node_step_s.sum(axis=-1)
    spare = np.floor(np.maximum(bounds.compute_budget_s - least_s, 0) / cell_s + _SAME).astype(
        np.int64
    )
    for node in range(slot.num_nodes):
        members = slot.nodes == node
        wanted = (members * top_cells[slot.models]).sum(axis=1)
        steps = np.where(members, top_steps[slot.models], steps)
        tight = np.flatnonzero(wanted > spare[:, node])
        chosen = _knapsack(menus, slot.models[tight], members[tight], spare[tight, node])
        steps[tight] = np.where(members[tight], chosen, steps[tight])
    return steps


def _suiting_cells(table: ModelTable, bounds: AllocationConfig) -> int:
    counts = np.arange(MIN_CELLS, MAX_CELLS + 1)
    cells = table.step_s[:, None] / bounds.compute_budget_s * counts
    lost = (np.ceil(cells - _SAME) - cells) / np.maximum(cells, _SAME)
    return int(counts[np.round(lost.max(axis=0), 9).argmin()])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Menu:
    """The choices of one model's request that none cheaper matches, the cheapest first."""

    num_steps: Ints
    cells: Ints
    """Of the budget, above the fewest steps."""
    value: Array


def _menu(
    table: ModelTable, model: int, bounds: AllocationConfig, worth: UtilityConfig, cell_s: float
) -> _Menu:
    steps = np.arange(bounds.min_num_steps, table.max_num_steps[model] + 1)
    step_s = table.step_s[model]
    values = np.asarray(utility(table.quality[model, steps], step_s * steps, worth))
    best_cheaper = np.maximum.accumulate(np.concatenate([[-np.inf], values[:-1]]))
    kept = values > best_cheaper
    extra_s = step_s * (steps - bounds.min_num_steps)
    cells = np.ceil(extra_s / cell_s - _SAME).astype(np.int64)
    return _Menu(num_steps=steps[kept], cells=cells[kept], value=values[kept])


def _knapsack(menus: Sequence[_Menu], models: Ints, members: Bools, spare: Ints) -> Ints:
    """Return the best steps [row, user] of members within ``spare`` [row] cells.

    ``best[g]`` is the most value that the users so far can have within g cells.
    """
    num_rows, num_users = models.shape
    width = int(spare.max(initial=0)) + 1
    best = [np.zeros((num_rows, width))]
    for user in range(num_users):
        best.append(best[-1].copy())
        for model, menu in enumerate(menus):
            rows = np.flatnonzero(members[:, user] & (models[:, user] == model))
            if len(rows):
                best[-1][rows] = _with_one_more(best[-2][rows], menu)
    steps = np.zeros_like(models)
    left = spare.copy()
    for user in reversed(range(num_users)):
        for model, menu in enumerate(menus):
            rows = np.flatnonzero(members[:, user] & (models[:, user] == model))
            room = left[rows, None] - menu.cells
            values = best[user][rows[:, None], np.maximum(room, 0)] + menu.value
            choice = np.argmax(np.where(room >= 0, values, -np.inf), axis=1)
            steps[rows, user] = menu.num_steps[choice]
            left[rows] -= menu.cells[choice]
    return steps


def _with_one_more(best: Array, menu: _Menu) -> Array:
    """Return the best values [row, cell] when one more request chooses from its menu."""
    width = best.shape[1]
    found = best + menu.value[0]  # the fewest steps take no cell
    for cells, value in zip(menu.cells[1:], menu.value[1:], strict=True):
        if cells < width:
            np.maximum(found[:, cells:], best[:, : width - cells] + value, out=found[:, cells:])
    return found
