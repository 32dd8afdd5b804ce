"""Blocks of weights: laid out, filled, installed, read again."""

import json
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import save_file

from edge_node.engine import weight_files
from edge_node.engine.weights import ALIGNMENT_BYTES, CHUNK_BYTES, Weights, blank, copy


class Net(torch.nn.Module):
    """A shared matrix, a channels-last kernel, a number that no file holds."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.config = {"_name_or_path": str(folder)}
        self.first = torch.nn.Linear(3, 3, bias=False)
        self.second = torch.nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        kernel = torch.arange(24.0).reshape(2, 3, 2, 2)
        self.kernel = torch.nn.Parameter(kernel.to(memory_format=torch.channels_last))
        self.rest = torch.nn.Parameter(torch.arange(1000.0).half())
        self.register_buffer("count", torch.tensor(7), persistent=False)


class Pipeline:
    """As much of one as Weights looks at."""

    def __init__(self, **parts: object) -> None:
        self.components = parts


def saved(folder: Path, dtype: torch.dtype = torch.float32) -> Net:
    net = Net(folder)
    state = {
        "second.weight": net.first.weight,
        "kernel": net.kernel.to(dtype).contiguous(),
        "rest": net.rest,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.detach() for name, tensor in state.items()}, folder / "x.safetensors")
    return net


def values(net: Net) -> list[torch.Tensor]:
    tensors = (net.first.weight, net.kernel, net.rest, net.count)
    return [tensor.detach().clone() for tensor in tensors]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # small integers in both
def test_what_is_taken_is_read_again_and_installed(tmp_path, dtype):
    net = saved(tmp_path / "unet", dtype)
    before, stride = values(net), net.kernel.stride()
    weights = Weights(Pipeline(unet=net, tokenizer=object()))
    # 9 + 24 floats, 1000 halves, an int64; each rounded up to 64 bytes
    assert weights.num_bytes == 64 + 128 + 2048 + 64

    weights.take(weights.home)
    assert weights.is_readable  # the count, 8 of 2304 bytes, is kept in memory
    weights.install(weights.home)
    assert same(values(net), before)
    assert net.kernel.stride() == stride
    assert net.first.weight is net.second.weight
    assert all(t.data_ptr() % ALIGNMENT_BYTES == 0 for t in (net.first.weight, net.rest))
    weights.install(None)
    assert net.rest.numel() == net.count.numel() == 0
    other = blank(weights.num_bytes)
    weights.read(other)
    weights.install(other)
    assert same(values(net), before)


def test_files_with_other_values_are_not_read_again(tmp_path):
    net = saved(tmp_path / "unet")
    with torch.no_grad():
        net.rest += 1
    weights = Weights(Pipeline(unet=net))
    weights.take(weights.home)
    assert not weights.is_readable


def test_files_of_another_shape_or_without_a_tensor_are_refused(tmp_path):
    net = saved(tmp_path / "unet")
    weights = Weights(Pipeline(unet=net))
    weights.take(weights.home)
    state = {"second.weight": torch.zeros(3, 3), "kernel": torch.zeros(2, 3, 2, 2)}
    save_file(state | {"rest": torch.zeros(10)}, tmp_path / "unet" / "x.safetensors")
    with pytest.raises(ValueError, match=r"unet.rest: \(1000,\) expected, \(10,\) found"):
        weights.read(weights.home)
    save_file(state, tmp_path / "unet" / "x.safetensors")
    with pytest.raises(ValueError, match=r"its files lack unet.rest"):
        weights.read(weights.home)


def test_a_file_that_ends_too_early_is_named(tmp_path):
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(100)}, file)
    (one,) = weight_files.stored(tmp_path).values()
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(OSError, match=r"x.safetensors ends 8 bytes too early"):
        weight_files.read([(one, torch.empty(100))])


def test_a_variant_is_read_where_it_is_asked_for(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    save_file({"b": torch.zeros(1)}, tmp_path / "model.fp16.safetensors")
    assert weight_files.stored(tmp_path, "fp16").keys() == {"b"}


def test_the_header_is_the_formats(tmp_path):
    save_file({"a": torch.zeros(2, 3), "b": torch.zeros(4).half()}, tmp_path / "x.safetensors")
    raw = (tmp_path / "x.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    found = weight_files.stored(tmp_path)
    assert {name: (one.dtype, one.shape) for name, one in found.items()} == {
        "a": (torch.float32, (2, 3)),
        "b": (torch.float16, (4,)),
    }
    first = 8 + int.from_bytes(raw[:8], "little")
    assert found["b"].begin == first + header["b"]["data_offsets"][0]


def test_a_block_is_copied_over_chunk_borders():
    source = torch.randint(0, 255, (CHUNK_BYTES + 5,), dtype=torch.uint8)
    target = blank(len(source))
    copy(source, target)
    assert torch.equal(source, target)


def test_a_dropped_block_goes_back_to_the_system():
    process, size = psutil.Process(), 64 * 2**20
    before = process.memory_info().rss
    block = blank(size).fill_(1)
    view = block[:10]
    del block
    assert process.memory_info().rss - before > 0.95 * size
    del view
    assert process.memory_info().rss - before < 0.05 * size
