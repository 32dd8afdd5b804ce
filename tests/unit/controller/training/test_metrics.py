import doctest
import json
import re

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from controller.cell.simulator import serve
from controller.policies.baselines import equal
from controller.training import metrics
from controller.training.metrics import JsonLines, TensorBoard, of_frame
from tests.unit.controller.scenarios import scenario, slot
from tests.unit.controller.training_runs import learning, trained


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_table_in_the_docstring_lists_every_key_that_is_written_and_no_other(tmp_path):
    reference = learning(allocation_agent="sb3-td3")
    folders = [trained(tmp_path / "own")[1], trained(tmp_path / "sb3", learning=reference)[1]]
    documented = set(re.findall(r"^    (\w+/\w+)  ", metrics.__doc__, re.MULTILINE))

    assert {key for folder in folders for row in rows(folder) for key in row} == documented | {
        "frame"
    }


def test_a_file_goes_on_after_the_rows_that_are_kept(tmp_path):
    file = tmp_path / "metrics.jsonl"
    for num_kept, value in ((0, 1.0), (2, 2.0)):
        writer = JsonLines(file, num_kept)
        for frame in range(num_kept + 1, num_kept + 4):
            writer.write(frame, {"a/b": value})
        writer.close()

    found = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["frame"] for row in found] == [1, 2, 3, 4, 5]
    assert [row["a/b"] for row in found] == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_tensorboard_shows_what_was_kept_and_what_followed(tmp_path):
    for num_kept, value in ((0, 1.0), (2, 2.0)):
        writer = TensorBoard(tmp_path, num_kept)
        for frame in range(num_kept + 1, num_kept + 4):
            writer.write(frame, {"a/b": value})
        writer.close()

    events = EventAccumulator(str(tmp_path))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("a/b")}
    assert found == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}


def test_a_frames_metrics_are_means_over_its_requests():
    one, other = slot([0, 2, -1, -1], [0, -1, 0, 0]), slot([1, -1, -1, -1])

    slots = [serve(seen, equal(seen), scenario()) for seen in (one, other)]
    found = of_frame(slots)

    utilities = [*slots[0].utility[0, :2], slots[1].utility[0, 0]]
    assert found["train/utility"] == pytest.approx(np.mean(utilities))
    assert found["train/hit_frac"] == pytest.approx(2 / 3)
    hit_steps = [slots[0].num_steps[0, 0], slots[1].num_steps[0, 0]]
    assert found["train/num_steps"] == pytest.approx(np.mean(hit_steps))
    assert found["train/total_s"] > 0


def test_a_frame_without_a_request_has_no_steps():
    quiet = slot([-1] * 4)

    found = of_frame([serve(quiet, equal(quiet), scenario())])
    assert found["train/utility"] == 0
    assert "train/num_steps" not in found


def test_the_examples_in_the_docstrings_are_true():
    found = doctest.testmod(metrics)
    assert found.attempted > 0
    assert found.failed == 0
