"""The clairvoyant caching bound: the best caches when the true popularity of every frame is known.

Responsible for the caches that no policy without that knowledge can beat on average. Not: the
requests themselves; it knows their probabilities only.

A set of models is rated by its expected slot: over sampled requests, misses pay for the cloud, and
the hits' best value within the budget is taken from the dual of the knapsack's linear relaxation,

    min over mu >= 0 of  sum_u max_s (v_u(s) - mu step_s_u s) + mu budget,

which is exact for the relaxation: the minimum lies at a slope of some model's concave hull, and all
of these are tried. The best sequence of sets over the frames is then found by dynamic programming;
while a frame's new models load, the set that is loaded so far counts.

Limits: with more than MAX_STATES feasible sets only the best of each frame take part in the
sequence. With several nodes each node's sequence is optimised in turn with the others' fixed, which
may end in a local optimum; a model that k nodes hold sends a k-th of its requests to each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from controller.cell.dynamics import Array, Ints, ModelTable, utility
from controller.cell.observations import Bools
from controller.cell.scenario import ScenarioConfig
from controller.cell.workload import draw_requests

MAX_STATES = 96
MAX_SETS = 2**16
_NUM_SAMPLES = 64
_SWEEPS = 2
_CHUNK = 2**22
"""Numbers of an intermediate array, for a bounded memory."""


def feasible_sets(table: ModelTable, capacity_bytes: int) -> Bools:
    """Return every set of models that fits a node, [set, model]; the empty one is the first.

    Raises:
        ValueError: they are more than MAX_SETS.
    """
    sets = np.zeros((1, len(table.model_ids)), dtype=bool)
    for model, size in enumerate(table.resident_bytes):
        more = sets[sets @ table.resident_bytes + size <= capacity_bytes]
        more[:, model] = True
        sets = np.concatenate([sets, more])
        if len(sets) > MAX_SETS:
            raise ValueError(f"at most {MAX_SETS} feasible sets are enumerated, got {len(sets)}")
    return sets


class CachingBound:
    """Plans caches for known popularity; the generator draws the sampled requests."""

    def __init__(
        self, scenario: ScenarioConfig, table: ModelTable, rng: np.random.Generator
    ) -> None:
        self._scenario = scenario
        self._table = table
        self._rng = rng
        self._sets = feasible_sets(table, scenario.capacity_bytes)
        bits = self._sets @ (1 << np.arange(len(table.model_ids)))
        self._order = np.argsort(bits)
        self._sorted_bits = bits[self._order]
        self._worth = _worth(scenario, table)

    def cache_schedule(self, popularity: Array) -> Bools:
        """Return the best caches [env, frame, node, model] for popularity [env, frame, model]."""
        return self._by_node(popularity, self._best_sequence)

    def static_cache_schedule(self, popularity: Array) -> Bools:
        """Return the same when one set must do for all frames, chosen for all of them."""
        return self._by_node(
            popularity, lambda values: np.full(len(values), values.sum(axis=0).argmax())
        )

    def _by_node(self, popularity: Array, choose: Callable[[Array], Ints]) -> Bools:
        num_envs, num_frames, num_models = popularity.shape
        caches = np.zeros((num_envs, num_frames, self._scenario.num_nodes, num_models), dtype=bool)
        nodes = range(self._scenario.num_nodes)
        for env in range(num_envs):
            counts = [self._sample_counts(probabilities) for probabilities in popularity[env]]
            for _ in range(_SWEEPS if len(nodes) > 1 else 1):
                for node in nodes:
                    others = np.delete(caches[env], node, axis=1)
                    values = np.stack(
                        [self._values(*pair) for pair in zip(counts, others, strict=True)]
                    )
                    caches[env, :, node] = self._sets[choose(values)]
        return caches

    def _sample_counts(self, probabilities: Array) -> Array:
        """Return sampled requests of each model in a slot, [sample, model]."""
        repeated = np.broadcast_to(probabilities, (_NUM_SAMPLES, len(probabilities)))
        drawn = draw_requests(
            self._scenario.workload, repeated, self._scenario.num_users, self._rng
        )
        hot = drawn.models[..., None] == np.arange(len(probabilities))
        return (hot & drawn.asks[..., None]).sum(axis=1).astype(float)

    def _values(self, counts: Array, others: Bools) -> Array:
        """Return the expected value of a slot [set] when one more node holds each set.

        Args:
            counts: [sample, model].
            others: [other node, model], what they hold.
        """
        rows = max(1, _CHUNK // (len(counts) * max(self._worth.prices.size, counts.shape[1])))
        parts = [
            self._values_of(self._sets[start : start + rows], counts, others)
            for start in range(0, len(self._sets), rows)
        ]
        return np.concatenate(parts)

    def _values_of(self, sets: Bools, counts: Array, others: Bools) -> Array:
        worth, scenario = self._worth, self._scenario
        holders = sets + others.sum(axis=0)
        total = np.where(holders == 0, worth.miss, 0.0) @ counts.T  # [set, sample]
        for held in (sets, *others):
            loads = (held / np.maximum(holders, 1))[:, None] * counts
            least_s = scenario.allocation.min_num_steps * loads @ self._table.step_s
            spare_s = np.maximum(scenario.allocation.compute_budget_s - least_s, 0.0)
            dual = loads @ worth.at_price + worth.prices * spare_s[..., None]
            total = total + dual.min(axis=-1)
        return total.mean(axis=-1)

    def _best_sequence(self, values: Array) -> Ints:
        """Return the best set of each frame, given every set's value in each [frame, set]."""
        states = self._states(values)
        stages = self._stages(self._sets[states])
        following = np.zeros(len(states))
        best_next = []
        for frame in reversed(range(1, len(values))):
            gains = values[frame][stages].sum(axis=-1) + following
            best_next.append(gains.argmax(axis=1))
            following = gains.max(axis=1)
        first = values[0][states] * self._scenario.slots_per_frame + following
        path = [int(first.argmax())]
        for chosen in reversed(best_next):
            path.append(int(chosen[path[-1]]))
        return states[path]

    def _states(self, values: Array) -> Ints:
        if len(self._sets) <= MAX_STATES:
            return np.arange(len(self._sets))
        each = max(1, MAX_STATES // len(values))
        return np.unique(np.argpartition(-values, each, axis=1)[:, :each])

    def _stages(self, sets: Bools) -> Ints:
        """Return which set is loaded [before, after, slot] in a frame that changes the cache."""
        scenario = self._scenario
        added = sets[None] & ~sets[:, None]
        ready_s = np.cumsum(added * self._table.load_s, axis=-1)
        slots_s = scenario.slot_s * np.arange(scenario.slots_per_frame)
        weights = 1 << np.arange(sets.shape[1])
        is_late = added[:, :, None] & (ready_s[:, :, None] > slots_s[:, None])
        bits = (sets[None, :, None] & ~is_late) @ weights
        return np.asarray(self._order[np.searchsorted(self._sorted_bits, bits)])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Worth:
    """What a request is worth, transfers apart: they do not depend on the caches."""

    miss: Array
    """[model]: at the cloud."""
    prices: Array
    """[price]: every mu that can be the dual's optimum, utility for a second of compute."""
    at_price: Array
    """[model, price]: at the edge with the steps best at that price, the price paid."""


def _worth(scenario: ScenarioConfig, table: ModelTable) -> _Worth:
    config, bounds, cloud = scenario.utility, scenario.allocation, scenario.cloud
    full = table.max_num_steps
    bits = 8.0 * (table.image_bytes + scenario.workload.upload_bytes)
    miss_s = table.overhead_s + table.step_s * full + 2 * cloud.delay_s + bits / cloud.rate_bps
    costs, values = [], []
    for model, most in enumerate(full):
        steps = np.arange(bounds.min_num_steps, most + 1)
        step_s = table.step_s[model]
        total_s = table.overhead_s[model] + step_s * steps
        costs.append(step_s * (steps - bounds.min_num_steps))
        values.append(utility(table.quality[model, steps], total_s, config))
    slopes = [_hull_slopes(*pair) for pair in zip(costs, values, strict=True)]
    prices = np.unique(np.concatenate([[0.0], *slopes]))
    at_price = [
        (value[:, None] - prices * cost[:, None]).max(axis=0)
        for cost, value in zip(costs, values, strict=True)
    ]
    return _Worth(
        miss=utility(table.quality[np.arange(len(full)), full], miss_s, config),
        prices=prices,
        at_price=np.stack(at_price),
    )


def _hull_slopes(cost: Array, value: Array) -> Array:
    """Return the positive slopes of the least concave function above the points, cost rising."""
    slopes, at = [], 0
    while at < len(cost) - 1:
        ahead = (value[at + 1 :] - value[at]) / (cost[at + 1 :] - cost[at])
        slopes.append(ahead.max())
        at += 1 + int(np.flatnonzero(ahead == ahead.max())[-1])
    return np.maximum(np.array(slopes), 0.0)
