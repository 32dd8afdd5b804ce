"""The verb ``gpu``: which stages there are, and on which models.

Responsible for the order of stages and for the models' folders. Not: measuring, resuming, words.
"""

import functools
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pynvml
import torch
from transformers.utils import logging as transformers_logging

from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine import memory
from profiling.bench import shapes, tiny_shapes
from profiling.bench.gpu import comparison, models, stages, suite, summary
from profiling.bench.gpu.stages import Stage, Subject
from profiling.bench.shapes import Shape
from protos import logs, manifest
from protos.config import ConfigError

EXPECTED_S = {
    "tests": suite.LIMIT_S,
    "sd15-loads": 40.0,
    "sd15-steps": 40.0,
    "sd15-comparison": 75.0,
    "sd15-parity": 30.0,
    "sdxl-loads": 70.0,
    "sdxl-steps": 70.0,
    "sd3-loads": 65.0,
    "sd3-steps": 60.0,
}
"""All stages, in order, and what each takes at most: estimates for a large GPU."""
_TINY_S = 5.0
_PRECISIONS = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """Measure what a GPU does with full-size models, in stages, within a budget of time.

    $ python -m profiling.bench gpu                              8 minutes, on a GPU
    $ python -m profiling.bench gpu --device cpu --tiny          the same stages, a minute, anywhere
    $ python -m profiling.bench gpu --stages sd15-loads sd15-steps

    Models are SD 1.5 (512 px), SDXL and SD 3 medium without T5 (1024 px) in their published sizes
    with random weights. Stages: the tests that need a GPU; for each model its loads beside plain
    copies of as many bytes, evictions and first images, and its steps by batch size with joules an
    image; for SD 1.5 the engine beside diffusers' pipeline, in half precision and in float32.

    Each stage writes NAME.json when it is done. A stage that has its file is not repeated, so the
    same command continues what was stopped or had no time; remove a file to measure it again.
    summary.md tells everything that is there.
    """

    device: Literal["auto", "cuda", "cpu"] = "auto"
    """"auto": CUDA where there is one; "cpu" with --tiny only."""
    tiny: bool = False
    """Tiny models instead, which show only that the stages work."""
    budget_s: float = 480.0
    """Stages that would not end within this are left for the next run."""
    stages: tuple[str, ...] = ()
    """Only these; all by default."""
    out: Path = Path("runs/gpu")
    """Folder of the results."""

    def __call__(self) -> int:
        """Measure what is missing; write and print the summary; 1 where something failed."""
        logs.setup("WARNING")
        transformers_logging.disable_progress_bar()
        if unknown := set(self.stages) - set(EXPECTED_S):
            raise ConfigError(f"--stages: no {sorted(unknown)}; there are {', '.join(EXPECTED_S)}")
        device, name, driver = self._device()
        engine = EngineConfig(
            device=device,
            dtype="float32" if device == "cpu" else "float16",
            runtime="torch",  # a GPU's
            num_threads=int(self.tiny),  # more would wait for each other
        )
        subject = Subject(
            manifest=manifest.collect(name, driver), is_tiny=self.tiny, dtype=engine.dtype
        )
        stages.enter(self.out, subject)
        with tempfile.TemporaryDirectory(prefix="models-") as root:
            planned = self._planned(engine, Folders(Path(root), engine))
            missing = stages.run(planned, self.out, self.budget_s)
        records = stages.records(self.out, tuple(EXPECTED_S))
        text = summary.text(stages.subject_of(self.out), records, missing)
        (self.out / "summary.md").write_text(text)
        sys.stdout.write(text)
        have_failed = any(why.startswith("failed") for why in missing.values())
        return int(have_failed or records.get("tests", {}).get("exit_code", 0) != 0)

    def _device(self) -> tuple[str, str, str]:
        """Return the torch device, its name and its driver."""
        has_cuda = torch.cuda.is_available()
        if self.device == "cuda" and not has_cuda:
            raise ConfigError("--device is 'cuda', but torch sees no GPU")
        if self.device == "cpu" or not has_cuda:
            if not self.tiny:
                raise ConfigError("full-size models need a GPU; on a CPU: --device cpu --tiny")
            return "cpu", "cpu", ""
        pynvml.nvmlInit()
        return "cuda", torch.cuda.get_device_name(), str(pynvml.nvmlSystemGetDriverVersion())

    def _planned(self, engine: EngineConfig, folders: "Folders") -> list[Stage]:
        """Return the stages that were asked for, in order."""
        effort = models.Effort(repeats=2 if self.tiny else 3, energy_s=0.2 if self.tiny else 2.0)
        measure: dict[str, Callable[[], dict[str, Any]]] = {"tests": suite.record}
        family = tiny_shapes.ALL if self.tiny else shapes.PUBLISHED
        for shape in family:
            for kind, of in (("loads", models.load_record), ("steps", models.step_record)):
                measure[f"{shape.name}-{kind}"] = functools.partial(
                    _of_model, of, folders, shape, engine, effort
                )
        many, few = (8, 4) if self.tiny else (24, 8)
        for kind, dtype, num_requests, rounds in (
            ("comparison", engine.dtype, many, 2),
            ("parity", "float32", few, 1),
        ):
            settings = comparison.Settings(
                engine=replace(engine, dtype=dtype),
                num_requests=num_requests,
                max_num_steps=8 if self.tiny else 50,
                rounds=rounds,
            )
            measure[f"{family[0].name}-{kind}"] = functools.partial(
                _of_model, comparison.compare, folders, family[0], settings
            )
        return [
            Stage(name, _TINY_S if self.tiny and name != "tests" else expected_s, measure[name])
            for name, expected_s in EXPECTED_S.items()
            if not self.stages or name in self.stages
        ]


class Folders:
    """Folders of models, one at a time: the disk need not hold all of them."""

    def __init__(self, root: Path, engine: EngineConfig) -> None:
        self._root = root
        self._device = torch.device(engine.device)
        self._dtype = _PRECISIONS[engine.dtype]

    def model(self, shape: Shape) -> ModelConfig:
        """Return a model whose folder is there until another one is asked for."""
        folder = self._root / shape.name
        if not folder.exists():
            for other in self._root.iterdir():
                shutil.rmtree(other)
            partial = self._root / "partial"
            shapes.write(shape, partial, self._dtype, self._device)
            partial.rename(folder)
            memory.release(self._device)
        return shape.model(folder)


def _of_model(
    measure: Callable[..., dict[str, Any]], folders: Folders, shape: Shape, *settings: Any
) -> dict[str, Any]:
    """Return the record of a stage that needs a model."""
    return {"model_id": shape.name} | measure(folders.model(shape), *settings)
