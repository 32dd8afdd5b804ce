"""The requests that share a denoiser call, as tensors that last while nobody comes or goes.

Whoever joins or leaves makes the batch compose itself anew from its requests' own tensors, which
are views of the batch's. In between a step takes the denoiser's call and some ten small operations
in place; what the next one needs is made ready ahead of it (``prepare``). On a GPU nothing here
waits for the device. Called in the device thread only.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from edge_node.engine import samplers
from edge_node.engine.denoising import Trajectory, sent
from edge_node.engine.families import Condition, StableDiffusion, stacked


class Batch:
    """The requests of one model that took its last step.

    batch.advance(trajectories)   # one step of each
    batch.prepare()               # the next one's inputs, while the device works
    batch.advance(trajectories)
    """

    # What a composition has: n members, g of them with guidance, k steps until the first one ends.
    _latents: Tensor  # x [n, channels, height, width]
    _clean: Tensor  # x0 of the last step, like x
    _conditions: Condition  # [n + g, ...]: everybody's own, then the negatives
    _samples: Tensor  # of the next call [n + g, ...]; its parts:
    _inputs: Tensor
    _negatives: Tensor
    _steps: Tensor  # [k, 8, n, 1, 1, 1]: SamplerTable.steps
    _times: Tensor  # [k, n + g]
    _scales: Tensor  # guidance [g, 1, 1, 1]
    _draws_noise: list[bool]  # [k]

    def __init__(self, family: StableDiffusion) -> None:
        self._family = family
        self._members: list[Trajectory] = []  # as they were handed in
        self._rows: list[Trajectory] = []  # those with guidance first
        self._num_guided = 0
        self._next = 0  # of the k steps
        self._is_ready = False
        self._noise: Tensor | None = None
        self._coefficients: Sequence[Tensor] = ()  # of the next step

    def advance(self, members: Sequence[Trajectory]) -> None:
        """Take one denoising step of every request, in one denoiser call.

        Changes nothing where it fails (out of memory), so the step can be tried with fewer.
        """
        if members != self._members:
            self._compose(list(members))
        self.prepare()
        out = self._family.denoise(self._samples, self._times[self._next], self._conditions)
        guided = self._guided(out.float())
        samplers.advance(self._latents, self._clean, guided, self._noise, self._coefficients)
        self._next += 1
        self._is_ready = False
        for one in self._rows:
            one.step += 1
            one.noise = None

    def prepare(self) -> None:
        """Make the next call's inputs: scaled latents and noise; nothing where somebody ends."""
        if not self._members or self._is_ready or self._next == len(self._draws_noise):
            return
        self._noise = self._drawn() if self._draws_noise[self._next] else None
        *self._coefficients, _ = self._steps[self._next].unbind()
        in_scale = self._coefficients[samplers.IN_SCALE]
        torch.mul(self._latents, in_scale, out=self._inputs)
        if self._num_guided:
            self._negatives.copy_(self._inputs[: self._num_guided])
        self._is_ready = True

    def _compose(self, members: list[Trajectory]) -> None:
        """Gather what the members have into tensors, up to the step where the first one ends."""
        self._members = []  # where this fails, the next call begins anew
        left = set(self._rows).difference(members)
        for one in left:
            one.state = one.state.clone()  # else it would hold all of the batch's
        rows = sorted(members, key=lambda one: -len(one.conditions))
        guided = [one for one in rows if len(one.conditions) > 1]
        positives = [one.conditions[-1] for one in rows]
        self._conditions = stacked(positives + [one.conditions[0] for one in guided])
        state = torch.cat([one.state for one in rows], dim=1)
        self._latents, self._clean = state
        self._samples = state.new_empty(len(rows) + len(guided), *state.shape[2:])
        self._inputs, self._negatives = self._samples.tensor_split([len(rows)])

        num_ahead = min(one.table.num_steps - one.step for one in rows)
        ahead = [slice(one.step, one.step + num_ahead) for one in rows]
        tables = [one.table.steps[own] for one, own in zip(rows, ahead, strict=True)]
        draws = [one.table.draws_noise[own] for one, own in zip(rows, ahead, strict=True)]
        self._draws_noise = [any(of_step) for of_step in zip(*draws, strict=True)]
        steps = sent(torch.from_numpy(np.stack(tables, axis=-1)), state.device)
        times = steps[:, samplers.TIMESTEP]
        self._times = torch.cat([times, times[:, : len(guided)]], dim=1)
        self._steps = steps[..., None, None, None]
        scales = torch.tensor([one.job.guidance_scale for one in guided], dtype=torch.float32)
        self._scales = sent(scales, state.device).view(-1, 1, 1, 1)

        self._num_guided = len(guided)
        self._next = 0
        self._is_ready = False
        for index, one in enumerate(rows):
            one.state = state[:, index : index + 1]
        self._members, self._rows = members, rows

    def _guided(self, out: Tensor) -> Tensor:
        """Return the answers, guided: negative + scale * (positive - negative)."""
        if not self._num_guided:
            return out
        positive, plain, negative = out.tensor_split([self._num_guided, len(self._rows)])
        guided = torch.addcmul(negative, positive - negative, self._scales)
        return torch.cat([guided, plain]) if len(plain) else guided

    def _drawn(self) -> Tensor:
        """Return noise for the next step, each from its request's own generator, else zeros.

        What is drawn stays with its request until the step is taken, whoever shares it.
        """
        latents = self._latents
        noise = torch.zeros(latents.shape, pin_memory=latents.is_cuda)
        for own, one in zip(noise, self._rows, strict=True):
            if one.table.draws_noise[one.step]:
                if one.noise is None:
                    dtype = one.conditions[0]["encoder_hidden_states"].dtype
                    one.noise = torch.randn(own.shape, generator=one.generator, dtype=dtype)
                own.copy_(one.noise)
        return noise.to(latents.device, non_blocking=True)
