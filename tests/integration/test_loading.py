"""Loading models on a real engine: beside others, from host copies, from damaged folders."""

import asyncio
import errno
import json
import mmap
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog, Entry
from edge_node.config import CacheConfig, EngineConfig, ModelConfig
from edge_node.engine import families, loader, weights
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import Job, image_of
from protos.errors import ModelLoadError, OverloadedError
from tests.fakes import job

UNET = Path("unet", "diffusion_pytorch_model.safetensors")
TEXT = Path("text_encoder", "model.safetensors")


def catalog(root: Path) -> Catalog:
    models = [ModelConfig(model_id=name, source=f"folder:{name}") for name in ("tiny", "small")]
    return Catalog(models, [root])


def run(scenario, dtype: str = "float32", runtime: str = "auto"):
    async def whole():
        config = EngineConfig(device="cpu", dtype=dtype, max_batch_size=8, runtime=runtime)
        engine = DiffusersEngine(config)
        try:
            return await scenario(engine)
        finally:
            await engine.close()

    return asyncio.run(whole())


async def pixels(engine: DiffusersEngine, one: Job) -> np.ndarray:
    return (await image_of(engine, one)).pixels


def tensors(pipeline) -> dict[str, torch.Tensor]:
    nets = {k: v for k, v in pipeline.components.items() if isinstance(v, torch.nn.Module)}
    return {
        f"{part}.{name}": tensor
        for part, net in nets.items()
        for name, tensor in (*net.named_parameters(), *net.named_buffers())
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_load_gives_the_weights_that_diffusers_reads_and_counts_their_bytes(
    model_root, dtype
):
    entry = catalog(model_root).get("tiny")
    expected = tensors(families.load(entry, getattr(torch, dtype), "cpu"))

    async def scenario(engine):
        async def loaded():
            num_bytes = await engine.load(entry)
            found = tensors(engine._models["tiny"].family.pipeline)
            assert found.keys() == expected.keys()
            for name, tensor in expected.items():
                assert torch.equal(found[name], tensor), name
            await engine.evict("tiny")
            assert all(tensor.numel() == 0 for tensor in found.values())
            return num_bytes

        sizes = [await loaded(), await loaded()]  # as built, then from the files
        sizes += [await engine.stage(entry), await loaded()]  # then from the host copy
        return sizes

    sizes = run(scenario, dtype, "torch")
    num_bytes = sum(tensor.nbytes for tensor in expected.values())
    assert len(set(sizes)) == 1
    assert num_bytes <= sizes[0] < num_bytes + 64 * len(expected)  # alignment


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_images_do_not_depend_on_what_loads_meanwhile(model_root, dtype):
    models = catalog(model_root)

    async def scenario(engine):
        await engine.load(models.get("tiny"))
        alone = [await pixels(engine, job(seed, num_steps=6)) for seed in range(4)]
        num_loads, is_done = 0, False

        async def load_in_a_loop():
            nonlocal num_loads
            while not is_done:
                if num_loads % 3 == 2:
                    await engine.stage(models.get("small"))
                await engine.load(models.get("small"))
                await engine.evict("small")
                await engine.unstage("small")
                num_loads += 1
                engine._loader._shelf.pop("small")  # so that it is built anew, too

        loading = asyncio.create_task(load_in_a_loop())
        beside = []
        while num_loads < 4:
            beside.append(await pixels(engine, job(len(beside) % 4, num_steps=6)))
        is_done = True
        await loading
        return alone, beside

    alone, beside = run(scenario, dtype)
    for index, image in enumerate(beside):
        assert np.array_equal(image, alone[index % 4]), index


def test_a_load_from_the_host_copy_does_not_touch_the_disk(own_model_root):
    models = catalog(own_model_root)

    async def scenario(engine):
        cache = ModelCache(
            CacheConfig(capacity_bytes=10**9, host_capacity_bytes=10**9), models, engine
        )
        await cache.set_cache(["tiny"])
        before = await pixels(engine, job(num_steps=6))
        await cache.set_cache(["small"])
        shutil.rmtree(own_model_root)
        await cache.set_cache(["tiny"])
        assert np.array_equal(await pixels(engine, job(num_steps=6)), before)
        assert cache.host.used_bytes == sum(i.resident_bytes for i in cache.infos())

    run(scenario)


def test_weights_that_changed_on_the_disk_are_built_anew(own_model_root):
    models = catalog(own_model_root)

    async def scenario(engine):
        await engine.load(models.get("tiny"))
        before = await pixels(engine, job(num_steps=6))
        await engine.load(models.get("small"))
        other = await pixels(engine, job(model_id="small", num_steps=6))
        await engine.evict("tiny")
        shutil.rmtree(own_model_root / "tiny")
        shutil.copytree(own_model_root / "small", own_model_root / "tiny")
        await engine.load(models.get("tiny"))
        after = await pixels(engine, job(num_steps=6))
        assert np.array_equal(after, other)
        assert not np.array_equal(after, before)

    run(scenario)


def truncate(folder: Path) -> None:
    (folder / UNET).write_bytes((folder / UNET).read_bytes()[:-64])


def mislabel(folder: Path) -> None:
    other = "small" if folder.name == "tiny" else "tiny"
    shutil.copy(folder.parent / other / UNET, folder / UNET)


def lose_a_tensor(folder: Path) -> None:
    held = load_file(folder / TEXT)
    held.pop(next(name for name in held if name.endswith("final_layer_norm.weight")))
    save_file(held, folder / TEXT, {"format": "pt"})


def rename_the_family(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "KandinskyPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))


def keep_only_pickles(folder: Path) -> None:
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "message", "is_only_when_built"),
    [
        (truncate, "bytes expected", False),
        (mislabel, "expected shape", False),
        (lose_a_tensor, r"lack text_encoder\..*final_layer_norm.weight", False),
        (keep_only_pickles, "only pickles", False),
        (rename_the_family, "'small'", True),
    ],
)
@pytest.mark.parametrize("was_loaded", [False, True])
def test_a_damaged_folder_is_refused_and_nothing_changes(
    own_model_root, damage, message, is_only_when_built, was_loaded
):
    models = catalog(own_model_root)

    async def scenario(engine):
        cache = ModelCache(CacheConfig(capacity_bytes=10**9), models, engine)
        await cache.load("tiny")
        before = await pixels(engine, job(num_steps=6))
        if was_loaded:
            await cache.load("small")
            await cache.evict("small")
        used_bytes = cache.used_bytes
        damage(own_model_root / "small")
        if was_loaded and is_only_when_built:
            await cache.load("small")  # its nets are those of the folder as it was
            return
        for attempt in (cache.load("small"), cache.set_cache(["small"]), engine.stage(small)):
            with pytest.raises(ModelLoadError, match=message):
                await attempt
        assert cache.resident == ("tiny",)
        assert cache.used_bytes == used_bytes
        assert np.array_equal(await pixels(engine, job(num_steps=6)), before)

    small: Entry = models.get("small")
    run(scenario)


@pytest.mark.parametrize("num_before", [0, 1], ids=["host copy", "device copy"])
def test_memory_that_runs_out_in_a_load_is_told_and_nothing_changes(
    model_root, monkeypatch, num_before
):
    models = catalog(model_root)
    real, num_left = mmap.mmap, 10**9

    def limited(*args, **kwargs):
        nonlocal num_left
        num_left -= 1
        if num_left < 0:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(*args, **kwargs)

    monkeypatch.setattr(mmap, "mmap", limited)

    async def scenario(engine):
        nonlocal num_left
        budget = CacheConfig(capacity_bytes=10**9, host_capacity_bytes=10**9)
        cache = ModelCache(budget, models, engine)
        await cache.load("tiny")
        before = await pixels(engine, job(num_steps=6))
        num_left = num_before
        with pytest.raises(OverloadedError, match=r"no memory left to load 'small': \d+ bytes"):
            await cache.load("small")
        num_left = 10**9
        assert cache.resident == ("tiny",)
        assert set(engine._loader._staged) == {"tiny", *(["small"] if num_before else [])}
        assert np.array_equal(await pixels(engine, job(num_steps=6)), before)
        await cache.load("small")
        assert (await pixels(engine, job(model_id="small", num_steps=6))).shape == (64, 64, 3)

    run(scenario)


def test_a_load_that_is_cancelled_at_any_moment_leaves_the_books_right(model_root):
    models = catalog(model_root)

    async def scenario(engine):
        cache = ModelCache(
            CacheConfig(capacity_bytes=10**9, host_capacity_bytes=10**9), models, engine
        )
        await cache.load("tiny")
        for delay_s in (0, 0.001, 0.003, 0.006, 0.01, 0.03, 0.1):
            task = asyncio.create_task(cache.load("small"))
            await asyncio.sleep(delay_s)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert set(cache.resident) == set(engine._models)
            assert cache.host.used_bytes == sum(map(len, engine._loader._staged.values()))
            if "small" in cache.resident:
                await cache.evict("small")
        await cache.load("small")
        assert (await pixels(engine, job(model_id="small", num_steps=6))).shape == (64, 64, 3)

    run(scenario)


@pytest.mark.parametrize("way", ["disk", "host"])
def test_a_load_that_is_cancelled_gives_its_pages_back(model_root, monkeypatch, way):
    """Its block has one address for good, so nobody else would."""
    entry = catalog(model_root).get("small")
    filled, is_cancelled = threading.Event(), threading.Event()

    def slowly(function):
        def called(*args):
            answer = function(*args)
            filled.set()
            is_cancelled.wait()
            return answer

        return called

    async def scenario(engine):
        await engine.load(entry)
        await engine.evict("small")
        if way == "host":
            await engine.stage(entry)
        home = engine._loader._shelf["small"].weights.home
        target = (loader, "copy") if way == "host" else (weights, "read")
        monkeypatch.setattr(*target, slowly(getattr(*target)))
        loading = asyncio.create_task(engine.load(entry))
        await asyncio.to_thread(filled.wait)
        loading.cancel()
        is_cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await loading
        return bool(home.any())

    assert not run(scenario)
