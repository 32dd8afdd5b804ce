"""``pytest -m gpu`` as a stage: its verdict and its last words."""

import os
import re
import signal
import subprocess
import sys
from typing import Any

from protos.config import ConfigError, packages

LIMIT_S = 150.0
"""The tests are ended after this."""
_LAST_LINES = 40


def record() -> dict[str, Any]:
    """Run the tests in a process of their own; return how many passed, failed and were skipped.

    Raises:
        ConfigError: the program was installed without its tests.
    """
    if not (packages() / "tests" / "gpu").is_dir():
        raise ConfigError(f"no tests in {packages()}; leave them out: --stages names the others")
    process = subprocess.Popen(
        (sys.executable, "-m", "pytest", "-m", "gpu", "tests/gpu"),
        cwd=packages(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_S)
        is_over = True
    except subprocess.TimeoutExpired:
        is_over = False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    if not is_over:
        said, _ = process.communicate()
    lines = said.splitlines()[-_LAST_LINES:]
    ended = {"exit_code": process.returncode if is_over else None, "is_over": is_over}
    return ended | {"counts": counts(lines), "last_lines": lines}


def counts(lines: list[str]) -> dict[str, int]:
    """Return what pytest's closing line counts, by its words.

    >>> counts(["...", "=== 4 passed, 1 skipped in 12.30s ==="])
    {'passed': 4, 'skipped': 1}
    """
    words = re.findall(r"(\d+) (passed|failed|errors?|skipped)", lines[-1] if lines else "")
    return {word: int(number) for number, word in words}
