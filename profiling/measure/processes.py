"""The processes of a profiling run: one for each phase, and one that asks torch for its device.

Responsible for starting them, their progress, their end and their errors. Not: what they measure
(runner.py), nor in which order (session.py).
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from profiling.measure.progress import Display
from protos.config import ConfigError

_ASK_DEVICE = """
import sys, torch
device = sys.argv[1]
if device == "auto":
    device = "cuda" if torch.cuda.is_available() else "cpu"
name, driver = "cpu", ""
if device != "cpu":
    import pynvml
    pynvml.nvmlInit()
    name, driver = torch.cuda.get_device_name(device), pynvml.nvmlSystemGetDriverVersion()
print(device, name, driver, sep="\\n")
"""


class PhaseError(RuntimeError):
    """A phase's process failed; the message holds its last words."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase that lacks samples."""

    name: str
    words: tuple[str, ...]
    """Of the runner's command line."""
    estimate_s: float


def run_phase(out: Path, phase: Phase, lock: int, display: Display) -> None:
    """Run one phase of the runner to its end, telling how far it is.

    Raises:
        PhaseError: it failed.
    """
    display.advance(phase.name, 0.0)
    log = out / "runner.log"
    with log.open("ab") as errors:
        begins_at = errors.tell()
        child = subprocess.Popen(
            [sys.executable, "-m", "profiling.measure.runner", *phase.words],
            stdout=subprocess.PIPE,
            stderr=errors,
            pass_fds=(lock,),
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                now = json.loads(line)
                display.advance(phase.name, now["done"] / now["total"])
            code = child.wait()
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    if code == 130:
        raise KeyboardInterrupt
    if code != 0:
        said = log.read_bytes()[begins_at:].decode(errors="replace").strip().splitlines()
        raise PhaseError(
            f"{phase.name} ended with {code}: {said[-1] if said else 'no message'} (all: {log})"
        )
    display.advance(phase.name, 1.0)


def device(wanted: str) -> tuple[str, str, str]:
    """Return the torch device, its name and driver, asked in another process: torch stays there.

    Raises:
        ConfigError: torch sees no such device.
    """
    if wanted == "cpu":
        return "cpu", "cpu", ""
    done = subprocess.run(
        [sys.executable, "-c", _ASK_DEVICE, wanted], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = done.stderr.strip().splitlines()
        raise ConfigError(f"device is {wanted!r}, but torch answers: {said[-1] if said else 'no'}")
    found, name, driver = done.stdout.splitlines()[-3:]
    return found, name, driver
