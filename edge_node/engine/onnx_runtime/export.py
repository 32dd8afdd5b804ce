"""Exports nets as graphs of ONNX Runtime: a process of its own, which a store asks.

A process of its own, because torch's exporter holds Python's lock for seconds to minutes, takes
several times the net's memory and may run out of it: the node serves on meanwhile, and nothing of
it stays. It reads a ``Request`` a line, answers each with an ``Answer``, and ends when nothing was
asked for ``IDLE_S``. Of two processes that export the same one waits, and finds it there.
"""

import contextlib
import fcntl
import os
import select
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import diffusers
import msgspec
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnx.external_data_helper import set_external_data
from safetensors.numpy import save_file
from torch import Tensor

from edge_node.engine.memory import release
from edge_node.engine.onnx_runtime.graph import DOUBLINGS, Answer, Graph, Request, Source
from edge_node.engine.onnx_runtime.nets import OnnxNet

MOST_ERROR = 1e-3
"""Of the graph's answers, relative to the net's largest."""
_LEAST_BYTES = 256
"""Smaller tensors stay in the graph: shapes and constants, which ONNX Runtime reads itself."""
IDLE_S = 20.0
"""What a node loads at once is exported by one process, whose start takes some seconds."""
_MOST_CHARS = 500
_SMALL = 2 * DOUBLINGS
"""A latent's sides while it is traced and compared, at most, and what they leave over."""
_OTHER = DOUBLINGS
"""Added to a latent's size for shapes that the graph must also take."""


class _Flat(torch.nn.Module):
    """A net that takes its inputs by position."""

    def __init__(self, net: Any, source: Source) -> None:
        super().__init__()
        self._net = net
        self._source = source

    def forward(self, latents: Tensor, *rest: Tensor) -> Tensor:
        if self._source.is_decoder:
            return self._net.decode(latents, return_dict=False)[0]
        timesteps, *conditions = rest
        named = zip(self._source.inputs, conditions, strict=True)
        inputs: dict[str, Any] = {}
        for one, value in named:
            (inputs.setdefault("added_cond_kwargs", {}) if one.is_added else inputs)[one.name] = (
                value
            )
        return self._net(latents, timestep=timesteps, **inputs, return_dict=False)[0]


def export(source: Source, scratch: Path) -> None:
    """Write a graph into the folder "graph" of an empty folder.

    Raises:
        ValueError: its answers are not the net's.
        Exception: whatever torch's exporter and ONNX Runtime raise.
    """
    net = getattr(diffusers, source.net).from_pretrained(
        source.folder, variant=source.variant or None, use_safetensors=True, local_files_only=True
    )
    flat = _Flat(net.eval(), source)
    names = ["latents"]
    if not source.is_decoder:
        names += ["timesteps", *(one.name for one in source.inputs)]
    raw, optimised, final = (scratch / name for name in ("raw", "optimised", "graph"))
    for folder in (raw, optimised, final):
        folder.mkdir()
    _trace(flat, names, _inputs(source, 2, wider=_OTHER), raw / "graph.onnx")
    _drop_squeezes(raw / "graph.onnx")
    _free()
    _optimise(raw / "graph.onnx", optimised / "graph.onnx")
    shutil.rmtree(raw)  # each holds all weights
    _free()
    graph = _split(optimised / "graph.onnx", final, names)
    shutil.rmtree(optimised)
    _free()
    _compare(flat, OnnxNet(graph, net, 1), source, names)
    graph.complete()


def _free() -> None:
    """Give back what a stage held: each holds all weights several times."""
    release(torch.device("cpu"))


@torch.inference_mode()
def _trace(flat: _Flat, names: Sequence[str], inputs: Sequence[Tensor], file: Path) -> None:
    axes: dict[str, dict[int, str]] = {name: {0: "batch"} for name in (*names, "out")}
    axes["latents"] |= {2: "height", 3: "width"}
    with warnings.catch_warnings():
        # What the tracer warns about (shapes as constants) is tested at other shapes afterwards.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            flat,
            tuple(inputs),
            str(file),
            input_names=list(names),
            output_names=["out"],
            dynamic_axes=axes,
            dynamo=False,
        )


def _drop_squeezes(file: Path) -> None:
    """Take out what the tracer makes of ``squeeze``: "if that dimension is 1", which it never is.

    ONNX Runtime refuses a graph that would squeeze another one, also in a branch not taken.
    """
    model = onnx.load(str(file), load_external_data=False)
    for node in model.graph.node:
        branches = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
        kinds = {one.op_type for branch in branches for one in branch.node}
        if node.op_type == "If" and kinds == {"Squeeze", "Identity"}:
            (source,) = (
                one.input[0] for b in branches for one in b.node if one.op_type == "Identity"
            )
            node.CopyFrom(onnx.helper.make_node("Identity", [source], list(node.output)))
    onnx.save(model, str(file))


def _optimise(raw: Path, optimised: Path) -> None:
    """Let ONNX Runtime write the graph that it would run: fused, in its own memory layouts."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns that the graph is for this kind of CPU
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(optimised)
    for key, value in {
        "session.disable_prepacking": "1",
        "session.optimized_model_external_initializers_file_name": "weights.bin",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(_LEAST_BYTES),
    }.items():
        options.add_session_config_entry(key, value)
    onnxruntime.InferenceSession(str(raw), options, providers=["CPUExecutionProvider"])


def _split(optimised: Path, folder: Path, names: Sequence[str]) -> Graph:
    """Write an optimised graph and its weights into a folder, apart."""
    model = onnx.load(str(optimised))
    large = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.raw_data) >= _LEAST_BYTES
    ]
    graph = Graph(folder, tuple(names), tuple(tensor.name for tensor in large))
    weights = {f"w{index}": numpy_helper.to_array(tensor) for index, tensor in enumerate(large)}
    save_file(weights, graph.weights_file)
    for tensor in large:
        # Nobody reads that place: whoever opens the graph says where each tensor is in memory.
        set_external_data(tensor, graph.weights_file.name, offset=0, length=len(tensor.raw_data))
        tensor.ClearField("raw_data")
    onnx.save(model, str(graph.graph_file))
    return graph


def _inputs(source: Source, batch_size: int, *, higher: int = 0, wider: int = 0) -> list[Tensor]:
    """Return random inputs of a batch, its latents so much larger."""
    generator = torch.Generator().manual_seed(batch_size)
    channels, *size = source.latent
    height, width = (min(side, _SMALL + side % DOUBLINGS) for side in size)  # as well, and soon
    shape = (batch_size, channels, height + higher, width + wider)
    drawn = [torch.randn(shape, generator=generator)]
    if not source.is_decoder:
        drawn.append(torch.linspace(1.0, 900.0, batch_size))
    for one in source.inputs:
        value = torch.randn(batch_size, *one.shape, generator=generator)
        drawn.append(value.to(getattr(torch, one.dtype)))
    return drawn


@torch.inference_mode()
def _compare(flat: _Flat, graph: OnnxNet, source: Source, names: Sequence[str]) -> None:
    """Hold the graph against the net, at another batch size and other sizes than were traced."""
    for higher in (0, _OTHER):
        inputs = _inputs(source, 3, higher=higher)
        expected = flat(*inputs)
        found = graph.run(dict(zip(names, inputs, strict=True)))
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error <= MOST_ERROR:
            raise ValueError(f"its answers differ from the net's by {error:.1e} of the largest")


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[None]:
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the system lets go of it when this process ends
        yield


def kept(request: Request) -> None:
    """Export into a folder that appears whole or not at all; nothing where it is there already."""
    folder, scratch = Path(request.folder), Path(request.scratch)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.parent.with_suffix(".lock")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            Graph.opened(folder)
            return
        net, _, _ = folder.name.partition("-")
        for stale in folder.parent.glob(f"{net}-*"):  # damaged, or of another machine's versions
            shutil.rmtree(stale)
        export(request.source, scratch)
        (scratch / "graph").rename(folder)


def main() -> None:
    """Answer requests until there is an error, the end of the input or a time without any."""
    torch.set_num_threads(1)  # the node computes beside it
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what libraries print is no answer
    while select.select([sys.stdin], [], [], IDLE_S)[0]:
        line = sys.stdin.buffer.readline()
        if not line:
            return
        answer = Answer()
        try:
            kept(msgspec.json.decode(line, type=Request))
        except Exception as error:  # noqa: BLE001 - the exporter and both runtimes raise what they like
            answer = Answer(error=f"{type(error).__name__}: {error}"[:_MOST_CHARS] or "unknown")
        answers.write(msgspec.json.encode(answer) + b"\n")
        if answer.error:
            return  # nothing of it stays, as after any end


if __name__ == "__main__":
    main()
