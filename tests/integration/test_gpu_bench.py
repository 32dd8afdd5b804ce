"""The benchmark of full-size models as users start it, on tiny ones: killed, and continued."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(300)  # a busy machine takes a minute for it
STAGES = ("sd15-loads", "sd15-steps", "sd15-comparison", "sd3-loads", "sdxl-steps")


def command(out: Path) -> list[str]:
    program = [sys.executable, "-m", "profiling.bench", "gpu", "--device", "cpu", "--tiny"]
    return [*program, "--stages", *STAGES, "--out", str(out)]


def test_what_was_killed_continues_where_it_was(tmp_path):
    killed = subprocess.Popen(
        command(tmp_path), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with killed:
        for line in killed.stderr:
            if "sd15-steps: begins" in line:
                killed.kill()
    first = (tmp_path / "sd15-loads.json").read_bytes()
    assert not (tmp_path / "sd15-steps.json").exists()

    continued = subprocess.run(
        command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=280
    )

    assert continued.returncode == 0, continued.stderr
    assert "sd15-loads: there already" in continued.stderr
    assert (tmp_path / "sd15-loads.json").read_bytes() == first
    records = {name: json.loads((tmp_path / f"{name}.json").read_text()) for name in STAGES}
    assert [one["way"] for one in records["sd3-loads"]["rates"]][-1] == "host -> device"
    sizes = [one["batch_size"] for one in records["sdxl-steps"]["steps"]]
    assert sizes == [1, 2, 4, 8, 16]
    assert records["sd15-comparison"]["parity"]["engine"]["difference_max"] <= 1
    assert records["sd15-comparison"]["contrast"] > 10  # images are not of one colour
    text = (tmp_path / "summary.md").read_text()
    assert continued.stdout == text
    assert text.startswith("# Tiny models with random weights on cpu\n")
