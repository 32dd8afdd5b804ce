"""A synthetic slot for tests: users share bandwidth; raw actions become shares by a softmax."""

import numpy as np
import torch
from torch import Tensor

from controller.agents.networks import SlotSizes

NUM_USERS = 8
SIZES = SlotSizes(num_users=NUM_USERS, user_dim=2, context_dim=0)
_SHARPNESS = 3.0  # shares of two users differ by at most exp(2 * 3)


def draw(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Return slots: SNR -5..30 dB in the whole band, images of 1 or 4, 3 in 4 users active."""
    snr_db = rng.uniform(-5, 30, (count, NUM_USERS))
    is_large = rng.random((count, NUM_USERS)) < 0.5
    mask = rng.random((count, NUM_USERS)) < 0.75
    mask[:, 0] = True
    features = np.stack([(snr_db - 12.5) / 10, np.where(is_large, 1.0, -1.0)], 2)
    return {
        "user_features": features.astype(np.float32),
        "user_mask": mask,
        "context": np.zeros((count, 0), np.float32),
    }


def utility(slots: dict[str, np.ndarray], raw: Tensor) -> Tensor:
    """Return ``1 - size / (8 rate)`` of each user, at least -2; 0 where inactive."""
    features = torch.from_numpy(slots["user_features"])
    mask = torch.from_numpy(slots["user_mask"])
    snr = 10 ** ((features[..., 0] * 10 + 12.5) / 10)
    size = torch.where(features[..., 1] > 0, 4.0, 1.0)
    share = (_SHARPNESS * raw[..., 0]).masked_fill(~mask, -torch.inf).softmax(1).clamp(min=1e-6)
    rate = share * torch.log2(1 + snr / share)
    return (1 - size / rate / 8).clamp(min=-2.0) * mask


def score(slots: dict[str, np.ndarray], raw: np.ndarray) -> float:
    """Return (policy - equal shares) / (optimum - equal shares), by mean utility."""
    mask = slots["user_mask"]
    per_slot = [
        (utility(slots, torch.as_tensor(action)).numpy().sum(1) / mask.sum(1)).mean()
        for action in (raw, np.zeros_like(raw), optimum(slots))
    ]
    return float((per_slot[0] - per_slot[1]) / (per_slot[2] - per_slot[1]))


def optimum(slots: dict[str, np.ndarray]) -> np.ndarray:
    """Return the best raw actions in -1..1, by gradient ascent on the true utility."""
    shape = (*slots["user_mask"].shape, 2)
    free = torch.zeros(shape, requires_grad=True)
    adam = torch.optim.Adam([free], lr=0.05)
    for _ in range(300):
        adam.zero_grad()
        (-utility(slots, torch.tanh(free)).sum()).backward()
        adam.step()
    return torch.tanh(free).detach().numpy()
