"""What a style's autoencoder promises: the shared latents stay what they are."""

import torch
from diffusers import AutoencoderTiny

from edge_node.catalog import ZOO
from edge_node.zoo import autoencoder, scenes
from protos.seeds import stream


def test_restyling_trains_a_copy_and_leaves_the_shared_encoder():
    shared = autoencoder.build()
    net = autoencoder.Restyling(shared)

    autoencoder.style_loss_at("neon")(net, stream(1, "test")).backward()

    assert all(p.grad is not None for p in net.net.parameters())
    assert all(p.grad is None for p in net.shared.parameters())


def test_a_style_says_the_same_of_its_image_as_the_shared_autoencoder_of_the_plain_one():
    shared = AutoencoderTiny.from_pretrained(ZOO / "autoencoder", dtype=torch.float32)
    styled = AutoencoderTiny.from_pretrained(ZOO / "scene-neon" / "vae", dtype=torch.float32)
    drawn = scenes.draw(stream(2, "test"), 50, "held-out")
    plain, neon = (
        autoencoder.to_tensor(scenes.render(drawn, stream(3, "test"), style=style))
        for style in ("plain", "neon")
    )

    with torch.no_grad():
        ours, theirs = shared.encode(plain).latents, styled.encode(neon).latents
        before = shared.encode(neon).latents

    assert (theirs - ours).square().mean() < 0.1 * ours.var()
    assert (before - ours).square().mean() > 0.3 * ours.var()
