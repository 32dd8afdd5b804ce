"""A family of diffusion models without nets: answers at once, and remembers what it was asked."""

from collections.abc import Callable, Sequence

import torch
from diffusers import DDIMScheduler

from edge_node.engine.denoising import Model

SHAPE = (2, 4, 4)
"""Of a latent."""


class FakeFamily:
    """Rows do not mix: what it answers for one does not depend on who shares the call.

    ``before`` is called with each call's name and what it holds, and may raise.
    """

    guides_itself = False

    class pipeline:  # noqa: N801 - diffusers' own word
        """What a sampler's table is made from."""

        scheduler = DDIMScheduler(clip_sample=False)

    def __init__(
        self, before: Callable[[str, Sequence], object] = lambda *_: None, device: str = "cpu"
    ) -> None:
        self.before = before
        self.device = device
        self.conditions_seen: list[torch.Tensor] = []

    def encode(self, texts):
        self.before("encode", list(texts))
        codes = torch.empty(len(texts), 1, device=self.device)
        for code, text in zip(codes, texts, strict=True):
            code.fill_(sum(map(ord, text)) % 97)
        return [{"encoder_hidden_states": code} for code in codes.split(1)]

    def conditions(self, _job, encoded):
        return list(encoded)

    def latent_shape(self, _job):
        return SHAPE

    def denoise(self, latents, timesteps, conditions):
        self.before("denoise", latents)
        self.conditions_seen.append(conditions["encoder_hidden_states"])
        code = conditions["encoder_hidden_states"].view(-1, 1, 1, 1)
        time = timesteps.view(-1, 1, 1, 1)
        return torch.tanh(0.8 * latents.roll(1, dims=1) + time / 1000 + code / 97) * 0.9

    def decode(self, latents):
        self.before("decode", latents)
        grey = ((latents[:, :1].clamp(-1, 1) + 1) * 127).round().byte()
        return grey.movedim(1, -1).expand(-1, -1, -1, 3)


def fake_model(family: FakeFamily) -> Model:
    return Model(family, "ddim")
