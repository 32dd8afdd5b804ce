"""Golden numbers: the first losses and rewards of short training runs, equal from commit to commit.

``golden/NAME.txt`` holds one number a line, frame by frame: D3PG's critic loss (where there was an
update) and the mean utility. A change that moves them says so and records them anew:

    python -m tests.learning.test_golden
"""

import json
import tempfile
from pathlib import Path

import pytest
import torch

from protos import manifest
from tests.unit.controller.training_runs import SETTINGS, trained

GOLDEN = Path(__file__).with_name("golden")
NUM_FRAMES = 20


def build() -> str:
    """Return what floating-point results depend on."""
    capability = torch.backends.cpu.get_cpu_capability()
    return f"torch {torch.__version__}, {manifest.collect().cpu}, {capability}"


def numbers(name: str, output: Path) -> list[float]:
    config, setting = SETTINGS[name]
    _, folder = trained(output, setting, num_episodes=7, learning=config, evaluate_every=0)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:NUM_FRAMES]]
    keys = ("d3pg/critic_loss", "train/utility")
    return [row[key] for row in rows for key in keys if key in row]


def read(name: str) -> tuple[str, list[float]]:
    first, *lines = (GOLDEN / f"{name}.txt").read_text().splitlines()
    return first.removeprefix("# "), [float(line) for line in lines]


@pytest.mark.parametrize("name", SETTINGS)
def test_first_losses_and_rewards_are_those_of_the_golden_record(name, tmp_path):
    recorded_with, golden = read(name)

    found = numbers(name, tmp_path)

    if recorded_with == build():
        assert found == golden
    else:  # another build rounds differently, and learning carries roundings on
        assert found == pytest.approx(golden, rel=1e-2)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            lines = [f"# {build()}", *map(repr, numbers(name, Path(folder)))]
        (GOLDEN / f"{name}.txt").write_text("\n".join(lines) + "\n")
