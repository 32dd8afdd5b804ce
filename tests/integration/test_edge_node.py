"""The edge node as users start it: a process, real diffusers models, real gRPC."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

from edge_node.zoo import text
from edge_node.zoo.training import autoencoder, denoiser
from edge_node.zoo.worlds.builtin import PLAIN
from protos import errors
from protos.clients import EdgeNodeClient
from protos.messages import Accepted, GenerateRequest, ImageChunk, Progress

ROOT = Path(__file__).resolve().parents[2]


def write_config(
    folder: Path, root: Path, *models: str, capacity_bytes: int = 10**9, max_batch_size: int = 8
) -> Path:
    file = folder / "node.toml"
    entries = "".join(
        f'[[models]]\nmodel_id = "{name}"\nsource = "folder:{name}"\n' for name in models
    )
    file.write_text(
        f'address = "127.0.0.1:0"\nmodel_roots = ["{root}"]\n'
        f"[cache]\ncapacity_bytes = {capacity_bytes}\n"
        f"[engine]\nnum_threads = 2\nmax_batch_size = {max_batch_size}\n{entries}"
    )
    return file


@contextlib.contextmanager
def serving(config: Path):
    """Run a node; yield its process and address; terminate it afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_node", "serve", "--config", str(config)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "passive"},
    )
    try:
        line = process.stdout.readline()
        assert "listening on" in line
        yield process, line.split()[-1]
    finally:
        process.terminate()
        process.wait(timeout=30)
        process.stdout.close()


def ended(*options: str) -> subprocess.CompletedProcess:
    """Run a node that is expected to end by itself."""
    command = [sys.executable, "-m", "edge_node", "serve", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


async def image_of(client: EdgeNodeClient, request: GenerateRequest) -> np.ndarray:
    events = [event async for event in client.generate(request, 60)]
    data = b"".join(event.data for event in events if isinstance(event, ImageChunk))
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("scheduler", "num_steps", "guidance_scale"),
    [("", 4, 3.0), ("ddim", 7, 0.0), ("dpmpp_2m", 5, 7.5), ("", 1, 1.0)],
)
def test_images_equal_those_of_the_pipeline(
    zoo_node, model_root, scheduler, num_steps, guidance_scale
):
    pipeline = StableDiffusionPipeline.from_pretrained(model_root / "tiny", dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    if scheduler:
        cls = {"ddim": DDIMScheduler, "dpmpp_2m": DPMSolverMultistepScheduler}[scheduler]
        pipeline.scheduler = cls.from_config(pipeline.scheduler.config)
    expected = pipeline(
        "a small red circle at the left",
        num_inference_steps=num_steps,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(42),
        output_type="np",
    ).images[0]

    async def scenario():
        async with EdgeNodeClient(zoo_node, deadline_s=60) as client:
            await client.set_cache(["tiny"])
            return await image_of(
                client,
                GenerateRequest(
                    request_id="r1",
                    model_id="tiny",
                    prompt="a small red circle at the left",
                    num_steps=num_steps,
                    guidance_scale=guidance_scale,
                    seed=42,
                    scheduler=scheduler,
                ),
            )

    difference = np.abs(asyncio.run(scenario()) - np.rint(expected * 255))
    assert difference.max() <= 1  # the same sums in another order, at a rounding's edge
    assert (difference > 0).mean() < 1e-3


@pytest.fixture(scope="module")
def zoo_node(model_root, tmp_path_factory):
    with serving(write_config(tmp_path_factory.mktemp("node"), model_root, "tiny")) as (_, address):
        yield address


def test_evicting_gives_the_memory_back(tmp_path):
    net = denoiser.build(PLAIN, (128, 256, 384), 64)
    vae = autoencoder.build(PLAIN)
    denoiser.export(net, text.encoder(PLAIN), vae, PLAIN, tmp_path / "large")

    async def scenario(address):
        async with EdgeNodeClient(address, deadline_s=60) as client:
            for _ in range(2):  # what the first loads import and compile stays
                await client.load_model("large")
                await client.evict_model("large")
            changes = []
            for _ in range(3):
                before = (await client.status()).telemetry.process_memory_bytes
                size = (await client.load_model("large")).resident_bytes
                loaded = (await client.status()).telemetry.process_memory_bytes
                await client.evict_model("large")
                after = (await client.status()).telemetry.process_memory_bytes
                changes.append((size, loaded - before, after - before))
            return changes

    config = write_config(tmp_path, tmp_path, "large", max_batch_size=0)
    with serving(config) as (_, address):
        changes = asyncio.run(scenario(address))
    size, grown, _ = changes[-1]
    assert size > 100e6
    assert grown > 0.9 * size
    assert all(abs(left) < 0.05 * size for _, _, left in changes), changes


def test_damaged_weights_are_refused_and_the_cache_stays_whole(own_model_root, tmp_path):
    file = own_model_root / "small" / "unet" / "diffusion_pytorch_model.safetensors"

    async def scenario(address):
        async with EdgeNodeClient(address, deadline_s=60) as client:
            await client.load_model("tiny")
            file.write_bytes(file.read_bytes()[:-100])
            with pytest.raises(errors.ModelLoadError, match=r"'small'.*bytes expected"):
                await client.load_model("small")
            with pytest.raises(errors.ModelLoadError):
                await client.set_cache(["small"])
            assert [m.model_id for m in await client.list_models() if m.is_resident] == ["tiny"]

    with serving(write_config(tmp_path, own_model_root, "tiny", "small")) as (_, address):
        asyncio.run(scenario(address))


def test_sigterm_finishes_what_runs_and_refuses_what_comes(model_root, tmp_path):
    async def scenario(process, address):
        async with EdgeNodeClient(address, deadline_s=60) as client:
            await client.load_model("tiny")
            running = GenerateRequest(
                request_id="r1", model_id="tiny", prompt="a", num_steps=60, rate_bps=1e6
            )
            image = bytearray()
            async for event in client.generate(running):
                if isinstance(event, Accepted):
                    process.send_signal(signal.SIGTERM)
                if isinstance(event, Progress) and event.step == 60:
                    with pytest.raises(errors.NodeDownError, match="draining"):
                        await image_of(
                            client,
                            GenerateRequest(
                                request_id="r2", model_id="tiny", prompt="a", num_steps=1
                            ),
                        )
                if isinstance(event, ImageChunk):
                    image += event.data
            return Image.open(io.BytesIO(image)).size

    with serving(write_config(tmp_path, model_root, "tiny")) as (process, address):
        assert asyncio.run(scenario(process, address)) == (64, 64)
        assert process.wait(timeout=30) == 0


def test_sigterm_under_load_answers_every_request(model_root, tmp_path):
    def asked(index: int) -> GenerateRequest:
        return GenerateRequest(request_id=f"r{index}", model_id="tiny", prompt="a", num_steps=3)

    async def scenario(process, address):
        async with EdgeNodeClient(address, deadline_s=60) as client:
            await client.load_model("tiny")
            early = [asyncio.create_task(image_of(client, asked(i))) for i in range(60)]
            await asyncio.wait(early, return_when=asyncio.FIRST_COMPLETED)
            while (await client.status()).num_active + sum(one.done() for one in early) < 60:
                await asyncio.sleep(0.01)  # some have not arrived yet
            process.send_signal(signal.SIGTERM)
            late = [asyncio.create_task(image_of(client, asked(60 + i))) for i in range(60)]
            return await asyncio.gather(*early, *late, return_exceptions=True)

    with serving(write_config(tmp_path, model_root, "tiny")) as (process, address):
        answers = asyncio.run(scenario(process, address))
        assert process.wait(timeout=60) == 0

    images = [one for one in answers if isinstance(one, np.ndarray)]
    refusals = [one for one in answers if isinstance(one, errors.NodeDownError)]
    # on a busy machine many of the late ones arrive before the signal, and fill the queue
    too_many = [one for one in answers if isinstance(one, errors.OverloadedError)]
    assert len(images) + len(refusals) + len(too_many) == 120
    assert all(isinstance(one, np.ndarray) for one in answers[:60])  # what ran is finished
    assert refusals  # what came later


def test_mistakes_on_the_command_line_are_named(model_root, tmp_path):
    config = write_config(tmp_path, model_root, "tiny")
    config.write_text(config.read_text().replace("capacity_bytes", "capacity_byte"))
    done = ended("--config", str(config))
    assert done.returncode == 2
    assert "unknown key 'cache.capacity_byte'; did you mean 'capacity_bytes'?" in done.stderr

    done = ended("--config", "nobody.toml")
    assert done.returncode == 2
    assert "there is no file nobody.toml; shipped with the program: gpu-" in done.stderr


def test_a_port_in_use_and_a_budget_too_small_end_the_start(model_root, tmp_path):
    config = write_config(tmp_path, model_root, "tiny", capacity_bytes=1000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = ended("--config", str(config), "--address", address)
    assert done.returncode == 2
    assert f"cannot listen on {address}: the port is in use" in done.stderr

    done = ended("--config", str(config), "--role", "cloud")
    assert done.returncode == 1
    assert "ModelTooLargeError: tiny: " in done.stderr
    assert "the budget for models is 1000" in done.stderr


def test_the_help_teaches():
    done = ended("--help")
    assert done.returncode == 0
    for word in ("--cache.capacity-bytes", "--role", "--backhaul.delay-s", "zoo-cloud.toml"):
        assert word in done.stdout
