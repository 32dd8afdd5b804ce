import pytest
from hypothesis import given

from controller.policies import policy as policies
from protos.seeds import stream
from tests.unit.controller.observations import frame, frames, request, slot_of, slots

NAMES = ("most-popular", "random")


@pytest.mark.parametrize("name", NAMES)
@given(observation=frames())
def test_every_caching_decision_is_feasible(name, observation):
    decision = policies.build(name, stream(0, "policy")).decide_cache(observation)
    decision.validate(observation)
    assert set(decision.resident) == {node.node_id for node in observation.nodes}


@pytest.mark.parametrize("name", NAMES)
@given(observation=slots())
def test_every_allocation_is_feasible(name, observation):
    policies.build(name, stream(0, "policy")).decide_allocation(observation).validate(observation)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((), ("a", "c")),  # nothing known: the catalog's order; b does not fit beside a
        (((1, 5, 2),), ("b", "c")),
        (((1, 5, 2), (9, 0, 0)), ("a", "c")),  # 10, 5, 2 together; b does not fit
    ],
)
def test_the_most_popular_models_that_fit_are_held(counts, expected):
    decision = policies.MostPopularEqual().decide_cache(frame(counts))
    assert decision.resident == {"e": expected}


def test_random_caching_varies_and_repeats_with_its_seed():
    def decisions(seed: int) -> list:
        policy = policies.RandomFeasible(stream(seed, "policy"))
        return [policy.decide_cache(frame(())).resident["e"] for _ in range(20)]

    assert len(set(decisions(0))) > 1
    assert decisions(0) == decisions(0)


def test_steps_are_equal_within_each_nodes_budget_and_full_at_the_cloud():
    observation = slot_of(
        request(0, "e", 0.1), request(1, "", 9.0), request(2, "e", 0.3), request(3, "f", 0.01)
    )
    allocation = policies.MostPopularEqual().decide_allocation(observation)
    # e: 2.0 / (0.1 + 0.3) = 5 steps each; f: 2.0 / 0.01 is more than the maximum
    assert allocation.num_steps == (5, 20, 5, 20)
    assert allocation.shares == (0.25, 0.25, 0.25, 0.25)
