"""The measured batch limit against a device whose timings are given."""

import asyncio

import pytest

from edge_node.engine import batch_limit
from protos.errors import OverloadedError

ROW_S = {1: 7.0, 2: 4.5, 4: 2.7, 8: 1.8, 16: 1.4, 32: 1.15, 64: 1.16}
"""Milliseconds of a sample, as scene-base has them on a CPU; seconds below, after the division."""


class Device:
    """Answers with its calls' lengths; remembers what was asked."""

    def __init__(self, call_s, *, most=64, disturbed=()):
        self.call_s, self.most, self.disturbed = call_s, most, set(disturbed)
        self.asked = []

    async def __call__(self, batch_size):
        self.asked.append(batch_size)
        if batch_size > self.most:
            raise OverloadedError("no memory left")
        late_s = 0.2 if len(self.asked) - 1 in self.disturbed else 0.0
        return self.call_s(batch_size) + late_s


def measured(device):
    return asyncio.run(batch_limit.measured(device))


def zoo_call_s(batch_size):
    return ROW_S[batch_size] * batch_size / 1000


def test_it_is_the_fewest_rows_that_cost_within_5_percent_of_the_least():
    assert measured(Device(zoo_call_s)) == 32
    assert measured(Device(lambda n: 0.002 + 0.001 * n)) == 32  # 1.06 ms a sample, 1.03 with 64
    assert measured(Device(lambda n: 0.02 + 0.001 * n)) == 64  # 1.31 ms a sample, 1.63 with 32
    assert measured(Device(lambda n: 0.001 * n)) == 1


@pytest.mark.parametrize("first", range(40))
def test_a_moment_of_disturbance_changes_nothing(first):
    whole_round = range(first, first + 7)
    assert measured(Device(zoo_call_s, disturbed=whole_round)) == 32


def test_sizes_that_memory_is_too_small_for_are_left_out():
    assert measured(Device(zoo_call_s, most=20)) == 16
    assert measured(Device(zoo_call_s, most=0)) == 1


def test_nothing_larger_than_a_long_call_is_tried():
    device = Device(lambda n: 0.1 + 0.02 * n)  # 0.26 s for a batch of 8
    assert measured(device) == 8
    assert max(device.asked) == 8


def test_a_model_whose_calls_take_seconds_is_called_twice():
    device = Device(lambda _: 9.0)
    assert measured(device) == 1
    assert device.asked == [1, 1]


def within(limit_s, device, most):
    return asyncio.run(batch_limit.within(limit_s, device, most))


def test_a_call_of_texts_or_images_takes_no_longer_than_a_step():
    assert within(0.024, Device(lambda n: 0.01 * n), 4) == 2
    assert within(0.024, Device(lambda n: 0.005 * n), 4) == 4
    assert within(1.0, Device(lambda n: 0.001 * n), 16) == 16  # and no larger one is tried


def test_one_text_or_image_is_taken_however_long_it_is():
    device = Device(lambda n: 9.0 * n)
    assert within(0.024, device, 16) == 1
    assert device.asked == [1]  # a long call is not repeated, and two would be longer


def test_what_a_first_call_allocates_does_not_count():
    assert within(0.024, Device(lambda n: 0.01 * n, disturbed=[0, 2]), 4) == 2


def test_calls_that_memory_is_too_small_for_are_not_taken():
    assert within(1.0, Device(lambda n: 0.001 * n, most=2), 16) == 2
    assert within(1.0, Device(lambda n: 0.001 * n, most=0), 16) == 1
