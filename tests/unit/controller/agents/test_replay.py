"""The replay: what goes in, what is drawn, what a copy on disk remembers."""

import json

import numpy as np
import pytest
import torch

from controller.agents.replay import Replay
from protos.config import ConfigError

FIELDS = {"state": ((2,), torch.float32), "action": ((), torch.int64), "ends": ((), torch.bool)}


def transitions(*numbers: int) -> dict[str, np.ndarray]:
    values = np.array(numbers)
    return {
        "state": np.stack([values, -values], 1).astype(np.float32),
        "action": values,
        "ends": values % 2 == 0,
    }


def replay(capacity: int = 5, fields=FIELDS) -> Replay:
    return Replay(fields, capacity, np.random.default_rng(0))


def stored(full: Replay) -> set[int]:
    return set(full.sample(500)["action"].tolist())


def test_a_drawn_transition_is_whole():
    some = replay()
    some.add(transitions(3, 4))

    drawn = some.sample(50)

    assert drawn["state"].dtype == torch.float32
    assert torch.equal(drawn["state"][:, 0], drawn["action"].float())
    assert torch.equal(drawn["state"][:, 1], -drawn["action"].float())
    assert torch.equal(drawn["ends"], drawn["action"] % 2 == 0)


def test_the_oldest_transitions_make_room_also_across_the_end_of_the_arrays():
    full = replay(capacity=5)
    for first in (0, 3, 6):
        full.add(transitions(first, first + 1, first + 2))

    assert len(full) == 5
    assert stored(full) == {4, 5, 6, 7, 8}


def test_draws_are_uniform():
    full = replay(capacity=4)
    full.add(transitions(0, 1, 2, 3))

    counts = np.bincount(full.sample(4000)["action"], minlength=4)

    assert counts.min() > 900  # 1000 expected, standard deviation 27


def test_a_copy_continues_exactly(tmp_path):
    original = replay()
    original.add(transitions(1, 2, 3, 4))
    original.sample(7)
    original.save(tmp_path / "replay")
    copy = Replay(FIELDS, 5, np.random.default_rng(99))

    copy.load(tmp_path / "replay")

    for both in (original, copy):
        both.add(transitions(8, 9))
    drawn, again = original.sample(20), copy.sample(20)
    assert all(torch.equal(drawn[name], again[name]) for name in FIELDS)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"extra": np.zeros(2)}, "extra"),
        ({"state": np.zeros((2, 3), np.float32)}, r"state must have shape \('env', 2\)"),
        ({"action": np.zeros(3, np.int64)}, r"action must have shape .* env = 2, got \(3,\)"),
    ],
)
def test_transitions_of_another_shape_are_refused_by_name(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        replay().add(transitions(1, 2) | change)


def test_more_than_fits_at_once_and_a_draw_from_nothing_are_refused():
    with pytest.raises(ValueError, match="at most 2"):
        replay(capacity=2).add(transitions(1, 2, 3))
    with pytest.raises(ValueError, match="empty"):
        replay().sample(1)


def test_a_copy_of_other_fields_is_refused_and_names_both_sides(tmp_path):
    replay().save(tmp_path / "replay")
    wider = replay(fields=FIELDS | {"state": ((7,), torch.float32)})

    with pytest.raises(ConfigError, match=r"state is .*\[2\]' in the checkpoint and .*\[7\]' here"):
        wider.load(tmp_path / "replay")


def test_a_torn_damaged_or_missing_copy_is_refused(tmp_path):
    some = replay()
    some.add(transitions(1, 2))
    with pytest.raises(ConfigError, match=r"cannot read .*replay\.json"):
        some.load(tmp_path / "replay")
    some.save(tmp_path / "replay")
    facts = (tmp_path / "replay.json").read_text()

    (tmp_path / "replay.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"not the file that replay\.json describes"):
        some.load(tmp_path / "replay")
    (tmp_path / "replay.json").write_text(facts[:40])
    with pytest.raises(ConfigError, match=r"replay\.json is damaged"):
        some.load(tmp_path / "replay")
    (tmp_path / "replay.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(ConfigError, match="not a learner's checkpoint"):
        some.load(tmp_path / "replay")
