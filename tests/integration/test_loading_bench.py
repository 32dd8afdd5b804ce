"""The loading benchmark and the soak, as users start them, on small models and briefly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)  # it exports, on a busy machine for a minute


def started(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "profiling.bench", "loading", "--zoo", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)


def ran(*options: str) -> str:
    done = started(*options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_model_alone_has_nobody_to_delay():
    done = started("scene-nano")
    assert done.returncode == 2
    assert "one model runs while another loads, got 1" in done.stderr


def test_every_load_stands_beside_its_limit(tmp_path):
    brief = ("--repeats", "2", "--steps-s", "0.3", "--out", str(tmp_path))
    text = ran("scene-nano", "scene-small", *brief)
    record = json.loads((tmp_path / "loading.json").read_text())
    assert (tmp_path / "loading.md").read_text() == text
    ways = [one["way"] for one in record["rates"]]
    assert ways == 2 * ["disk (cold) -> host", "disk (warm) -> host", "host -> device"]
    for one in record["rates"]:
        assert len(one["limit_s"]) == len(one["load_s"]) == 2
        assert all(s > 0 for s in one["limit_s"] + one["load_s"])


def test_the_soak_reads_memory_every_ten_cycles(tmp_path):
    ran("scene-nano", "--soak-cycles", "20", "--out", str(tmp_path))
    record = json.loads((tmp_path / "soak.json").read_text())
    assert record["cycles"] == [10, 20]
    assert all(size > 10**8 for size in record["resident_bytes"])
    assert (tmp_path / "soak.png").stat().st_size > 1000
