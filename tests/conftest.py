"""What all tests share: the gpu marker's skip, Hypothesis' profile, real diffusers folders."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from diffusers.utils import logging as diffusers_logging

hypothesis.settings.register_profile("here", deadline=None, max_examples=50)
hypothesis.settings.load_profile("here")
diffusers_logging.set_verbosity_error()
logging.getLogger("httpx").setLevel(logging.WARNING)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip gpu tests where there is no CUDA device; -ra lists them."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture(scope="session", autouse=True)
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of exported denoisers: of this session, and of the processes that it starts."""
    from edge_node.engine.onnx_runtime.store import default_folder

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield default_folder()


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two untrained denoisers, "tiny" and "small": real Stable Diffusion folders.

    The autoencoder is the zoo's: an untrained one may draw everything black, and all alike.
    """
    from diffusers import AutoencoderTiny

    from edge_node.catalog import ZOO
    from edge_node.zoo import text
    from edge_node.zoo.training import denoiser
    from edge_node.zoo.worlds.builtin import PLAIN

    root = tmp_path_factory.mktemp("models")
    vae = AutoencoderTiny.from_pretrained(ZOO / "autoencoder")
    for name, channels in {"tiny": (32, 32), "small": (32, 64)}.items():
        unet = denoiser.build(PLAIN, channels, 64)
        denoiser.export(unet, text.encoder(PLAIN), vae, PLAIN, root / name)
    return root


@pytest.fixture
def own_model_root(model_root: Path, tmp_path: Path) -> Path:
    """A copy of ``model_root`` that a test may damage."""
    return Path(shutil.copytree(model_root, tmp_path / "models"))
