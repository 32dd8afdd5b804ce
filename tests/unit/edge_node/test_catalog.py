import pickle

import pytest

from edge_node.catalog import Catalog, resolve, weights_digest
from edge_node.config import ModelConfig
from protos.errors import ModelLoadError, UnknownModelError


def entry(root, source="folder:tiny"):
    return Catalog([ModelConfig(model_id="m", source=source)], [root]).get("m")


def test_a_whole_folder_passes(model_root):
    checked = entry(model_root)
    checked.check()
    files = (model_root / "tiny").rglob("*.safetensors")
    assert checked.disk_bytes() == sum(file.stat().st_size for file in files) > 1e6


def test_a_truncated_file_is_named_with_both_sizes(own_model_root):
    file = own_model_root / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1000])
    message = rf"{file.name} is damaged: {len(data)} bytes expected, {len(data) - 1000} found"
    with pytest.raises(ModelLoadError, match=message):
        entry(own_model_root).check()


@pytest.mark.parametrize(
    "data", [b"", b"\x05", b"not safetensors at all", b"\x02" + bytes(7) + b"[]"]
)
def test_what_is_no_safetensors_is_refused(own_model_root, data):
    file = own_model_root / "tiny" / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(data)
    with pytest.raises(ModelLoadError, match=file.name):
        entry(own_model_root).check()


def test_pickled_weights_are_refused_and_never_opened(tmp_path):
    (tmp_path / "m" / "unet").mkdir(parents=True)
    (tmp_path / "m" / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(1))
    with pytest.raises(ModelLoadError, match=r"only pickles .*safetensors are needed"):
        entry(tmp_path, "folder:m").check()


def test_a_missing_folder_is_named(model_root):
    with pytest.raises(ModelLoadError, match=r"model 'm': .*nowhere is not a folder"):
        entry(model_root, f"folder:{model_root}/nowhere").check()


@pytest.mark.parametrize("source", ["folder:/etc", "folder:../outside", "builtin:../../config"])
def test_a_path_outside_the_roots_is_refused(model_root, source):
    with pytest.raises(ValueError, match="lies outside the model roots"):
        resolve(source, [model_root])


def test_a_hub_id_has_no_folder():
    assert resolve("hub:some/model") is None


def test_an_endless_name_is_not_repeated_in_the_message():
    with pytest.raises(UnknownModelError) as caught:
        Catalog([], []).get("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_the_digest_follows_the_weights(own_model_root):
    folder = own_model_root / "tiny"
    before = weights_digest(folder)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert weights_digest(folder) != before
