"""stub."""

from pathlib import Path


def write(folder: Path) -> Path:
    """Write it."""
    return folder
