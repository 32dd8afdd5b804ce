"""All weights of a net in one vector: Adam and the soft update touch it as a whole.

Small nets spend most of an update on the calls, not on the numbers: one vector needs six calls for
Adam and one for the soft update, however many layers there are. Owns the vector and Adam's moments.

    θ  weights (code: vector)     g  gradient        τ  soft update's rate (code: rate)
    m  mean of g                  v  mean of g²      t  updates so far (code: num_updates)

Source: Kingma, Ba 2015 (Adam, algorithm 1), in the order of operations of torch.optim.Adam.
"""

import math
from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn

_Net = TypeVar("_Net", bound=nn.Module)
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def as_vector(net: nn.Module) -> Tensor:
    """Move a net's weights into one vector and return it; the net keeps views of it."""
    parameters = list(net.parameters())
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view_as(parameter)
    return vector


class Adam:
    """Moves one net's weights; ``minimise`` is one update."""

    def __init__(self, net: nn.Module, learning_rate: float) -> None:
        self.vector = as_vector(net)
        self._parameters = list(net.parameters())
        self._learning_rate = learning_rate
        self._mean = torch.zeros_like(self.vector)
        self._square = torch.zeros_like(self.vector)
        self.num_updates = 0

    def minimise(self, loss: Tensor, scale: float = 1.0) -> None:
        """Move the weights one update down a loss; no other net gets a gradient.

        Args:
            loss: scalar.
            scale: of the learning rate.
        """
        gradients = torch.autograd.grad(loss, self._parameters)
        gradient = torch.cat([part.reshape(-1) for part in gradients])
        self.num_updates += 1
        rate = scale * self._learning_rate / (1 - BETA1**self.num_updates)
        root = math.sqrt(1 - BETA2**self.num_updates)
        self._mean.lerp_(gradient, 1 - BETA1)
        self._square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = self._square.sqrt().div_(root).add_(EPS)
        self.vector.addcdiv_(self._mean, spread, value=-rate)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return the weights and Adam's moments under names that begin with ``name``."""
        parts = {"": self.vector, ".mean": self._mean, ".square": self._square}
        return {f"{name}{suffix}": tensor for suffix, tensor in parts.items()}


def slow_copy(net: _Net) -> tuple[_Net, Tensor]:
    """Return a target net, equal to ``net`` for now and without gradients, and its vector."""
    copy = deepcopy(net)
    for parameter in copy.parameters():
        parameter.requires_grad = False
    return copy, as_vector(copy)
