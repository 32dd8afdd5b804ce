"""Whoever shares a denoiser call gets the image that diffusers makes alone, in every family."""

import asyncio
from contextlib import aclosing

import numpy as np
import pytest
import torch

from edge_node.catalog import Catalog
from edge_node.config import SAMPLERS, EngineConfig, ModelConfig
from edge_node.engine import denoising, families, samplers
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import ImageDone, Job, Started, StepDone
from edge_node.engine.stepping.batch import Batch
from protos.errors import InvalidRequestError
from tests import fakes, tiny_models

SIZE_PX = 16
OWN = {
    "sd": "ddim",
    "lcm": "lcm",
    "sdxl": "euler",
    "sd3": "flow_euler",
    "pixart-alpha": "ddim",
    "pixart-sigma": "ddim",
}


def job(index: int, model_id: str = "m", **changes) -> Job:
    fields = {
        "prompt": ["a red circle", "a small blue square at the left", "green", ""][index % 4],
        "negative_prompt": ["", "yellow"][index % 2],
        "num_steps": [3, 7, 1, 5][index % 4],
        "guidance_scale": [3.0, 1.0, 7.5, 0.0][index % 4],
        "width_px": SIZE_PX,
        "height_px": SIZE_PX,
    }
    return fakes.job(100 + index, model_id, **(fields | changes))


def alone(pipeline, one: Job, output_type: str):
    """Return what diffusers makes of a job."""
    own = pipeline.scheduler
    if one.scheduler:
        pipeline.scheduler = samplers.make(one.scheduler, own)
    pipeline.set_progress_bar_config(disable=True)
    takes_negative = type(pipeline).__name__ != "LatentConsistencyModelPipeline"
    has_negative = takes_negative and one.negative_prompt
    is_pixart = type(pipeline).__name__.startswith("PixArt")
    try:
        return pipeline(
            one.prompt,
            **({"negative_prompt": one.negative_prompt} if has_negative else {}),
            **({"use_resolution_binning": False, "clean_caption": False} if is_pixart else {}),
            num_inference_steps=one.num_steps,
            guidance_scale=one.guidance_scale,
            width=one.width_px,
            height=one.height_px,
            generator=torch.Generator().manual_seed(one.seed),
            output_type=output_type,
        ).images
    finally:
        pipeline.scheduler = own


@pytest.fixture(scope="module")
def pipelines():
    return {name: tiny_models.build(name) for name in tiny_models.FAMILIES}


@pytest.mark.parametrize("name", tiny_models.FAMILIES)
@torch.inference_mode()
def test_a_mixed_batch_ends_at_the_latents_that_diffusers_ends_at(pipelines, name):
    pipeline = pipelines[name]
    model = denoising.Model(families.adapt(pipeline), OWN[name])
    jobs = [job(index) for index in range(4)]

    started = denoising.start(model, jobs)
    batch = Batch(model.family)
    while active := [one for one in started if not one.is_finished]:
        batch.advance(active)

    for one in started:
        expected = alone(pipeline, one.job, "latent")
        torch.testing.assert_close(one.latent, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scheduler", [name for name in SAMPLERS if name != "flow_euler"])
def test_samplers_mix_in_one_batch(pipelines, scheduler):
    pipeline = pipelines["sd"]
    model = denoising.Model(families.adapt(pipeline), "ddim")
    jobs = [job(0), job(1, scheduler=scheduler), job(2, scheduler=scheduler, num_steps=6)]

    with torch.inference_mode():
        started = denoising.start(model, jobs)
        batch = Batch(model.family)
        while active := [one for one in started if not one.is_finished]:
            batch.advance(active)

    for one in started:
        expected = alone(pipeline, one.job, "latent")
        torch.testing.assert_close(one.latent, expected, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def catalog(pipelines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    for name, pipeline in pipelines.items():
        pipeline.save_pretrained(folder / name)
    models = [
        ModelConfig(model_id=name, source=f"folder:{name}", width_px=SIZE_PX, height_px=SIZE_PX)
        for name in tiny_models.FAMILIES
    ]
    return Catalog(models, [folder])


async def image_of(engine: DiffusersEngine, one: Job):
    async with aclosing(engine.generate(one)) as stream:
        events = [event async for event in stream]
    assert isinstance(events[0], Started)
    assert events[1:-1] == [StepDone(step) for step in range(1, one.num_steps + 1)]
    assert isinstance(events[-1], ImageDone)
    return events[-1].pixels


@pytest.mark.timeout(300)  # it exports twelve nets
def test_all_families_at_once_make_the_images_of_their_pipelines(pipelines, catalog):
    jobs = [job(index, name) for name in tiny_models.FAMILIES for index in range(4)]

    async def scenario():
        engine = DiffusersEngine(EngineConfig(device="cpu", max_batch_size=5))
        for entry in catalog:
            await engine.load(entry)
            assert engine.model(entry.model_id).family.runtime == "onnxruntime"
        images = await asyncio.gather(*(image_of(engine, one) for one in jobs))
        await engine.close()
        return images

    for one, image in zip(jobs, asyncio.run(scenario()), strict=True):
        expected = alone(pipelines[one.model_id], one, "np")[0]
        difference = np.abs(image - np.rint(expected * 255))
        assert difference.max() <= 1, one  # float32 rounds otherwise in another batch
        assert (difference > 0).mean() < 0.01


def test_a_sampler_of_another_kind_of_model_is_refused(catalog):
    async def scenario():
        engine = DiffusersEngine(EngineConfig(device="cpu", max_batch_size=4))
        for name in ("sd", "sd3"):
            await engine.load(catalog.get(name))
        with pytest.raises(InvalidRequestError, match=r"'sd3'.*flow_euler, got scheduler 'ddim'"):
            await image_of(engine, job(0, "sd3", scheduler="ddim"))
        with pytest.raises(InvalidRequestError, match=r"no flow matching, got .*'flow_euler'"):
            await image_of(engine, job(0, "sd", scheduler="flow_euler"))
        await engine.close()

    asyncio.run(scenario())
