"""What a benchmark leaves: its record as JSON, and the tables made of it.

Responsible for the files and for how repeats are stated. Not: what is measured.
"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write(folder: Path, name: str, record: dict[str, Any], blocks: Sequence[str]) -> None:
    """Write NAME.json and NAME.md into the folder, and print the latter."""
    text = "\n\n".join(blocks) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    sys.stdout.write(text)


def spread(values: Sequence[float]) -> str:
    """Return the median, and the least and the most in brackets."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
