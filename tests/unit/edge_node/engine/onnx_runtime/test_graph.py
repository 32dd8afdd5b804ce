"""What a graph depends on, and when its files can be used."""

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from edge_node.engine.onnx_runtime import graph as graphs
from edge_node.engine.onnx_runtime.graph import Graph, Input, Source


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "unet"
    folder.mkdir()
    save_file({"a": torch.zeros(3)}, folder / "x.safetensors")
    (folder / "config.json").write_text("{}")
    hidden = Input(name="encoder_hidden_states", shape=(16, 8), dtype="float32", is_added=False)
    return Source(folder=str(folder), net="Net", variant="", latent=(4, 8, 16), inputs=(hidden,))


def changed(source: Source, **fields) -> Source:
    return msgspec.structs.replace(source, **fields)


def test_other_weights_are_another_first_key(source, tmp_path):
    weights, rest = source.keys()
    save_file({"a": torch.ones(3)}, tmp_path / "unet" / "x.safetensors")
    other_weights, other_rest = source.keys()
    assert other_weights != weights
    assert other_rest == rest


def test_anything_else_that_a_graph_depends_on_is_another_second_key(source, tmp_path, monkeypatch):
    keys = [source.keys()]
    keys.append(changed(source, net="Other").keys())
    keys.append(changed(source, is_decoder=True).keys())
    keys.append(changed(source, inputs=()).keys())
    keys.append(changed(source, latent=(4, 8, 12)).keys())  # no multiple of 8: sizes are told
    (tmp_path / "unet" / "config.json").write_text('{"a": 1}')
    keys.append(source.keys())
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "_cpu_flags", lambda: "another CPU")
        keys.append(source.keys())
    monkeypatch.setattr(graphs.importlib.metadata, "version", lambda name: f"{name} of tomorrow")
    keys.append(source.keys())
    assert len({weights for weights, _ in keys}) == 1
    assert len({rest for _, rest in keys}) == len(keys)


def test_sizes_share_a_graph(source):
    assert changed(source, latent=(4, 64, 128)).keys() == source.keys()


def test_a_folder_is_a_graph_once_it_is_complete_and_as_long_as_it_is_whole(tmp_path):
    with pytest.raises(FileNotFoundError):
        Graph.opened(tmp_path / "graph")
    folder = tmp_path / "graph"
    folder.mkdir()
    graph = Graph(folder, ("latents",), ("a", "b"))
    graph.graph_file.write_bytes(b"graph")
    graph.weights_file.write_bytes(b"weights")
    with pytest.raises(ValueError, match="damaged"):
        Graph.opened(folder)
    graph.complete()
    assert Graph.opened(folder) == graph
    graph.weights_file.write_bytes(b"weight!")
    with pytest.raises(ValueError, match=r"damaged: its files are not what graph.json says"):
        Graph.opened(folder)
    graph.weights_file.unlink()
    with pytest.raises(ValueError, match="damaged"):
        Graph.opened(folder)
