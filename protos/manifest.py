"""The environment manifest that stands beside every measurement: what ran, where, on what."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from protos.config import packages

_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "grpcio", "numpy", "scipy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Where a measurement comes from."""

    created_utc: str
    command: str
    git_sha: str
    """Of the checkout that the program lies in; "unknown" where it was installed without one."""
    git_is_dirty: bool
    python: str
    packages: dict[str, str]
    host: str
    cpu: str
    num_cpus: int
    memory_bytes: int
    device: str
    """The accelerator's name, or "cpu"."""
    driver: str


def collect(device: str = "cpu", driver: str = "") -> Manifest:
    """Return the manifest of this process, on this machine, in this checkout."""
    status = _git("status", "--porcelain", "--untracked-files=no")
    program = Path(sys.argv[0])
    name = f"python -m {program.parent.name}" if program.stem == "__main__" else program.name
    return Manifest(
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join([name, *sys.argv[1:]]),
        git_sha=_git("rev-parse", "HEAD") or "unknown",
        git_is_dirty=bool(status),
        python=platform.python_version(),
        packages={name: _version(name) for name in _PACKAGES},
        host=platform.platform(),
        cpu=_cpu_name(),
        num_cpus=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        device=device,
        driver=driver,
    )


def run_folder(root: Path, name: str, seed: int) -> Path:
    """Create and return ``root/name/<UTC>-s<seed>-<git7>``; never one that exists."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    sha = _git("rev-parse", "HEAD")[:7] or "nogit"
    for attempt in range(100):
        suffix = f"-{attempt}" if attempt else ""
        folder = root / name / f"{stamp}-s{seed}-{sha}{suffix}"
        try:
            folder.mkdir(parents=True, exist_ok=False)
        except FileExistsError:
            continue
        return folder
    raise FileExistsError(f"{root / name} holds 100 runs of {stamp}")


def _git(*args: str) -> str:
    if not (packages() / ".git").exists():  # site-packages may lie in somebody else's checkout
        return ""
    try:
        done = subprocess.run(
            ["git", *args], cwd=packages(), capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(
        r"^model name\s*:(.*)", info.read_text() if info.exists() else "", re.MULTILINE
    )
    return named[1].strip() if named else platform.processor()
