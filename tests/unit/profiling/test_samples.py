import json

import pytest

from profiling import samples
from protos.config import ConfigError


def header(**changes):
    fields = {
        "format": samples.FORMAT,
        "config": {"seed": 0, "grid": {"num_steps": [1, 2, 4, 8]}, "models": [{"source": "a"}]},
        "weights_sha256": {"scene-nano": "0" * 64},
        "machine": "a processor, 2 cores, device cpu",
    }
    return samples.Header(**{**fields, **changes})


def rate(model, seconds_per_step=0.1):
    return samples.RateSample(model=model, seconds_per_step=seconds_per_step, seconds_per_image=0.2)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "samples.jsonl"
    samples.start(path, header())
    return path


def test_every_kind_of_sample_is_read_back(path, measured):
    lines = [*measured, rate("scene-nano")]
    samples.append(path, lines)

    assert samples.read(path) == lines


def test_a_torn_last_line_is_dropped_and_the_rest_continued(path):
    samples.append(path, [rate("a"), rate("b")])
    path.write_bytes(path.read_bytes()[:-9])

    samples.start(path, header())
    samples.append(path, [rate("c")])

    assert samples.read(path) == [rate("a"), rate("c")]


def test_a_file_torn_in_its_first_line_begins_anew(path):
    path.write_bytes(path.read_bytes()[:20])

    samples.start(path, header())

    assert samples.read(path) == []
    assert json.loads(path.read_text())["kind"] == "header"


def test_a_sample_that_was_measured_twice_counts_once_and_as_last_measured(path):
    samples.append(path, [rate("a", 0.1), rate("b", 0.1), rate("a", 0.3)])

    assert samples.read(path) == [rate("a", 0.3), rate("b", 0.1)]


def test_a_damaged_line_is_named_by_its_number(path):
    samples.append(path, [rate("a")])
    with path.open("a") as file:
        file.write("garbage\n")

    with pytest.raises(ConfigError, match="line 3, is not a sample"):
        samples.read(path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"config": {"seed": 0, "grid": {"num_steps": [1, 2, 4]}, "models": [{"source": "a"}]}},
            r"grid.num_steps was \[1, 2, 4, 8\], now it is \[1, 2, 4\]",
        ),
        (
            {"config": {**header().config, "models": [{"source": "b"}]}},
            r"models\[0\].source was 'a', now it is 'b'",
        ),
        (
            {"config": {**header().config, "models": [{"source": "a"}, {"source": "b"}]}},
            r"models\[1\].source was 'absent', now it is 'b'",
        ),
        ({"weights_sha256": {"scene-nano": "f" * 64}}, "weights 000000000000 of scene-nano"),
        ({"machine": "another"}, "on 'a processor, 2 cores, device cpu', this is 'another'"),
        ({"format": "edge-samples/9"}, "header of format 'edge-samples/9'"),
    ],
)
def test_samples_of_something_else_are_refused_and_kept(path, changes, complaint):
    samples.append(path, [rate("a")])
    before = path.read_bytes()

    with pytest.raises(ConfigError, match=complaint):
        samples.start(path, header(**changes))
    assert path.read_bytes() == before


def test_a_file_without_a_header_is_refused(tmp_path):
    path = tmp_path / "samples.jsonl"
    samples.append(path, [rate("a")])

    with pytest.raises(ConfigError, match="does not begin with a header"):
        samples.start(path, header())


def test_samples_that_are_not_there_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.jsonl: No such file"):
        samples.read(tmp_path / "nowhere.jsonl")


def test_samples_are_selected_by_kind_and_fields(measured):
    nano = samples.select(measured, samples.LoadSample, model="scene-nano")

    assert [sample.repeat for sample in nano] == [0, 1, 2]
    assert len(samples.select(measured, samples.LoadSample)) == 6
    assert samples.select(measured, samples.LoadSample, model="scene-nano", repeat=3) == []
