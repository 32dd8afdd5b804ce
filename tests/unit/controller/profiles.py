"""Synthetic profiles for tests: curves chosen by hand, not measured."""

from profiling.records import FORMAT, Estimate, LatencyFit, ModelProfile, Profile, QualityFit
from protos.manifest import Manifest

MANIFEST = Manifest(
    created_utc="2026-01-01T00:00:00+00:00",
    command="synthetic",
    git_sha="unknown",
    git_is_dirty=False,
    python="3.11",
    packages={},
    host="synthetic",
    cpu="synthetic",
    num_cpus=1,
    memory_bytes=1,
    device="synthetic",
    driver="",
)


def _exact(value: float) -> Estimate:
    return Estimate(value=value, low=value, high=value)


def model(
    model_id: str,
    *,
    knees: tuple[float, float, float, float] = (2.0, 10.0, 10.0, 30.0),
    step_s: float = 0.02,
    overhead_s: float = 0.05,
    resident_bytes: int = 1_000_000,
    max_num_steps: int = 50,
) -> ModelProfile:
    """Return a model whose CLIP score follows ``knees`` (A1, A2, A3, A4)."""
    a1, a2, a3, a4 = map(_exact, knees)
    return ModelProfile(
        model_id=model_id,
        weights_sha256="",
        resident_bytes=resident_bytes,
        load_cold_s=0.5,
        load_warm_s=0.2,
        evict_s=0.01,
        image_bytes=5000.0,
        width_px=64,
        height_px=64,
        max_num_steps=max_num_steps,
        guidance_scale=3.0,
        quality=(
            QualityFit(
                metric="clip_score",
                a1=a1,
                a2=a2,
                a3=a3,
                a4=a4,
                held_out_rmse=0.0,
                family_held_out_rmse={},
                num_samples=1,
                num_steps=(1, 10),
                mean=(a2.value, a4.value),
            ),
        ),
        latency=(
            LatencyFit(
                batch=1,
                b1=_exact(step_s),
                b2=_exact(overhead_s),
                held_out_rmse_s=0.0,
                num_samples=1,
            ),
        ),
    )


def profile(*models: ModelProfile, worst: float = 10.0, best: float = 30.0) -> Profile:
    """Return a profile of these models, labelled synthetic."""
    return Profile(
        format=FORMAT,
        manifest=MANIFEST,
        clip_scorer="synthetic",
        fid_scorer="synthetic",
        fid_num_samples=0,
        quality_metric="clip_score",
        quality_worst=worst,
        quality_best=best,
        models=models,
    )
