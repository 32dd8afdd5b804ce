"""The measured row limit against a device whose timings are given."""

import asyncio

import pytest

from edge_node.engine import row_limit
from protos.errors import OverloadedError

ROW_S = {1: 7.0, 2: 4.5, 4: 2.7, 8: 1.8, 16: 1.4, 32: 1.15, 64: 1.16}
"""Milliseconds of a row, as scene-base has them on a CPU; seconds below, after the division."""


class Device:
    """Answers with its calls' lengths; remembers what was asked."""

    def __init__(self, call_s, *, most_rows=64, disturbed=()):
        self.call_s, self.most_rows, self.disturbed = call_s, most_rows, set(disturbed)
        self.asked = []

    async def __call__(self, num_rows):
        self.asked.append(num_rows)
        if num_rows > self.most_rows:
            raise OverloadedError("no memory left")
        late_s = 0.2 if len(self.asked) - 1 in self.disturbed else 0.0
        return self.call_s(num_rows) + late_s


def measured(device):
    return asyncio.run(row_limit.measured(device))


def zoo_call_s(num_rows):
    return ROW_S[num_rows] * num_rows / 1000


def test_it_is_the_fewest_rows_that_cost_within_5_percent_of_the_least():
    assert measured(Device(zoo_call_s)) == 32
    assert measured(Device(lambda n: 0.002 + 0.001 * n)) == 32  # 1.06 ms a row, 1.03 with 64
    assert measured(Device(lambda n: 0.02 + 0.001 * n)) == 64  # 1.31 ms a row, 1.63 with 32
    assert measured(Device(lambda n: 0.001 * n)) == 1


@pytest.mark.parametrize("first", range(40))
def test_a_moment_of_disturbance_changes_nothing(first):
    whole_round = range(first, first + 7)
    assert measured(Device(zoo_call_s, disturbed=whole_round)) == 32


def test_sizes_that_memory_is_too_small_for_are_left_out():
    assert measured(Device(zoo_call_s, most_rows=20)) == 16
    assert measured(Device(zoo_call_s, most_rows=0)) == 1


def test_nothing_larger_than_a_long_call_is_tried():
    device = Device(lambda n: 0.1 + 0.02 * n)  # 0.26 s with 8 rows
    assert measured(device) == 8
    assert max(device.asked) == 8


def test_a_model_whose_calls_take_seconds_is_called_twice():
    device = Device(lambda _: 9.0)
    assert measured(device) == 1
    assert device.asked == [1, 1]
