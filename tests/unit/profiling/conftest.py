"""What the profiling tests share: a made-up profile and the samples that it stands for."""

import numpy as np
import pytest

from edge_node.config import ModelConfig
from profiling import curves, samples
from profiling.measure import config, summary
from protos.manifest import Manifest

KNEES = {"scene-nano": (2.0, 18.0, 8.0, 24.0), "scene-base": (1.0, 18.0, 16.0, 30.0)}
STEP_S = {"scene-nano": 0.01, "scene-base": 0.03}
OVERHEAD_S = 0.05
STEPS = (1, 2, 4, 8, 16, 32)
NUM_IMAGES = 20


@pytest.fixture(scope="session")
def choice():
    return config.ProfileConfig(
        models=tuple(ModelConfig(model_id=name, source=f"builtin:{name}") for name in KNEES),
        grid=config.GridConfig(num_steps=STEPS, min_images=4, max_images=NUM_IMAGES),
        device="cpu",
        bootstrap=40,
    )


@pytest.fixture(scope="session")
def manifest():
    return Manifest(
        created_utc="2026-01-31T12:00:00+00:00",
        command="fit_curves.py",
        git_sha="0123456789abcdef",
        git_is_dirty=False,
        python="3.11",
        packages={"torch": "2.13.0"},
        host="somewhere",
        cpu="a processor",
        num_cpus=2,
        memory_bytes=8_000_000_000,
        device="cpu",
        driver="",
    )


@pytest.fixture(scope="session")
def measured():
    """Complete samples of two models whose curves are KNEES, STEP_S and OVERHEAD_S."""
    rng = np.random.default_rng(0)
    lines = [
        samples.RealSample(
            clip_scorer="zoo-judge-0123 (128 features, 64 px)",
            fid_scorer="zoo-judge-0123 (128 features, 64 px)",
            num_samples=NUM_IMAGES,
            clip_score=31.5,
            total_variation=0.0123,
            fid=4.5,
        )
    ]
    for model in KNEES:
        lines += loads_of(model) + latencies_of(model, rng)
        lines += images_of(model, rng) + distances_of(model, rng)
    return lines


def loads_of(model):
    return [
        samples.LoadSample(
            model=model,
            repeat=repeat,
            is_cold=repeat == 0,
            load_s=(3.0, 1.0, 1.2)[repeat],
            evict_s=(0.1, 0.2, 0.3)[repeat],
            resident_bytes=7_000_000,
            freed_bytes=6_000_000,
        )
        for repeat in range(3)
    ]


def latencies_of(model, rng):
    return [
        samples.LatencySample(
            model=model,
            num_steps=steps,
            batch=1,
            guidance=3.0,
            repeat=repeat,
            generate_s=float((OVERHEAD_S + STEP_S[model] * steps) * (1 + rng.normal(0, 0.01))),
            energy_j=2.0 * steps,
        )
        for repeat in range(5)
        for steps in STEPS
    ]


def images_of(model, rng):
    shift = rng.normal(0, 1, NUM_IMAGES)
    return [
        samples.QualitySample(
            model=model,
            num_steps=steps,
            guidance=3.0,
            index=index,
            prompt=f"prompt {index} <&>",
            seed=index,
            generate_s=0.1,
            batch=4,
            total_variation=0.05 / steps,
            clip_score=float(curves.linear_saturation(steps, *KNEES[model]) + shift[index]),
            atoms_frac=float(index < steps),
            image_bytes=1000 + index,
            image_sha256="0",
        )
        for index in range(NUM_IMAGES)
        for steps in STEPS
    ]


def distances_of(model, rng):
    return [
        samples.FidSample(
            model=model,
            num_steps=steps,
            num_samples=NUM_IMAGES,
            num_reference=64,
            value=10 + 40 / steps,
            replicates=(10 + 40 / steps + rng.normal(0, 1, 40)).tolist(),
        )
        for steps in STEPS
    ]


@pytest.fixture(scope="session")
def profile(choice, measured, manifest):
    return summary.summarise(choice, measured, dict.fromkeys(KNEES, "abcdef0123456789"), manifest)
