"""The configuration of a profiling run: models, grid, scorers, budget (profiling/configs/*.toml).

Responsible for fields and their limits. Not: hardware or weights. Models are given as in an edge
node's catalog, so that the same tables serve both.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from edge_node.config import EngineConfig, ModelConfig
from protos.config import require, require_positive

MIN_STEP_COUNTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class GridConfig:
    """Where to measure."""

    num_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50)
    """Denoising steps, rising; at least four, as the quality curve has four parameters."""
    batches: tuple[int, ...] = (1,)
    """Batch sizes to time."""
    latency_repeats: int = 5
    """Timed generations of each point, in mixed order."""
    quality_batch: int = 32
    """Prompts generated together for the quality scores."""
    min_images: int = 32
    """Prompts at every step count, whatever they cost."""
    max_images: int = 128
    """Prompts at every step count, if the budget allows."""

    def __post_init__(self) -> None:
        require(
            len(self.num_steps) >= MIN_STEP_COUNTS
            and self.num_steps[0] >= 1
            and list(self.num_steps) == sorted(set(self.num_steps)),
            f"num_steps must be >= {MIN_STEP_COUNTS} rising step counts >= 1, got {self.num_steps}",
        )
        require_positive(self, "latency_repeats", "quality_batch")
        require(
            bool(self.batches) and min(self.batches) >= 1,
            f"batches must hold sizes >= 1, got {self.batches}",
        )
        require(
            2 <= self.min_images <= self.max_images,
            f"min_images must be 2 to max_images ({self.max_images}), got {self.min_images}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerConfig:
    """Who judges, and what the images should look like."""

    clip: str = "builtin:judge"
    """"builtin:judge" (of the plain world), "builtin:open-judge", "judge:PATH" (another judge), or
    a CLIP: "folder:PATH", "hub:OWNER/NAME"."""
    fid: str = "builtin:judge"
    """The same judges, or "inception-v3" (the standard FID, 2048 features)."""
    world: Literal["plain", "open"] = "plain"
    """Of the zoo's worlds, the one whose captions and renderings "scenes" means, and whose check by
    atoms reads the images."""
    prompts: str = "scenes"
    """"scenes": the world's captions that no training saw; else a text file, one prompt a line,
    of which those that are captions of the open world are checked by atoms too."""
    reference: str = "scenes"
    """"scenes": renderings of such captions; else a folder of real images; "" leaves FID out."""
    num_reference: int = 1024
    """Reference images."""

    def __post_init__(self) -> None:
        known = {
            "clip": ["builtin", "judge", "folder", "hub"],
            "fid": ["builtin", "judge", "inception-v3"],
        }
        for name, schemes in known.items():
            given = getattr(self, name)
            require(
                given.partition(":")[0] in schemes,
                f"{name} must begin with {' or '.join(schemes)}, got {given!r}",
            )
        judge = f"builtin:{'open-judge' if self.world == 'open' else 'judge'}"
        for given in (self.clip, self.fid):
            require(
                not given.startswith("builtin:") or given == judge,
                f"the {self.world} world's judge is {judge}, got {given!r}",
            )
        require(self.num_reference >= 2, f"num_reference must be >= 2, got {self.num_reference}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileConfig:
    """One profiling run."""

    models: tuple[ModelConfig, ...]
    """Each at its default guidance, up to its most steps; named as in the nodes' catalogs."""
    grid: GridConfig = field(default_factory=GridConfig)
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    seed: int = 0
    """Of prompts, images and bootstrap."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1"; "auto" takes a GPU if there is one."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the loaded weights."""
    budget_s: float = 480.0
    """Aimed-at seconds for everything; decides how many prompts each point gets."""
    bootstrap: int = 200
    """Resamples behind every confidence interval."""

    def __post_init__(self) -> None:
        names = [model.model_id for model in self.models]
        require(
            bool(names) and len(set(names)) == len(names),
            f"models must be named and all different, got {names}",
        )
        require(
            0 < self.budget_s < math.inf, f"budget_s must be > 0 and finite, got {self.budget_s}"
        )
        require(
            bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device)),
            f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}",
        )
        require(self.bootstrap >= 20, f"bootstrap must be >= 20, got {self.bootstrap}")
        for model in self.models:
            require(
                bool(re.fullmatch(r"[\w][\w.+-]*", model.model_id)),
                f"model_id must be a plain name (it names a folder), got {model.model_id!r}",
            )
            require(
                len(self.steps_of(model)) >= MIN_STEP_COUNTS,
                f"{model.model_id}: max_num_steps {model.max_num_steps} leaves fewer than"
                f" {MIN_STEP_COUNTS} of the step counts {self.grid.num_steps}",
            )

    @property
    def engine(self) -> EngineConfig:
        """How nets run."""
        return EngineConfig(device=self.device, dtype=self.dtype)

    def steps_of(self, model: ModelConfig) -> tuple[int, ...]:
        """Return the step counts that the model is measured at."""
        return tuple(steps for steps in self.grid.num_steps if steps <= model.max_num_steps)
