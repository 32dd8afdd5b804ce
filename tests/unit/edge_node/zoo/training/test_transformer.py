"""What the transformer's distillation promises: its target is guided, padding says nothing."""

import pytest
import torch

from edge_node.zoo import text
from edge_node.zoo.training import denoiser, transformer
from edge_node.zoo.worlds.builtin import PLAIN

WORDS = text.tokenizer(PLAIN)
CAPTION = "a red circle left of a blue square on a white background"


@pytest.fixture(scope="module")
def net():
    teacher = denoiser.build(PLAIN, (32, 32), 64)
    return transformer.GuidanceDistillation(
        transformer.build(PLAIN), transformer.text_encoder(PLAIN), teacher, text.encoder(PLAIN)
    )


@pytest.fixture(scope="module")
def latents():
    return torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(1))


def loss_of(net, latents, ids):
    times, noise = torch.tensor([999, 499, 19]), latents.flip(0)
    return net(latents, ids, text.token_ids(WORDS, [""]), times, noise)


def test_only_the_student_learns(net, latents):
    loss_of(net, latents, text.token_ids(WORDS, [CAPTION] * 3)).backward()

    learns = (net.transformer, net.encoder)
    assert all(p.grad is not None for part in learns for p in part.parameters())
    frozen = (net.teacher, net.teacher_encoder)
    assert all(p.grad is None for part in frozen for p in part.parameters())


def test_the_loss_is_nothing_for_a_student_that_answers_as_its_guided_teacher(net, latents):
    alpha_bar = denoiser.scheduler().alphas_cumprod[[999, 499, 19]][:, None, None, None]
    noisy = alpha_bar.sqrt() * latents + (1 - alpha_bar).sqrt() * latents.flip(0)
    times = torch.tensor([999, 499, 19])

    def answer(asked, **_):
        told, free = (
            net.teacher(asked, times, net.teacher_encoder(input_ids=ids).last_hidden_state).sample
            for ids in (text.token_ids(WORDS, [CAPTION] * 3), text.token_ids(WORDS, [""] * 3))
        )
        assert torch.allclose(asked, noisy, atol=1e-6)
        return type("Out", (), {"sample": free + 3.0 * (told - free)})

    student, net.transformer.forward = net.transformer.forward, answer
    try:
        with torch.no_grad():
            assert loss_of(net, latents, text.token_ids(WORDS, [CAPTION] * 3)) < 1e-9
    finally:
        net.transformer.forward = student


def test_a_caption_means_the_same_with_more_padding(net):
    ids = text.token_ids(WORDS, [CAPTION])
    longer = torch.nn.functional.pad(ids, (0, 104))  # to the 120 that PixArt's pipeline pads to
    latent, time = torch.randn(1, 8, 8, 8), torch.tensor([500])

    with torch.no_grad():
        short, long = (
            net.transformer(
                latent,
                encoder_hidden_states=net.encoder(
                    input_ids=own, attention_mask=own != 0
                ).last_hidden_state,
                encoder_attention_mask=own != 0,
                timestep=time,
            ).sample
            for own in (ids, longer)
        )

    assert torch.allclose(short, long, atol=1e-5)
