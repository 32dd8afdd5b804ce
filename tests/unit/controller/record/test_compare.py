from dataclasses import replace

import pytest

from controller.record import compare
from controller.record.config import NodeSpec, RunConfig
from controller.record.request_log import RequestLog, RequestRecord
from protos.config import ConfigError, to_json

CONFIG = RunConfig(
    num_frames=1, slots_per_frame=1, slot_s=1.0, num_users=1, nodes=(NodeSpec(attach="h:1"),)
)


@pytest.fixture
def leave(tmp_path):
    """Leave a run's folder: one served request for each utility, one failed one of utility -0.3."""

    def leave(policy, seed, utilities, **changes):
        folder = tmp_path / f"{policy}-{seed}-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        config = replace(CONFIG, policy=policy, seed=seed, output=folder.name, **changes)
        (folder / "config.json").write_bytes(to_json(config))
        with RequestLog(folder / "requests.sqlite") as log:
            for number, utility in enumerate(utilities):
                log.open(row(number))
                log.close(f"r{number}", "served", utility=utility, quality=0.5, num_steps=10)
            if utilities:
                log.open(row(99))
                log.close("r99", "failed", utility=-0.3)
        return folder

    return leave


def row(number):
    return RequestRecord(
        request_id=f"r{number}",
        user_id="user-0",
        model_id="m",
        prompt="a red circle",
        seed=1,
        submitted_utc="2026-01-01",
    )


def test_policies_are_compared_seed_by_seed(leave):
    # means over requests, the failed one included: random 0.1 and 0.2, most-popular 0.3 and 0.3
    folders = [
        leave("random", 0, [0.3, 0.3]),
        leave("random", 1, [0.7]),
        leave("most-popular", 0, [0.9]),
        leave("most-popular", 1, [0.9]),
        leave("most-popular", 2, [0.9]),  # no random run of this seed: not in the difference
    ]

    text = compare.table([compare.read(folder) for folder in folders])

    random, popular = ([cell.strip() for cell in line.split("|")] for line in text.split("\n")[2:])
    assert random[1:7] == ["random-equal", "2", "5", "0.150", "0.100 .. 0.200", ""]
    assert popular[1:8] == [
        *("most-popular-equal", "3", "6", "0.300", "0.300 .. 0.300"),
        *("0.150", "0.100 .. 0.200"),  # 0.3 - 0.1 and 0.3 - 0.2
    ]
    assert popular[-2] == "3"  # not served


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"policy": "most-popular", "num_users": 2}, "num_users is 1 and 2"),
        ({"policy": "random"}, "are both of policy random-equal and seed 0"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(leave, changes, said):
    one = leave("random", 0, [0.3])
    other = leave(seed=0, utilities=[0.4], **changes)

    with pytest.raises(ConfigError, match=said) as refused:
        compare.table([compare.read(one), compare.read(other)])

    assert str(one) in str(refused.value)
    assert str(other) in str(refused.value)


def test_what_is_no_run_is_refused(leave, tmp_path):
    with pytest.raises(ConfigError, match="is not a run.s folder"):
        compare.read(tmp_path)
    with pytest.raises(ConfigError, match="holds no request"):
        compare.read(leave("random", 0, []))
    (leave("random", 1, [0.3]) / "requests.sqlite").rename(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"no requests\.sqlite"):
        compare.read(tmp_path / "random-1-1")
