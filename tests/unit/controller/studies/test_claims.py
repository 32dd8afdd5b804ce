"""Claims: what is stated, what records give, and which records are no evidence."""

import hashlib
import json
from pathlib import Path

import pytest

from controller.studies import claims
from protos.config import ConfigError

MANIFEST = {
    "created_utc": "",
    "command": "",
    "git_sha": "",
    "git_is_dirty": False,
    "python": "",
    "packages": {},
    "host": "",
    "cpu": "Z80",
    "num_cpus": 2,
    "memory_bytes": 65536,
    "device": "cpu",
    "driver": "",
}
RECORD = {
    "manifest": MANIFEST,
    "rounds": [
        {"way": "ours", "rate_hz": 6.0, "latency_s": [1.0, 2.0, 9.0]},
        {"way": "theirs", "rate_hz": 3.0, "latency_s": [4.0]},
        {"way": "ours", "rate_hz": 9.0, "latency_s": [3.0]},
        {"way": "theirs", "rate_hz": 2.0, "latency_s": [4.0]},
    ],
    "models": [{"name": "big", "knee": {"value": 3.5, "low": 3.0, "high": 4.25}}],
    "counts": [7, 8],
}
FILES = {
    "one.py": "1\n2\n",
    "big/two.py": "3\n",
    "big/wire_pb2.py": "made by protoc\n",
    "big/__init__.py": "",
}


class House:
    """A tree with one record and one claim of it, which can be changed before it is checked."""

    def __init__(self, root: Path) -> None:
        self.root, self.record = root, RECORD
        (root / "results").mkdir()
        self.file = root / "results" / "record.json"
        self.claim = {"read": ["rounds", "ours", "rate_hz"], "value": "7.5"}
        self.claim["interval"] = ["6.0", "9.0"]
        self.write()

    def write(self) -> None:
        self.file.write_text(json.dumps(self.record))

    def check(self, **changes) -> int:
        told = {"name": "rate", "text": "our rate", "record": "bench"} | self.claim | changes
        sha256 = hashlib.sha256(json.dumps(self.record).encode()).hexdigest()
        lines = ["[[records]]", 'name = "bench"', 'file = "record.json"', f'sha256 = "{sha256}"']
        lines += ['command = "bench"', 'machine = "2 cores of Z80"', "[[claims]]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in told.items()]
        (self.root / "results" / "claims.toml").write_text("\n".join(lines))
        return claims.check(self.root / "results" / "claims.toml")


@pytest.fixture
def house(tmp_path) -> House:
    return House(tmp_path)


def test_a_claim_that_its_record_gives_is_printed_and_passes(house, capsys):
    assert house.check() == 0
    assert capsys.readouterr().out.split() == ["rate", "7.5", "ok"]


@pytest.mark.parametrize(
    "claim",
    [
        {"read": ["counts", "-1"], "value": "8"},
        {"read": ["counts", "0"], "value": "0.70", "scale": 0.1},
        {"read": ["models", "big", "knee"], "value": "3.5", "interval": ["3.00", "4.25"]},
        # 6 / 3 and 9 / 2
        {"over": ["rounds", "theirs", "rate_hz"], "value": "3.25", "interval": ["2.0", "4.5"]},
        # the medians 2 and 3 of two rounds
        {"read": ["rounds", "ours", "latency_s"], "value": "2.5", "interval": ["2", "3"]},
        {"record": "", "read": ["lines", "code"], "value": "0.003", "scale": 0.001, "interval": []},
        {"record": "", "read": ["modules", "code", "!code/big"], "value": "1", "interval": []},
        {"record": "", "read": ["modules", "code"], "value": "2", "interval": []},
    ],
)
def test_values_are_read_where_they_stand(house, capsys, claim):
    (house.root / "code" / "big").mkdir(parents=True)
    for name, text in FILES.items():
        (house.root / "code" / name).write_text(text)
    assert house.check(**({"interval": []} | claim)) == 0, capsys.readouterr().out


def test_a_missed_limit_is_said_and_is_no_failure(house, capsys):
    assert house.check(limit=">= 8") == 0
    assert capsys.readouterr().out.split() == ["rate", "7.5", ">=", "8", "MISS"]


def test_a_missing_record_is_named(house, capsys):
    house.file.unlink()
    assert house.check() == 1
    assert f"claims: record bench: {house.file} is missing" in capsys.readouterr().out


def test_a_record_that_has_changed_is_named(house, capsys):
    house.file.write_text(house.file.read_text() + " ")
    assert house.check() == 1
    assert f"record bench: {house.file} has changed" in capsys.readouterr().out


def test_a_record_of_a_dirty_tree_is_named(house, capsys):
    house.record = RECORD | {"manifest": MANIFEST | {"git_is_dirty": True}}
    house.write()
    assert house.check() == 1
    assert f"{house.file} is no evidence: its manifest says that" in capsys.readouterr().out


def test_a_record_of_another_machine_is_named(house, capsys):
    house.record = RECORD | {"manifest": MANIFEST | {"device": "H200"}}
    house.write()
    assert house.check() == 1
    said = f"{house.file} was made on 2 cores of Z80, H200, not on 2 cores of Z80"
    assert said in capsys.readouterr().out


def test_a_record_without_a_manifest_is_named(house, capsys):
    house.record = {"counts": [7]}
    house.write()
    assert house.check() == 1
    assert f"record bench: {house.file}: its manifest: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"value": "7.4"}, "rate: stated is ('7.4', '6.0', '9.0'), the record gives ('7.5', "),
        ({"interval": ["6.0", "9.1"]}, "rate: stated is ('7.5', '6.0', '9.1'), the record gives"),
        ({"read": ["rounds", "nobody's", "rate_hz"]}, "rate: record 'bench' has no ['rounds', "),
        ({"record": "none"}, "rate: record 'none' has no "),
    ],
)
def test_a_value_that_the_record_does_not_give_is_named(house, capsys, changes, complaint):
    assert house.check(**changes) == 1
    assert complaint in capsys.readouterr().out


def test_pages_state_claims_as_they_are(house, capsys):
    (house.root / "docs").mkdir()
    page = house.root / "docs" / "rates.md"
    page.write_text("| <!-- claim: rate -->7.5 (6.0 .. 9.0) |, or <!-- claim: rate -->7.5.")
    assert house.check() == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "<!-- claim: rate -->7.4",
        "<!-- claim: rate -->7.50",
        "<!-- claim: rate -->7.5 (6.0 .. 9.1)",
        "<!-- claim: rate --> much",
        "<!-- claim: none -->7.5",
    ],
)
def test_a_page_that_states_another_value_is_named(house, capsys, text):
    (house.root / "README.md").write_text(f"We reach {text} a second.")
    assert house.check() == 1
    assert "README.md states [" in capsys.readouterr().out


def test_a_limit_that_cannot_be_compared_is_refused(house):
    with pytest.raises(ConfigError, match="claim rate: limit must be like"):
        house.check(limit="about 8")
