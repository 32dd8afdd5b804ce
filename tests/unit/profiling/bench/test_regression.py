from dataclasses import replace

import pytest

from profiling.bench import __main__ as bench
from profiling.bench import regression
from profiling.bench.regression import RATIOS, Comparison
from protos import manifest
from protos.config import ConfigError

HIGH = next(ratio for ratio in RATIOS if ratio.better == "high")
LOW = next(ratio for ratio in RATIOS if ratio.better == "low")
NAMES = [ratio.name for ratio in RATIOS]
CLEAN = replace(
    manifest.collect(), cpu="AMD EPYC(TM) 9", num_cpus=2, git_is_dirty=False, git_sha="1"
)


class Measure:
    """Returns prepared rounds, the next ones at each call, and notes what was asked for."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, names):
        self.asked.append(list(names))
        rounds = self.answers.pop(0)
        return {name: rounds.get(name, [2.0, 2.0]) for name in names}


@pytest.fixture
def folder(tmp_path):
    regression.record(Measure({}), CLEAN, tmp_path)  # all ratios are 2
    return tmp_path


@pytest.mark.parametrize(
    ("ratio", "now", "loss_frac", "is_lost"),
    [
        (HIGH, 1.81, 0.095, False),  # 1.81 / 2 = 0.905
        (HIGH, 1.79, 0.105, True),
        (HIGH, 4.00, -1.0, False),
        (LOW, 2.19, 0.095, False),  # 2.19 / 2 = 1.095
        (LOW, 2.21, 0.105, True),
        (LOW, 1.00, -0.5, False),
    ],
)
def test_a_ratio_is_lost_where_it_is_over_a_tenth_worse_than_the_committed(
    ratio, now, loss_frac, is_lost
):
    found = Comparison(ratio, now=now, committed=2.0)

    assert found.loss_frac == pytest.approx(loss_frac)
    assert found.is_lost is is_lost


def test_medians_of_rounds_are_compared(folder):
    measure = Measure({HIGH.name: [0.1, 2.0, 9.0]})

    found = regression.check(measure, CLEAN, folder)

    assert [one.now for one in found] == [2.0] * len(RATIOS)
    assert measure.asked == [NAMES]


def test_a_loss_counts_only_where_it_is_measured_twice(folder):
    gone = Measure({HIGH.name: [1.0], LOW.name: [3.0]}, {LOW.name: [2.5]})

    found = {one.ratio: one for one in regression.check(gone, CLEAN, folder)}

    assert gone.asked == [NAMES, [HIGH.name, LOW.name]]
    assert not found[HIGH].is_lost
    assert found[LOW].is_lost
    assert found[LOW].now == 2.5


def test_the_table_tells_losses(folder):
    found = regression.check(Measure({LOW.name: [3.0]}, {LOW.name: [2.5]}), CLEAN, folder)

    lines = regression.table(found).splitlines()

    (lost,) = (line for line in lines if "LOSS" in line)
    assert lost.startswith(f"| {LOW.name}")
    assert "| 2.500 | 2.000 | +25.0% |" in lost
    assert sum("| ok |" in line for line in lines) == len(RATIOS) - 1


def test_a_kind_of_machine_is_its_device_and_its_cores():
    assert regression.machine_of(CLEAN) == "amd-epyc-tm-9-2-cores"
    on_gpu = replace(CLEAN, device="NVIDIA H200", num_cpus=16)
    assert regression.machine_of(on_gpu) == "nvidia-h200-16-cores"


def test_an_unknown_machine_is_named_and_not_measured(folder):
    measure = Measure({})
    other = replace(CLEAN, num_cpus=4)

    with pytest.raises(ConfigError, match=r"'amd-epyc-tm-9-4-cores' \(there are: amd-epyc-tm-9-2-"):
        regression.check(measure, other, folder)
    assert measure.asked == []


def test_an_unknown_machine_is_no_success(tmp_path, capsys):
    assert bench.main(["check", "--folder", str(tmp_path)]) == 2
    assert "no ratios are committed for this kind of machine" in capsys.readouterr().err


@pytest.mark.parametrize("changes", [{"git_is_dirty": True}, {"git_sha": "unknown"}])
def test_what_no_commit_holds_is_not_recorded(tmp_path, changes):
    measure = Measure({})

    with pytest.raises(ConfigError, match="commit first"):
        regression.record(measure, replace(CLEAN, **changes), tmp_path)
    assert measure.asked == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_lacks_a_ratio_is_to_be_recorded_anew(tmp_path):
    few = {name: [] if name == LOW.name else [2.0] for name in NAMES}
    regression.record(lambda _: few, CLEAN, tmp_path)

    with pytest.raises(ConfigError, match=f"lacks {LOW.name}; --record"):
        regression.check(Measure({}), CLEAN, tmp_path)
