"""The profile: what profiling measured, as the one file that the controller reads.

Responsible for the schema of ``profile.json``, its reading and writing. Not: computing anything;
curves.py fits, the runner measures.
"""

from dataclasses import dataclass
from pathlib import Path

from protos.config import ConfigError, find, read_json, write_json
from protos.manifest import Manifest

FORMAT = "edge-profile/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A fitted parameter with its bootstrap confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QualityFit:
    """Linear-with-saturation quality against denoising steps, for one metric of one model."""

    metric: str
    """"clip_score", "fid" or "total_variation"."""
    a1: Estimate
    """First knee, denoising steps."""
    a2: Estimate
    """Metric below the first knee."""
    a3: Estimate
    """Second knee, denoising steps."""
    a4: Estimate
    """Metric above the second knee."""
    held_out_rmse: float
    """Of the family of record, on step counts left out of the fit."""
    family_held_out_rmse: dict[str, float]
    """The same for every family fitted (linear_saturation, exponential, power)."""
    num_samples: int
    num_steps: tuple[int, ...]
    """Grid that was measured."""
    mean: tuple[float, ...]
    """Measured mean at each grid point."""
    mean_low: tuple[float, ...] = ()
    """Ends of the means' bootstrap intervals."""
    mean_high: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyFit:
    """``generate_s = b1 * num_steps + b2`` at one batch size."""

    batch: int
    b1: Estimate
    """Seconds for each denoising step."""
    b2: Estimate
    """Seconds of overhead: text encoding, decoding, image encoding."""
    held_out_rmse_s: float
    num_samples: int
    num_steps: tuple[int, ...] = ()
    """Grid that was measured."""
    median_s: tuple[float, ...] = ()
    p10_s: tuple[float, ...] = ()
    p90_s: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelProfile:
    """Everything measured of one model."""

    model_id: str
    weights_sha256: str
    """Over the model's weight files: a profile of other weights is refused."""
    resident_bytes: int
    load_cold_s: float
    load_warm_s: float
    evict_s: float
    image_bytes: float
    """Mean size of an encoded image."""
    width_px: int
    height_px: int
    max_num_steps: int
    guidance_scale: float
    quality: tuple[QualityFit, ...]
    latency: tuple[LatencyFit, ...]
    exact_frac: tuple[float, ...] = ()
    """Share of images that show their whole caption, at each step count; empty if not known."""
    atoms_frac: tuple[float, ...] = ()
    """Mean share of a caption's atoms that images show, alike."""
    energy_j: float | None = None
    """Median energy for a denoising step at batch 1; None where the device reports none."""
    runtime: str = "torch"
    """What the denoiser ran in when latency was measured: "torch" or "onnxruntime"."""

    def fit(self, metric: str) -> QualityFit:
        """Return the fit of a metric that was measured."""
        return next(fit for fit in self.quality if fit.metric == metric)


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A device's measured models (``profile.json``)."""

    format: str
    manifest: Manifest
    clip_scorer: str
    fid_scorer: str
    fid_num_samples: int
    quality_metric: str
    """The metric that stands for quality in utilities ("clip_score")."""
    quality_worst: float
    """Measured worst mean of that metric over the zoo: normalised quality 0."""
    quality_best: float
    """Measured best mean: normalised quality 1."""
    models: tuple[ModelProfile, ...]
    real_clip_score: float | None = None
    """The scorers' verdict on real images: what a perfect model would get."""
    real_total_variation: float | None = None
    real_fid: float | None = None
    """Of as many real images as each point has generated ones: the bias of a small sample."""
    confidence: float = 0.95
    """Level of every interval."""

    def model(self, model_id: str) -> ModelProfile:
        """Return one model's profile.

        Raises:
            ConfigError: the profile lacks it; both sides are named.
        """
        for model in self.models:
            if model.model_id == model_id:
                return model
        known = ", ".join(model.model_id for model in self.models)
        raise ConfigError(f"the profile holds no model {model_id!r}; it holds: {known}")


def load(name: str | Path) -> Profile:
    """Return the profile of a file, or of the name of a shipped one.

    Raises:
        ConfigError: no such file, another format, a damaged file.
    """
    profile = read_json(find(name, "profiling/profiles"), Profile)
    if profile.format != FORMAT:
        raise ConfigError(f"{name} has format {profile.format!r}; this version reads {FORMAT!r}")
    return profile


def save(profile: Profile, path: Path) -> None:
    """Write the profile; the file appears whole or not at all."""
    write_json(path, profile)
