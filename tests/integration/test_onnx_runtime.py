"""Denoisers and decoders in ONNX Runtime: one block of memory, and exports that go wrong."""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from edge_node.catalog import Catalog, Entry
from edge_node.config import EngineConfig, ModelConfig
from edge_node.engine import families
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.engine.interface import image_of
from edge_node.engine.onnx_runtime.nets import OnnxNet
from edge_node.engine.onnx_runtime.store import GraphStore
from tests.fakes import job

STEPS = 6
pytestmark = pytest.mark.timeout(300)  # an export takes seconds, on a busy machine a minute


@pytest.fixture
def entry(own_model_root):
    models = [ModelConfig(model_id="tiny", source="folder:tiny")]
    return Catalog(models, [own_model_root]).get("tiny")


@pytest.fixture
def torch_image(entry):
    """What torch draws."""

    async def scenario(engine):
        return await drawn(engine, entry)

    return run(scenario, EngineConfig(runtime="torch", max_batch_size=8))


def run(scenario, config: EngineConfig):
    async def whole():
        engine = DiffusersEngine(config)
        try:
            return await scenario(engine)
        finally:
            await engine.close()

    return asyncio.run(whole())


def config(folder: Path) -> EngineConfig:
    return EngineConfig(graph_folder=str(folder), max_batch_size=8)


async def drawn(engine: DiffusersEngine, entry: Entry) -> np.ndarray:
    await engine.load(entry)
    return (await image_of(engine, job(model_id=entry.model_id, num_steps=STEPS))).pixels


def runtime(engine: DiffusersEngine) -> str:
    return engine._models["tiny"].family.runtime


def nets(engine: DiffusersEngine, model_id: str) -> list[OnnxNet]:
    parts = engine._models[model_id].family.pipeline.components.values()
    return [part for part in parts if isinstance(part, OnnxNet)]


def is_alike(image: np.ndarray, other: np.ndarray) -> bool:
    difference = np.abs(image.astype(int) - other)
    return difference.max() <= 1 and (difference > 0).mean() < 0.01


def kept(folder: Path) -> list[Path]:
    """The complete graphs in a folder, and that nothing else stayed there."""
    assert not list(folder.glob("partial-*"))
    return sorted(folder.glob("*/*/graph.json"))


def test_it_computes_with_the_models_own_block_which_may_come_and_go():
    """A session copies no weights, and lives on while its block is empty."""
    models = Catalog([ModelConfig(model_id="tiny", source="builtin:scene-base")])
    entry = models.get("tiny")
    process = psutil.Process()

    async def scenario(engine):
        first = await drawn(engine, entry)
        num_bytes = await engine.load(entry)
        (denoiser, decoder) = sorted(nets(engine, "tiny"), key=lambda net: -len(net.graph.weights))
        sessions = [denoiser._session, decoder._session]
        assert None not in sessions
        weights_bytes = sum(
            buffer.nbytes for net in (denoiser, decoder) for buffer in net.buffers()
        )
        assert weights_bytes > 0.8 * num_bytes

        resident = process.memory_info().rss
        await engine.evict("tiny")
        freed_bytes = resident - process.memory_info().rss
        assert denoiser.get_buffer("w0").numel() == 0
        again = await drawn(engine, entry)
        await engine.evict("tiny")
        await engine.stage(entry)  # then from the host's copy
        third = await drawn(engine, entry)
        assert [denoiser._session, decoder._session] == sessions
        return num_bytes, freed_bytes, first, again, third

    num_bytes, freed_bytes, first, again, third = run(scenario, EngineConfig(max_batch_size=8))
    assert freed_bytes > 0.9 * num_bytes
    assert np.array_equal(first, again)
    assert np.array_equal(first, third)


def test_a_session_takes_a_fraction_of_its_weights_beside_them():
    """Weights are neither copied nor packed: what a session takes is its graph."""
    models = Catalog([ModelConfig(model_id="tiny", source="builtin:scene-base")])
    process = psutil.Process()

    async def scenario(engine):
        await drawn(engine, models.get("tiny"))
        (denoiser, _) = sorted(nets(engine, "tiny"), key=lambda net: -len(net.graph.weights))
        weights_bytes = sum(buffer.nbytes for buffer in denoiser.buffers())
        before = process.memory_info().rss
        others = [denoiser._opened() for _ in range(4)]
        return (process.memory_info().rss - before) / len(others) / weights_bytes

    assert run(scenario, EngineConfig(max_batch_size=8)) < 0.4


@pytest.fixture(scope="module")
def source(model_root):
    """Of the denoiser of "tiny"."""
    entry = Catalog([ModelConfig(model_id="tiny", source="folder:tiny")], [model_root]).get("tiny")
    family = families.adapt(families.load(entry, torch.float32, "cpu"))
    with torch.inference_mode():
        return family.sources(job(model_id="tiny", guidance_scale=1.0), "")["unet"]


def test_a_graph_is_exported_once_and_again_where_it_is_damaged_or_stale(source, tmp_path, caplog):
    caplog.set_level("INFO")

    async def scenario():
        store, other = GraphStore(tmp_path), GraphStore(tmp_path)
        graph = await store.graph("tiny", source)
        (record,) = kept(tmp_path)
        written_ns = record.stat().st_mtime_ns
        assert await other.graph("tiny", source) == graph
        assert record.stat().st_mtime_ns == written_ns
        assert caplog.text.count("exporting its") == 1

        content = bytearray(graph.weights_file.read_bytes())
        content[len(content) // 2] ^= 1
        graph.weights_file.write_bytes(content)
        assert await store.graph("tiny", source) == graph
        assert record.stat().st_mtime_ns > written_ns
        assert "exporting its UNet2DConditionModel again" in caplog.text
        assert "is damaged: its files are not what graph.json says" in caplog.text

        net, _, _ = graph.folder.name.partition("-")
        stale = graph.folder.rename(graph.folder.with_name(f"{net}-other-versions"))
        others = graph.folder.with_name("another-net's")
        others.mkdir()
        assert await store.graph("tiny", source) == graph
        assert kept(tmp_path) == [record]
        assert not stale.exists()
        assert others.exists()
        store.close()

    asyncio.run(scenario())


def test_two_nodes_that_export_the_same_end_with_one_graph(source, tmp_path, caplog):
    caplog.set_level("INFO")

    async def scenario():
        stores = [GraphStore(tmp_path) for _ in range(2)]
        graphs = await asyncio.gather(*(store.graph("tiny", source) for store in stores))
        for store in stores:
            store.close()
        return graphs

    first, second = asyncio.run(scenario())
    assert first == second
    assert first is not None
    assert len(kept(tmp_path)) == 1
    assert caplog.text.count("exporting its UNet2DConditionModel, once") == 2  # both began


async def exporting(*, after: Sequence[int] = ()) -> psutil.Process:
    """Return the process that exports, once there is one besides those (by id).

    The store waits for what was killed; a test that did so too would take its exit status away.
    """
    while True:
        for child in psutil.Process().children():
            with contextlib.suppress(psutil.NoSuchProcess):
                exports = "edge_node.engine.onnx_runtime.export" in child.cmdline()
                if exports and child.pid not in after:
                    return child
        await asyncio.sleep(0.01)


def test_an_export_that_is_killed_leaves_torch_and_no_file(entry, torch_image, tmp_path, caplog):
    folder = tmp_path / "graphs"

    async def scenario(engine):
        loading = asyncio.create_task(drawn(engine, entry))
        killed: list[int] = []
        for _ in range(2):  # the denoiser's export, then the decoder's
            killed.append((await exporting(after=killed)).pid)
            os.kill(killed[-1], signal.SIGKILL)
        image = await loading
        assert runtime(engine) == "torch"
        await engine.evict("tiny")
        await engine.load(entry)  # not tried again
        return image

    with caplog.at_level("WARNING"):
        image = run(scenario, config(folder))
    assert is_alike(image, torch_image)
    assert not kept(folder)
    said = [line for line in caplog.messages if "runs in torch, not in ONNX Runtime" in line]
    assert len(said) == 2
    assert "by signal 9" in said[0]


def test_a_disk_without_room_leaves_torch_and_no_file(entry, torch_image, tmp_path, caplog):
    folder = tmp_path / "graphs"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def scenario(engine):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limits[1]))  # of the exporting process
        try:
            return await drawn(engine, entry)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    with caplog.at_level("WARNING"):
        image = run(scenario, config(folder))
    assert is_alike(image, torch_image)
    assert not kept(folder)
    assert "runs in torch, not in ONNX Runtime" in caplog.text


def test_a_folder_that_cannot_be_written_leaves_torch(entry, torch_image, tmp_path, caplog):
    (tmp_path / "graphs").write_text("a file")

    async def scenario(engine):
        return await drawn(engine, entry)

    with caplog.at_level("WARNING"):
        image = run(scenario, config(tmp_path / "graphs"))
    assert is_alike(image, torch_image)
    assert "runs in torch, not in ONNX Runtime" in caplog.text


def test_a_load_that_is_cancelled_while_it_exports_leaves_nothing(entry, tmp_path):
    folder = tmp_path / "graphs"

    async def scenario(engine):
        loading = asyncio.create_task(engine.load(entry))
        process = await exporting()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
        assert not process.is_running()
        assert not kept(folder)
        assert not engine._models
        image = await drawn(engine, entry)
        assert runtime(engine) == "onnxruntime"
        return image

    run(scenario, config(folder))
    assert len(kept(folder)) == 2


def test_other_models_take_their_steps_while_one_is_exported(entry, tmp_path):
    other = Catalog([ModelConfig(model_id="other", source="builtin:scene-nano")]).get("other")

    async def scenario(engine):
        await engine.load(other)
        loading = asyncio.create_task(engine.load(entry))
        await exporting()
        num_images = 0
        while not loading.done():
            await image_of(engine, job(num_images, "other", num_steps=4))
            num_images += 1
        await loading
        return num_images

    assert run(scenario, config(tmp_path / "graphs")) > 3


@pytest.mark.parametrize("changes", [{"dtype": "bfloat16"}, {"is_compiled": True}])
def test_what_onnx_runtime_is_not_for_is_refused_and_runs_in_torch_by_itself(changes):
    with pytest.raises(ValueError, match=r'engine.runtime "onnxruntime" is for a CPU with float32'):
        DiffusersEngine(EngineConfig(device="cpu", runtime="onnxruntime", **changes))
    assert DiffusersEngine(EngineConfig(device="cpu", **changes))._graphs is None


def test_the_zoo_is_drawn_by_both_runtimes_alike():
    models = Catalog([ModelConfig(model_id="tiny", source="builtin:scene-turbo")])

    async def scenario(engine):
        return await drawn(engine, models.get("tiny"))

    images = [run(scenario, EngineConfig(runtime=name)) for name in ("torch", "onnxruntime")]
    assert is_alike(*images)
