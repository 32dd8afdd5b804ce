"""What ``fit_curves.py`` is told: models, grid, scorers, budget (profiling/configs/*.toml).

Owns the fields and their limits. Refuses to look at hardware or weights.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Literal

from edge_node.admission import SAMPLERS

MIN_STEP_COUNTS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelChoice:
    """One model to profile."""

    model_id: str
    """Its name in the profile; an edge node's catalog must use the same."""
    source: str
    """"builtin:NAME" (the zoo), "folder:PATH" (diffusers layout) or "hub:OWNER/NAME"."""
    guidance_scale: float = 3.0
    """Classifier-free guidance; 1 or less switches it off."""
    max_num_steps: int = 50
    """Step counts of the grid above this are left out."""
    scheduler: str = ""
    """Sampler, one of edge_node.admission.SAMPLERS; empty: the folder's own."""
    variant: str = ""
    """Weight variant of a hub id, such as "fp16"."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the loaded weights."""
    width_px: int = 64
    """Of the images."""
    height_px: int = 64
    """Of the images."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w][\w.+-]*", self.model_id):
            raise ValueError(f"model_id must be a plain name, got {self.model_id!r}")
        if self.source.partition(":")[0] not in ("builtin", "folder", "hub"):
            raise ValueError(
                f"source of {self.model_id} must begin with builtin:, folder: or hub:,"
                f" got {self.source!r}"
            )
        if self.scheduler not in ("", *SAMPLERS):
            raise ValueError(
                f"scheduler of {self.model_id} must be empty or one of {', '.join(SAMPLERS)},"
                f" got {self.scheduler!r}"
            )
        for name in ("max_num_steps", "width_px", "height_px"):
            _positive(f"{name} of {self.model_id}", getattr(self, name))
        if not 0 <= self.guidance_scale <= 50:
            raise ValueError(
                f"guidance_scale of {self.model_id} must be 0 to 50, got {self.guidance_scale}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class GridChoice:
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
        if len(self.num_steps) < MIN_STEP_COUNTS or list(self.num_steps) != sorted(
            set(self.num_steps)
        ):
            raise ValueError(
                f"num_steps must be >= {MIN_STEP_COUNTS} rising step counts, got {self.num_steps}"
            )
        for name in ("latency_repeats", "quality_batch", "min_images"):
            _positive(name, getattr(self, name))
        _positive("num_steps", self.num_steps[0])
        if not self.batches or min(self.batches) < 1:
            raise ValueError(f"batches must hold sizes >= 1, got {self.batches}")
        if not 2 <= self.min_images <= self.max_images:
            raise ValueError(
                f"min_images must be 2 to max_images ({self.max_images}), got {self.min_images}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerChoice:
    """Who judges, and what the images should look like."""

    clip: str = "builtin:judge"
    """"builtin:judge", "judge:PATH" (another judge), or a CLIP: "folder:PATH", "hub:OWNER/NAME"."""
    fid: str = "builtin:judge"
    """"builtin:judge", "judge:PATH", or "inception-v3" (the standard FID, 2048 features)."""
    prompts: str = "scenes"
    """"scenes": the zoo's captions that no training saw; else a text file, one prompt a line."""
    pair_frac: float = 0.5
    """Share of two-object captions among the scenes."""
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
            if getattr(self, name).partition(":")[0] not in schemes:
                given = getattr(self, name)
                raise ValueError(f"{name} must begin with {' or '.join(schemes)}, got {given!r}")
        if not 0 <= self.pair_frac <= 1:
            raise ValueError(f"pair_frac must be 0 to 1, got {self.pair_frac}")
        if self.num_reference < 2:
            raise ValueError(f"num_reference must be >= 2, got {self.num_reference}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProfileConfig:
    """One profiling run."""

    models: tuple[ModelChoice, ...]
    grid: GridChoice = field(default_factory=GridChoice)
    scorer: ScorerChoice = field(default_factory=ScorerChoice)
    seed: int = 0
    """Of prompts, images and bootstrap."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1"; "auto" takes a GPU if there is one."""
    budget_s: float = 480.0
    """Aimed-at seconds for everything; decides how many prompts each point gets."""
    bootstrap: int = 200
    """Resamples behind every confidence interval."""

    def __post_init__(self) -> None:
        names = [model.model_id for model in self.models]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"models must be named and all different, got {names}")
        if not (0 < self.budget_s < math.inf):
            raise ValueError(f"budget_s must be > 0 and finite, got {self.budget_s}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.bootstrap < 20:
            raise ValueError(f"bootstrap must be >= 20, got {self.bootstrap}")
        for model in self.models:
            if len(self.steps_of(model)) < MIN_STEP_COUNTS:
                raise ValueError(
                    f"{model.model_id}: max_num_steps {model.max_num_steps} leaves fewer than"
                    f" {MIN_STEP_COUNTS} of the step counts {self.grid.num_steps}"
                )

    def steps_of(self, model: ModelChoice) -> tuple[int, ...]:
        """Return the step counts that the model is measured at."""
        return tuple(steps for steps in self.grid.num_steps if steps <= model.max_num_steps)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")
