import json
from dataclasses import replace

import pytest
import torch

from profiling.bench.gpu import stages
from profiling.bench.gpu.stages import Stage, Subject
from protos import manifest
from protos.config import ConfigError
from protos.errors import OverloadedError

SUBJECT = Subject(manifest=manifest.collect(), is_tiny=True, dtype="float32")


class Counted:
    """Measures by counting how often; raises instead where it holds an error."""

    def __init__(self, error=None):
        self.error = error
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if self.error:
            raise self.error
        return {"calls": self.calls}


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_stage_with_a_file_is_not_repeated(tmp_path):
    first, second = Counted(), Counted()
    stages.run([Stage("a", 0, first)], tmp_path, 100)

    missing = stages.run([Stage("a", 0, first), Stage("b", 0, second)], tmp_path, 100)

    assert (first.calls, second.calls) == (1, 1)
    assert missing == {}
    assert read(tmp_path, "a")["calls"] == 1


def test_a_stage_that_does_not_fit_is_left_out_and_shorter_ones_go_on(tmp_path):
    long, short = Counted(), Counted()

    missing = stages.run([Stage("long", 60, long), Stage("short", 1, short)], tmp_path, 50)

    assert (long.calls, short.calls) == (0, 1)
    assert missing["long"].startswith("no time: it takes about 60 s, ")
    assert not (tmp_path / "long.json").exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), OverloadedError("full")])
def test_out_of_memory_is_a_result(tmp_path, error):
    stage = Counted(error)

    assert stages.run([Stage("a", 0, stage)], tmp_path, 100) == {}
    stages.run([Stage("a", 0, stage)], tmp_path, 100)

    assert read(tmp_path, "a")["out_of_memory"] == "full"
    assert stage.calls == 1


def test_a_failure_is_told_stops_nobody_and_is_tried_again(tmp_path):
    stage, after = Counted(ValueError("odd")), Counted()

    missing = stages.run([Stage("a", 0, stage), Stage("b", 0, after)], tmp_path, 100)

    assert missing == {"a": "failed: ValueError: odd"}
    assert after.calls == 1
    stage.error = None
    assert stages.run([Stage("a", 0, stage)], tmp_path, 100) == {}
    assert read(tmp_path, "a")["calls"] == 2


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(SUBJECT, manifest=replace(SUBJECT.manifest, device="H200")), "device 'cpu'"),
        (replace(SUBJECT, manifest=replace(SUBJECT.manifest, git_sha="x")), "by the code"),
        (replace(SUBJECT, is_tiny=False), "of 'tiny models with random weights'"),
    ],
)
def test_a_folder_of_something_else_is_not_continued(tmp_path, other, said):
    stages.enter(tmp_path, SUBJECT)
    stages.enter(tmp_path, SUBJECT)

    with pytest.raises(ConfigError, match=said):
        stages.enter(tmp_path, other)
    assert stages.subject_of(tmp_path) == SUBJECT
