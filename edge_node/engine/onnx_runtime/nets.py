"""Nets that compute in ONNX Runtime, in the place of those of diffusers that they come from."""

from collections.abc import Mapping
from typing import Any

import onnxruntime
import torch
from safetensors.torch import load_file
from torch import Tensor

from edge_node.engine.onnx_runtime.graph import Graph


class OnnxNet(torch.nn.Module):
    """A graph as a net: its weights are its buffers, which may point into any block of memory.

    The session computes with that very memory: it copies and packs no weights, so a model's bytes
    are its block's, and a block whose pages went back to the system may be filled again beneath a
    session. A block at another address costs a new session, some 20 ms of a small model.
    """

    dtype = torch.float32
    device = torch.device("cpu")
    settings: Mapping[str, str] = {
        "session.disable_prepacking": "1",
        "session.force_spinning_stop": "1",  # between calls the cores are for others
    }
    """Of the session, where they differ from ONNX Runtime's own."""

    def __init__(self, graph: Graph, net: Any, num_threads: int) -> None:
        """Take the place of a net, with the weights of the graph's file, mapped.

        Args:
            graph: exported from the net.
            net: whose configuration a pipeline may ask for; not kept.
            num_threads: that compute, the caller's counted.
        """
        super().__init__()
        self.graph = graph
        self.config = net.config
        self._num_threads = num_threads
        self._session: onnxruntime.InferenceSession | None = None
        self._address = 0
        stored = load_file(graph.weights_file)
        for index in range(len(graph.weights)):
            self.register_buffer(f"w{index}", stored[f"w{index}"])

    def run(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the graph's answer to its inputs, by name."""
        address = self.get_buffer("w0").data_ptr()
        if self._session is None or address != self._address:
            self._session, self._address = self._opened(), address
        (out,) = self._session.run(None, {name: inputs[name].numpy() for name in self.graph.inputs})
        return torch.from_numpy(out)

    def _opened(self) -> onnxruntime.InferenceSession:
        """Return a session over the buffers' memory."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False  # what a run frees can be given back (memory.py)
        options.intra_op_num_threads = self._num_threads
        for key, value in self.settings.items():
            options.add_session_config_entry(key, value)
        self._shared = [  # as long as the session: it holds their addresses only
            onnxruntime.OrtValue.ortvalue_from_numpy(buffer.numpy()) for buffer in self.buffers()
        ]
        for name, weight in zip(self.graph.weights, self._shared, strict=True):
            options.add_initializer(name, weight)
        return onnxruntime.InferenceSession(
            str(self.graph.graph_file), options, providers=["CPUExecutionProvider"]
        )


class OnnxDenoiser(OnnxNet):
    """A UNet or a transformer."""

    def __init__(self, graph: Graph, net: Any, num_threads: int) -> None:
        super().__init__(graph, net, num_threads)
        self.use_additional_conditions = getattr(net, "use_additional_conditions", False)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        added_cond_kwargs: Mapping[str, Tensor] | None = None,
        *,
        return_dict: bool = False,  # noqa: ARG002 - as diffusers' nets have it
        **conditions: Tensor,
    ) -> tuple[Tensor]:
        """Return the denoiser's answers [n, ...], as diffusers nets do with return_dict=False."""
        inputs = {"latents": latents, "timesteps": timestep, **conditions}
        return (self.run(inputs | dict(added_cond_kwargs or {})),)


class OnnxDecoder(OnnxNet):
    """The half of an autoencoder that images come from; the other half's weights are not held."""

    def decode(
        self,
        latents: Tensor,
        *,
        return_dict: bool = False,  # noqa: ARG002 - as diffusers' autoencoders have it
    ) -> tuple[Tensor]:
        """Return images [n, 3, height, width], as diffusers does with return_dict=False."""
        return (self.run({"latents": latents}),)
