"""What a request costs and what it is worth: latency by cause, normalised quality, utility.

The one place of these formulas: the live system and a simulator both call it. Mathematics only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from controller.cell.config import UtilityConfig
from profiling import curves
from profiling.records import Profile
from protos.config import ConfigError
from protos.messages import Timings

Array = NDArray[np.float64]
Ints = NDArray[np.int64]
_Values = TypeVar("_Values", float, Array)

CAUSES = ("wait_s", "upload_s", "queue_s", "load_s", "generate_s", "backhaul_s", "download_s")
"""The parts of total_s, in the order of a request's way."""


def split_latency(
    total_s: float, *, wait_s: float, upload_s: float, timings: Timings
) -> dict[str, float]:
    """Return a request's seconds by cause (CAUSES) and their sum ``total_s``.

    What no other cause explains is the download: the paced transfer and the calls' overhead. Clocks
    of two processes can disagree by a rounding: the download is then 0 and the total the sum of the
    rest, so causes always sum to the total.

    Args:
        total_s: from the submission to the last byte, by the user's clock.
        wait_s: from the submission to the grant that served it, a failed first try included.
        upload_s: from the grant to the call of the node.
        timings: by the node's clock.
    """
    split = {
        "wait_s": wait_s,
        "upload_s": upload_s,
        "queue_s": timings.queue_s,
        "load_s": timings.load_s,
        "generate_s": timings.generate_s,
        "backhaul_s": timings.backhaul_s,
    }
    split["download_s"] = max(0.0, total_s - sum(split.values()))
    return split | {"total_s": sum(split.values())}


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCurves:
    """One model's curves as decisions use them."""

    model_id: str
    """Its name; unique."""
    curve: tuple[float, float, float, float]
    """A1 (steps), A2, A3 (steps), A4: quality normalised to 0..1."""
    step_s: float
    """Seconds of a denoising step at batch 1."""
    overhead_s: float
    """Seconds of an image apart from its steps."""
    image_bytes: float
    """Mean size of an image."""
    resident_bytes: int
    """Size in a node's memory."""
    load_s: float
    """Seconds until a node serves it."""
    max_num_steps: int
    """Most denoising steps; what the cloud always gives."""

    def quality(self, num_steps: int) -> float:
        """Return the normalised quality after ``num_steps``, 0..1."""
        value = curves.linear_saturation([num_steps], *self.curve)[0]
        return float(np.clip(value, 0.0, 1.0))


def model_curves(profile: Profile, model_id: str) -> ModelCurves:
    """Return one model's curves from a profile; latency is that of batch 1.

    Raises:
        ConfigError: the profile lacks the model, its quality metric or its batch-1 latency.
    """
    model = profile.model(model_id)
    fit = next((fit for fit in model.quality if fit.metric == profile.quality_metric), None)
    latency = next((fit for fit in model.latency if fit.batch == 1), None)
    if fit is None or latency is None:
        missing = f"quality {profile.quality_metric!r}" if fit is None else "latency at batch 1"
        raise ConfigError(f"the profile of model {model_id!r} holds no {missing}")
    worst, span = profile.quality_worst, profile.quality_best - profile.quality_worst
    if span == 0:
        raise ConfigError(f"the profile's quality_worst and quality_best are both {worst}")
    low, high = (
        float(np.clip((value - worst) / span, 0, 1)) for value in (fit.a2.value, fit.a4.value)
    )
    return ModelCurves(
        model_id=model_id,
        curve=(fit.a1.value, low, fit.a3.value, high),
        step_s=max(latency.b1.value, 0.0),
        overhead_s=max(latency.b2.value, 0.0),
        image_bytes=model.image_bytes,
        resident_bytes=model.resident_bytes,
        load_s=model.load_warm_s or model.load_cold_s,
        max_num_steps=model.max_num_steps,
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ModelTable:
    """Some models' curves as arrays, for many requests at once."""

    model_ids: tuple[str, ...]
    curve: Array
    """[model, 4]: A1 (steps), A2, A3 (steps), A4."""
    step_s: Array
    overhead_s: Array
    image_bytes: Array
    resident_bytes: Ints
    load_s: Array
    max_num_steps: Ints
    """The most steps that anybody gives an image of the model; what the cloud gives."""
    quality: Array
    """[model, num_steps] from 0 steps to the largest max_num_steps."""


def model_table(models: Sequence[ModelCurves], max_num_steps: int) -> ModelTable:
    """Return models as arrays; nobody gives an image more than ``max_num_steps``."""
    limits = [min(model.max_num_steps, max_num_steps) for model in models]
    names = ("curve", "step_s", "overhead_s", "image_bytes", "resident_bytes", "load_s")
    return ModelTable(
        **{name: np.array([getattr(model, name) for model in models]) for name in names},
        model_ids=tuple(model.model_id for model in models),
        max_num_steps=np.array(limits),
        quality=np.array([[m.quality(steps) for steps in range(max(limits) + 1)] for m in models]),
    )


def utility(quality: _Values, total_s: _Values, config: UtilityConfig) -> _Values:
    """Return ``w * quality - (1 - w) * total_s / reference_latency_s``."""
    weight = config.quality_weight
    return weight * quality - (1 - weight) * total_s / config.reference_latency_s


def lost_utility(config: UtilityConfig) -> float:
    """Return what a rejected or failed request counts: no quality, at the reference latency."""
    return utility(0.0, config.reference_latency_s, config)
