"""Stages of a long measurement: each leaves one file, and is not repeated where that file is.

Responsible for resuming, the time budget, and what became of each stage. Not: what is measured.
"""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge_node.engine import memory
from protos.config import ConfigError, read_json, write_json
from protos.errors import OverloadedError
from protos.manifest import Manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stage:
    """One measurement."""

    name: str
    """Of its file, NAME.json."""
    expected_s: float
    """It does not begin with less time left."""
    measure: Callable[[], dict[str, Any]]
    """Return the record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subject:
    """What all stages in a folder belong to (manifest.json)."""

    manifest: Manifest
    is_tiny: bool
    """Tiny models instead of full-size ones."""
    dtype: str
    """Precision of weights and steps, where a stage names no other."""

    @property
    def models(self) -> str:
        """What was measured, in words."""
        if self.is_tiny:
            return "tiny models with random weights"
        return "models of published size with random weights"


def enter(folder: Path, subject: Subject) -> None:
    """Begin a folder of results, or make sure that the ones there may be continued.

    Raises:
        ConfigError: they were measured on another device, of other models or by other code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "manifest.json"
    if not file.exists():
        write_json(file, subject)
        return
    before = read_json(file, Subject)
    for what, theirs, ours in (
        ("on the device", before.manifest.device, subject.manifest.device),
        ("of", before.models, subject.models),
        ("by the code of commit", before.manifest.git_sha, subject.manifest.git_sha),
    ):
        if theirs != ours:
            raise ConfigError(
                f"{folder} was measured {what} {theirs!r}, now it is {ours!r}; remove it, or "
                "use another --out"
            )


def run(stages: Sequence[Stage], folder: Path, budget_s: float) -> dict[str, str]:
    """Measure the stages that have no file yet, in order; return why the others have none.

    A stage that memory is too small for has a file that says so; one that fails has none, and is
    tried again by the next run. Neither stops those after it.
    """
    began_s = time.perf_counter()
    missing: dict[str, str] = {}

    def say(words: str) -> None:
        sys.stderr.write(f"[{time.perf_counter() - began_s:5.0f} s] {words}\n")
        sys.stderr.flush()

    for stage in stages:
        file = folder / f"{stage.name}.json"
        left_s = budget_s - (time.perf_counter() - began_s)
        if file.exists():
            say(f"{stage.name}: there already")
            continue
        if left_s < stage.expected_s:
            missing[stage.name] = (
                f"no time: it takes about {stage.expected_s:.0f} s, {max(left_s, 0):.0f} s left"
            )
        else:
            say(f"{stage.name}: begins, {left_s:.0f} s left")
            if failure := _measured(stage, file):
                missing[stage.name] = failure
        say(f"{stage.name}: {missing.get(stage.name, 'done')}")
    return missing


def _measured(stage: Stage, file: Path) -> str:
    """Measure a stage and write its file; return what failed."""
    began_s = time.perf_counter()
    failure = ""
    try:
        record = stage.measure()
    except ConfigError:
        raise
    except Exception as error:
        record = {"out_of_memory": str(error)}
        if not is_full(error):
            failure = f"failed: {type(error).__name__}: {error}"
            logger.warning("%s failed", stage.name, exc_info=error)
    # Outside of the except block: the error holds on to its tensors.
    memory.release(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if not failure:
        write_json(file, {"stage": stage.name, "taken_s": time.perf_counter() - began_s} | record)
    return failure


def is_full(error: Exception) -> bool:
    """Tell from other errors that memory is too small, in the engine's words and torch's."""
    return isinstance(error, OverloadedError) or memory.is_out_of_memory(error)


def records(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the records that are there, by their stages' names."""
    files = {name: folder / f"{name}.json" for name in names}
    return {name: read_json(file, dict[str, Any]) for name, file in files.items() if file.exists()}


def subject_of(folder: Path) -> Subject:
    """Return what the folder's stages belong to."""
    return read_json(folder / "manifest.json", Subject)
