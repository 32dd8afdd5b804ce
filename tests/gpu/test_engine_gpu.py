"""Serving on a real GPU: the pipelines' images at every precision, energy that is counted."""

import asyncio
import math

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torchmetrics.functional.image import structural_similarity_index_measure

from edge_node.catalog import ZOO, Catalog
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine.denoising import texts_of
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import ImageDone, image_of
from edge_node.engine.step_batcher import Stage, StepBatcher
from edge_node.engine.stepping.clock import clock_of
from edge_node.engine.stepping.turns import TurnRequest, Turns
from edge_node.telemetry import TelemetryReader
from edge_node.zoo.evaluation.images import generate
from tests.fake_family import FakeFamily, fake_model
from tests.fakes import job

pytestmark = pytest.mark.gpu

CAPTIONS = ["a red circle on a white background", "a blue ring above a green star"]
DTYPES = ["float32", "float16", "bfloat16"]


def served(model_id: str, jobs, **changes) -> list[np.ndarray]:
    """Return the images of jobs that run together."""

    async def main():
        engine = DiffusersEngine(EngineConfig(device="cuda", max_batch_size=8, **changes))
        (entry,) = Catalog([ModelConfig(model_id=model_id, source=f"builtin:{model_id}")])
        await engine.load(entry)
        done = await asyncio.gather(*(image_of(engine, one) for one in jobs))
        await engine.close()
        return [one.pixels for one in done]

    return asyncio.run(main())


def captioned(model_id: str, num_steps: int, guidance_scale: float):
    return [
        job(
            seed,
            model_id,
            prompt=prompt,
            num_steps=num_steps,
            guidance_scale=guidance_scale,
            width_px=64,
            height_px=64,
        )
        for seed, prompt in enumerate(CAPTIONS)
    ]


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    pair = [torch.from_numpy(image).permute(2, 0, 1)[None].float() for image in (one, other)]
    return float(structural_similarity_index_measure(*pair, data_range=255.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_images_are_those_of_the_pipeline_at_the_same_precision(dtype):
    pipeline = DiffusionPipeline.from_pretrained(ZOO / "scene-base", dtype=getattr(torch, dtype))
    pipeline.set_progress_bar_config(disable=True)
    expected = generate(pipeline.to("cuda"), CAPTIONS, num_steps=8, seed=0)

    images = served("scene-base", captioned("scene-base", 8, 3.0), dtype=dtype)

    assert all(ssim(*pair) >= 0.99 for pair in zip(images, expected, strict=True))


@pytest.mark.timeout(600)
def test_compiled_denoisers_draw_the_same_images():
    jobs = captioned("scene-base", 8, 3.0)

    plain = served("scene-base", jobs)
    compiled = served("scene-base", jobs, is_compiled=True)

    assert all(ssim(*pair) >= 0.99 for pair in zip(plain, compiled, strict=True))


def steps_of_a_mixed_batch(device: str) -> list[torch.Tensor]:
    """Return the images of requests that join at different steps, by a family without nets."""
    pixels = {}

    def listen(told):
        for request, event in told:
            if isinstance(event, ImageDone):
                pixels[request.job.seed] = torch.from_numpy(event.pixels.copy()).int()

    batcher = StepBatcher()
    models = {"m": fake_model(FakeFamily(device=device))}
    limits = {"m": {Stage.TEXT: 4, Stage.STEP: 8, Stage.IMAGE: 2}}
    where = torch.device(device)
    turns = Turns(where, clock_of(where), batcher, models, limits, listen)
    for seed in range(12):
        scheduler = ("ddim", "euler_ancestral", "dpmpp_2m")[seed % 3]
        one = job(seed, "m", num_steps=5 + seed, scheduler=scheduler, guidance_scale=1.0 + seed % 2)
        turns.join(
            TurnRequest(
                model_id="m",
                batch_size=1 + seed % 2,
                num_steps=one.num_steps,
                deadline_s=math.inf,
                job=one,
                texts=texts_of(models["m"].family, one),
            )
        )
        turns.turn()
    while turns.turn():
        pass
    return [pixels[seed] for seed in range(12)]


def test_no_step_waits_for_the_device_but_by_its_clock():
    expected = steps_of_a_mixed_batch("cpu")
    steps_of_a_mixed_batch("cuda")  # the first calls build kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = steps_of_a_mixed_batch("cuda")
    finally:
        torch.cuda.set_sync_debug_mode("default")

    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1


def test_energy_and_memory_are_read_from_the_device():
    properties = torch.cuda.get_device_properties(0)
    torch.cuda.empty_cache()  # what earlier tests left would serve the allocation below
    reader = TelemetryReader(properties.name, f"GPU-{properties.uuid}")
    before = reader.read()
    held = torch.ones(2**28, device="cuda")  # 1 GiB
    for _ in range(200):
        held = held * 1.000001
    torch.cuda.synchronize()

    after = reader.read()

    assert after.energy_j > before.energy_j
    assert after.memory_used_bytes - before.memory_used_bytes >= held.nbytes
