import math

from edge_node.engine.step_batcher import MAX_PASSED, BatchRequest, Stage, StepBatcher


def request(model_id="m", size=1, steps=10, deadline_s=math.inf) -> BatchRequest:
    return BatchRequest(model_id=model_id, batch_size=size, num_steps=steps, deadline_s=deadline_s)


def joined(*requests: BatchRequest) -> StepBatcher[BatchRequest]:
    batcher: StepBatcher[BatchRequest] = StepBatcher()
    for one in requests:
        batcher.join(one)
    return batcher


def test_the_earliest_deadline_goes_first_and_ties_go_by_arrival():
    late, first, second, soon = request(deadline_s=9), request(), request(), request(deadline_s=1)
    batcher = joined(late, first, second, soon)
    assert batcher.next_turn("m", 3) == [soon, late, first]


def test_a_guided_request_takes_two_rows_and_a_smaller_one_fills_the_gap():
    a, b, c = request(size=2), request(size=2), request(size=1)
    assert joined(a, b, c).next_turn("m", 3) == [a, c]


def test_a_request_wider_than_the_limit_goes_alone():
    wide = request(size=2)
    assert joined(wide, request(size=2)).next_turn("m", 1) == [wide]


def test_who_was_passed_over_too_often_goes_before_every_deadline():
    patient = request()
    batcher = joined(patient)
    for _ in range(MAX_PASSED):
        urgent = request(deadline_s=0)
        batcher.join(urgent)
        assert batcher.next_turn("m", 1) == [urgent]
        batcher.leave(urgent)
    batcher.join(request(deadline_s=0))
    assert batcher.next_turn("m", 1) == [patient]
    assert patient.num_passed == 0


def test_models_take_turns_by_device_time_over_granted_steps():
    batcher = joined(request("small", steps=10), request("large", steps=30))
    turns = []
    for _ in range(8):
        name = batcher.next_model()
        batcher.next_turn(name, 1)
        batcher.charge(name, 1.0)
        turns.append(name)
    assert turns.count("large") == 3 * turns.count("small")


def test_a_model_that_was_idle_starts_level():
    steady, returning = request("steady", steps=1), request("returning", steps=1)
    batcher = joined(steady)
    for _ in range(100):
        batcher.charge("steady", 1.0)
    batcher.join(returning)
    taken = []
    for _ in range(4):
        name = batcher.next_model()
        batcher.charge(name, 1.0)
        taken.append(name)
    assert sorted(taken) == ["returning", "returning", "steady", "steady"]


def test_leaving_twice_is_no_harm_and_the_last_one_out_ends_the_model():
    one = request()
    batcher = joined(one)
    batcher.leave(one)
    batcher.leave(one)
    assert not list(batcher)
    assert batcher.next_model() is None


def test_texts_and_images_share_calls_of_their_own_and_take_no_place_in_a_step():
    encoding, more, last = (request(size=2) for _ in range(3))
    for one, num_texts in ((encoding, 2), (more, 1), (last, 2)):
        one.stage, one.num_texts = Stage.TEXT, num_texts
    stepping, decoding = request(size=2), request(size=2)
    decoding.stage = Stage.IMAGE
    batcher = joined(encoding, decoding, more, stepping, last)

    assert batcher.next_turn("m", 3, Stage.TEXT) == [encoding, more]
    assert batcher.next_turn("m", 8) == [stepping]
    assert batcher.next_turn("m", 1, Stage.IMAGE) == [decoding]
    assert [one.num_passed for one in (encoding, last, stepping)] == [0, 1, 0]


def test_device_time_of_a_model_whose_requests_have_all_left_is_nobodys():
    one = request()
    batcher = joined(one)
    batcher.leave(one)
    batcher.charge("m", 1.0)
    assert batcher.next_turn("m", 1) == []
