import numpy as np
import pytest

from controller.cell.config import AllocationConfig
from controller.cell.observations import MISS, FrameObservation
from controller.cell.simulator import Simulator, serve
from controller.policies import baselines, exact
from controller.policies.baselines import Genetic, equal
from controller.policies.policy import Caching
from controller.policies.scores import run_episode
from protos.seeds import stream
from tests.unit.controller.scenarios import curves, scenario, slot, table


def frame(counts, held=(False, False, False), number=5) -> FrameObservation:
    """Return what is seen with these counts [history, model] and this cache."""
    return FrameObservation(
        frame=number,
        table=table(),
        request_counts=np.array([counts]),
        caches=np.array([[held]]),
        capacity_bytes=np.array([100]),
    )


def names(caches) -> str:
    return "".join(name for name, is_held in zip("abc", caches[0, 0], strict=True) if is_held)


def rule(name: str) -> Caching:
    return baselines.build(name, scenario(), stream(0, "policy")).decide_caches


@pytest.mark.parametrize(
    ("name", "counts", "held", "expected"),
    [
        # a, b, c have 60, 50, 40 of 100 bytes
        ("most-popular", [[9, 0, 1], [0, 5, 2]], "", "ac"),  # 9, 5, 3
        ("most-popular", [[0, 0, 1], [0, 5, 2]], "", "bc"),
        (
            "greedy",
            [[0, 0, 0], [6, 5, 1]],
            "",
            "ac",
        ),  # per byte 0.1, 0.1, 0.025: the first of equals
        ("greedy", [[0, 0, 0], [6, 6, 5]], "", "bc"),  # 0.1, 0.12, 0.125
        ("lru", [[9, 0, 9], [0, 1, 0]], "", "bc"),  # b was last; then a, which does not fit; then c
        ("lru", [[0, 0, 0], [1, 1, 1]], "bc", "bc"),  # all alike: what is held stays
        ("cloud", [[9, 9, 9], [9, 9, 9]], "ab", ""),
    ],
)
def test_a_caching_rule_by_hand(name, counts, held, expected):
    caches = rule(name)(frame(counts, tuple(letter in held for letter in "abc")))
    assert names(caches) == expected


def test_least_frequently_used_forgets_nothing_but_episodes():
    lfu = rule("lfu")
    zero = [0, 0, 0]
    assert names(lfu(frame([zero, zero], number=0))) == "ac"
    assert names(lfu(frame([zero, [0, 9, 5]], number=1))) == "bc"
    assert names(lfu(frame([zero, [8, 0, 0]], number=2))) == "bc"  # 8, 9, 5
    assert names(lfu(frame([zero, [8, 0, 0]], number=3))) == "ac"  # 16, 9, 5
    assert names(lfu(frame([zero, zero], number=0))) == "ac"
    assert names(lfu(frame([zero, [0, 2, 1]], number=1))) == "bc"


def test_static_caching_is_decided_by_the_first_frame():
    static = rule("static")
    assert names(static(frame([[0, 0, 0], [0, 5, 1]], number=1))) == "bc"
    held = (False, True, True)
    assert names(static(frame([[9, 0, 0], [9, 0, 0]], held, number=2))) == "bc"
    assert names(static(frame([[9, 0, 0], [9, 0, 0]], number=3))) == "bc"  # a node came back empty


def test_random_caching_varies_and_repeats_with_its_seed():
    def decisions(seed: int) -> list[str]:
        caching = baselines.RandomCaching(stream(seed, "policy"))
        return [names(caching(frame([[0, 0, 0]] * 2))) for _ in range(20)]

    assert len(set(decisions(0))) > 1
    assert decisions(0) == decisions(0)


@pytest.mark.parametrize("name", baselines.BASELINES)
def test_every_baseline_runs_an_episode_feasibly(name):
    sim = Simulator(scenario(num_nodes=2), table(), num_envs=3, seed=0)
    policy = baselines.build(name, sim.scenario, stream(0, "policy"))
    found = run_episode(policy, sim)  # refused if not
    assert found.num_requests > 0
    assert (found.hit_frac == 0) == name.startswith("cloud")


@pytest.mark.parametrize("name", ["best-equal", "lru-fair", "oracle-exact", ""])
def test_an_unknown_policy_is_refused_and_all_are_named(name):
    with pytest.raises(ValueError, match=f"no policy '{name}'; there are random, most"):
        baselines.split(name)


def test_equal_allocation_by_hand():
    # node 0: 3.1 s for steps of 0.1 and 0.2 s are 10 each; node 1: 3.1 / 0.1 is beyond c's 8
    bounds = AllocationConfig(min_num_steps=1, max_num_steps=20, compute_budget_s=3.1)
    found = equal(slot([0, 1, 2, 1, -1], [0, 0, 1, MISS, 0], num_nodes=2, allocation=bounds))
    assert found.shares.tolist() == [[0.25, 0.25, 0.25, 0.25, 0]]
    assert found.num_steps[0, :4].tolist() == [10, 10, 8, 20]


def test_the_genetic_search_gets_close_to_the_optimum():
    setting = scenario(num_users=3)
    models = tuple(curves(m.model_id, step_s=m.step_s) for m in setting.synthetic_models)
    rng = stream(0, "gains")
    asks = slot([0, 1, 1], gain=10 ** rng.uniform(-15, -11, (1, 3)), synthetic_models=models)

    def worth(found) -> float:
        return float(serve(asks, found, setting).reward[0])

    best, floor = worth(exact.allocate(asks, setting)), worth(equal(asks))
    found = worth(Genetic(setting, stream(0, "policy"))(asks))
    assert floor + 0.6 * (best - floor) < found <= best + 1e-3
