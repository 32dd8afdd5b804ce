"""The step batcher's promises, for any mix of requests."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge_node.engine.step_batcher import MAX_PASSED, BatchRequest, StepBatcher

requests = st.builds(
    BatchRequest,
    model_id=st.sampled_from(["a", "b", "c"]),
    batch_size=st.sampled_from([1, 2]),
    num_steps=st.integers(1, 50),
    deadline_s=st.one_of(st.just(math.inf), st.floats(0, 100)),
)


@given(st.lists(requests, min_size=1, max_size=40), st.integers(1, 16))
def test_everybody_gets_all_steps_and_nobody_more(members, max_batch_size):
    batcher: StepBatcher[BatchRequest] = StepBatcher()
    left = {}
    for request in members:
        batcher.join(request)
        left[request] = request.num_steps
    while (model_id := batcher.next_model()) is not None:
        turn = batcher.next_turn(model_id, max_batch_size)
        assert len(set(map(id, turn))) == len(turn) >= 1
        assert all(request.model_id == model_id for request in turn)
        assert sum(request.batch_size for request in turn) <= max_batch_size or len(turn) == 1
        batcher.charge(model_id, 0.01 * len(turn))
        for request in turn:
            left[request] -= 1
            if left[request] == 0:
                batcher.leave(request)
    assert set(left.values()) == {0}
    assert not list(batcher)


@given(
    st.lists(requests, min_size=1, max_size=30),
    st.integers(2, 8),
    st.lists(st.floats(0, 1), min_size=200, max_size=200),
)
def test_nobody_is_passed_over_for_ever_by_earlier_deadlines(members, max_batch_size, newcomers):
    """Requests of earlier deadline keep coming; each turn takes at least one that waited too long.

    So the bound is MAX_PASSED turns, and one more for each request that may be ahead by then.
    """
    batcher: StepBatcher[BatchRequest] = StepBatcher()
    patient = BatchRequest(model_id="a", batch_size=2, num_steps=1, deadline_s=math.inf)
    batcher.join(patient)
    for request in members:
        request.model_id = "a"
        batcher.join(request)
    turns = 0
    for deadline_s in newcomers:
        turns += 1
        turn = batcher.next_turn("a", max_batch_size)
        if patient in turn:
            break
        urgent = BatchRequest(model_id="a", batch_size=2, num_steps=1, deadline_s=-deadline_s)
        batcher.join(urgent)
        batcher.leave(turn[0])
    assert turns <= MAX_PASSED + len(members) + 1


@given(st.integers(1, 20), st.integers(1, 20), st.floats(1e-3, 1e-1), st.floats(1e-3, 1e-1))
def test_models_share_device_time_by_granted_steps(steps_a, steps_b, turn_a_s, turn_b_s):
    batcher: StepBatcher[BatchRequest] = StepBatcher()
    weights = {"a": steps_a, "b": steps_b}
    turn_s = {"a": turn_a_s, "b": turn_b_s}
    for name, num_steps in weights.items():
        batcher.join(
            BatchRequest(model_id=name, batch_size=1, num_steps=num_steps, deadline_s=math.inf)
        )
    used = dict.fromkeys(weights, 0.0)
    for _ in range(300):
        name = batcher.next_model()
        batcher.next_turn(name, 4)
        batcher.charge(name, turn_s[name])
        used[name] += turn_s[name]
    # Never further apart than one turn of either, per unit of weight.
    apart = abs(used["a"] / weights["a"] - used["b"] / weights["b"])
    assert apart <= max(turn_s[name] / weights[name] for name in weights) + 1e-9
