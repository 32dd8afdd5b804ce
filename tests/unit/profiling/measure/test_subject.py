import io

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from edge_node.config import EngineConfig, ModelConfig
from profiling.measure import sources
from profiling.measure.prompts import Prompt
from profiling.measure.subject import EngineBackend, PipelineBackend

CPU = EngineConfig(device="cpu")
PROMPTS = [
    Prompt("a large red circle at the left on a white background", 7, None),
    Prompt("a small blue ring at the top on a black background", 8, None),
]


@pytest.fixture(params=["", "euler"], ids=["the folder's sampler", "another"])
def model(model_root, request):
    return ModelConfig(
        model_id="tiny", source=f"folder:{model_root / 'tiny'}", scheduler=request.param
    )


def test_a_batch_holds_the_images_that_a_node_would_make(model):
    with EngineBackend(model, CPU) as served:
        served.load()
        singles = [served.generate(prompt, 3) for prompt in PROMPTS]

    together, seconds = PipelineBackend(model, CPU).generate(PROMPTS, 3)

    for single, image in zip(singles, together, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(single.encoded)))
        assert np.abs(pixels.astype(int) - image).max() <= 1
        assert single.generate_s > 0
        assert single.energy_j is None  # a CPU tells none here
    assert np.abs(together[0].astype(int) - together[1]).max() > 2  # two prompts, two images
    assert seconds > 0


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_loading_tells_the_bytes_of_float32_weights(model, runtime):
    with EngineBackend(model, EngineConfig(device="cpu", runtime=runtime)) as served:
        resident_bytes, load_s = served.load()
        assert served.runtime == runtime
        _, evict_s = served.evict()

    files = sources.folder_of(model.source).rglob("*.safetensors")
    num_values = sum(  # the files hold float16
        tensor.numel()
        for file in files
        for name, tensor in load_file(file).items()
        if runtime == "torch" or file.parent.name != "vae" or name.startswith("decoder.")
    )
    assert resident_bytes == pytest.approx(4 * num_values, rel=0.05)
    assert load_s > 0
    assert evict_s > 0
