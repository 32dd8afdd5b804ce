import math

import pytest
from accelerate import init_empty_weights
from diffusers import DiffusionPipeline

from profiling.bench import shapes, tiny_shapes

# Counted in the published checkpoints.
NUM_PARAMETERS = {
    ("sd15", "unet"): 859_520_964,
    ("sd15", "vae"): 83_653_863,
    ("sd15", "text_encoder"): 123_060_480,
    ("sdxl", "unet"): 2_567_463_684,
    ("sdxl", "text_encoder_2"): 694_659_840,
    ("sd3", "transformer"): 2_028_328_000,
}


@pytest.mark.parametrize(("name", "part"), NUM_PARAMETERS)
def test_a_net_is_as_large_as_the_published_one(name, part):
    (shape,) = (shape for shape in shapes.PUBLISHED if shape.name == name)
    cls, config = shape.nets[part]
    with init_empty_weights(include_buffers=False):
        net = cls(**config) if isinstance(config, dict) else cls(config)

    found = sum(parameter.numel() for parameter in net.parameters())
    assert found == NUM_PARAMETERS[name, part]


def test_a_tiny_family_stands_for_each_published_model():
    assert [shape.name for shape in tiny_shapes.ALL] == [shape.name for shape in shapes.PUBLISHED]
    for tiny, published in zip(tiny_shapes.ALL, shapes.PUBLISHED, strict=True):
        assert tiny.pipeline is published.pipeline
        assert tiny.nets.keys() == published.nets.keys()


def test_weights_are_random_within_what_torch_begins_with_and_the_same_each_time():
    unet = shapes.build(tiny_shapes.TINY_SD15).unet
    again = shapes.build(tiny_shapes.TINY_SD15).unet

    assert (unet.conv_in.weight == again.conv_in.weight).all()
    reach = 1 / math.sqrt(4 * 3 * 3)  # four channels, three by three
    assert 0.9 * reach < unet.conv_in.weight.abs().max() <= reach
    assert unet.conv_in.weight.mean().abs() < 0.1 * reach
    assert (unet.conv_norm_out.weight == 1).all()


@pytest.mark.parametrize("shape", tiny_shapes.ALL, ids=lambda shape: shape.name)
def test_a_folder_is_one_that_diffusers_reads(shape, tmp_path):
    shapes.write(shape, tmp_path)

    pipeline = DiffusionPipeline.from_pretrained(
        tmp_path, **{name: None for name, part in shape.settings.items() if part is None}
    )

    assert type(pipeline) is shape.pipeline
    positions = pipeline.text_encoder.config.max_position_embeddings
    assert pipeline.tokenizer.model_max_length == positions
