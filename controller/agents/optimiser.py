"""A net with all its weights in one vector, Adam that moves it, and the target net that follows.

Small nets spend most of an update on the calls, not on the numbers: one vector needs six calls for
Adam and one for the target, however many layers there are. Responsible for the vectors, Adam's
moments and the gradient. Not: what is minimised (losses.py).

    θ  weights (code: vector)     g  gradient        τ  the target's part of the way (code: tau)
    m  mean of g                  v  mean of g²      t  updates so far (code: num_updates)

Source: Kingma, Ba 2015 (Adam, algorithm 1), in the order of operations of torch.optim.Adam; soft
updates of the target: Lillicrap et al. 2016.
"""

import math
from collections.abc import Callable
from copy import deepcopy
from typing import Generic, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

_Net = TypeVar("_Net", bound=nn.Module)
_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


class LearntNet(Generic[_Net]):
    """A net, its target net, which has no gradients, and what Adam remembers of it."""

    def __init__(self, net: _Net, learning_rate: float, tau: float) -> None:
        self.net = net
        self.target = deepcopy(net).requires_grad_(requires_grad=False)
        self.num_updates = 0
        self._vector, self._target_vector = _as_vector(net), _as_vector(self.target)
        self._mean, self._square = (torch.zeros_like(self._vector) for _ in range(2))
        self._learning_rate, self._tau = learning_rate, tau

    def gradient(self, loss: Tensor) -> Tensor:
        """Return a scalar loss's gradient in the order of the vector; no other net gets one."""
        gradients = torch.autograd.grad(loss, tuple(self.net.parameters()))
        return torch.cat([part.reshape(-1) for part in gradients])

    def update(self, gradient: Tensor, scale: float = 1.0) -> None:
        """Move the weights down what ``gradient`` returned, and the target nearer to them.

        ``scale`` is of the learning rate.
        """
        self.num_updates += 1
        rate = scale * self._learning_rate / (1 - BETA1**self.num_updates)
        root = math.sqrt(1 - BETA2**self.num_updates)
        self._mean.lerp_(gradient, 1 - BETA1)
        self._square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        spread = self._square.sqrt().div_(root).add_(EPS)
        self._vector.addcdiv_(self._mean, spread, value=-rate)
        self._target_vector.lerp_(self._vector, self._tau)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Return weights, Adam's moments and the target's weights by name (no copies)."""
        return {
            name: self._vector,
            f"{name}.mean": self._mean,
            f"{name}.square": self._square,
            f"target_{name}": self._target_vector,
        }


def _as_vector(net: nn.Module) -> Tensor:
    """Move a net's weights into one vector and return it; the net keeps views of it."""
    parameters = list(net.parameters())
    vector = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    parts = torch.split(vector, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.data = part.view_as(parameter)
    return vector


def compiled(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Return a function that torch.compile fuses at its first call, gradients in it included.

    Its results are detached: it computes its gradients itself, which torch traces on request only.
    Each set of shapes is compiled anew. Raises torch's errors where there is no C++ compiler.
    """
    fused = torch.compile(function, fullgraph=True, dynamic=False)
    return torch._dynamo.config.patch(trace_autograd_ops=True)(fused)
