"""The loading benchmark and the soak, as users start them, on one model and briefly."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def ran(*options: str) -> str:
    command = [sys.executable, "-m", "profiling.loading", "--zoo", "scene-nano", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_load_stands_beside_its_limit(tmp_path):
    text = ran("--repeats", "2", "--steps-s", "0.3", "--out", str(tmp_path))
    record = json.loads((tmp_path / "loading.json").read_text())
    assert (tmp_path / "loading.md").read_text() == text
    ways = [one["way"] for one in record["rates"]]
    assert ways == ["disk (cold) -> host", "disk (warm) -> host", "host -> device"]
    for one in record["rates"]:
        assert len(one["limit_s"]) == len(one["load_s"]) == 2
        assert all(s > 0 for s in one["limit_s"] + one["load_s"])


def test_the_soak_reads_memory_every_ten_cycles(tmp_path):
    ran("--soak-cycles", "20", "--out", str(tmp_path))
    record = json.loads((tmp_path / "soak.json").read_text())
    assert record["cycles"] == [10, 20]
    assert all(size > 10**8 for size in record["resident_bytes"])
    assert (tmp_path / "soak.png").stat().st_size > 1000
