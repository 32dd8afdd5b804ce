"""What the learners minimise: targets and losses as functions of tensors.

Responsible for the formulas; every function names the shapes it takes. Not: nets, optimisers.

    r_u  own reward of user u              γ  discount, 0 where the episode ended (code: discount)
    w_u  1 / active users where u is active, else 0; sums to 1, or to 0 where nobody is
    δ    error of a prediction
    V'   value of the next slot            Q  value (code: q)

The value of a slot is the mean of its active users' values, as its reward is the mean of their
rewards. So ``y_u = r_u + γ V'`` for every active user makes their mean the ordinary target
``r + γ V'``: splitting it changes no objective, but gives the critic one target for each user.
"""

import torch
from torch import Tensor


def active_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean [env] of values [env, user] over active users; 0 where nobody is."""
    return (values * weights).sum(1)


def decomposed_target(
    reward: Tensor, discount: Tensor, next_q: Tensor, next_weights: Tensor
) -> Tensor:
    """Return ``y_u = r_u + γ V'`` [env, user], V' the mean of the next slot's active users' values.

    The discount is [env]; all others, and what is returned, are [env, user], ``next_q`` the target
    critic's.
    """
    return reward + (discount * active_mean(next_q, next_weights)).unsqueeze(1)


def td_loss(q: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over slots of the mean over active users of ``δ²`` (scalar).

    All three are [env, user]; one column where the critic rates the slot as a whole.
    """
    return ((q - target).square() * weights).sum() / len(q)


def policy_loss(q: Tensor, weights: Tensor) -> Tensor:
    """Return the deterministic policy gradient's loss: minus the mean value of a slot.

    Both are [env, user], q of the actor's own actions. Source: Silver et al. 2014; Lillicrap et al.
    2016 (DDPG).
    """
    return (q * weights).sum() / -len(q)


def double_q_target(
    reward: Tensor, discount: Tensor, q_online: Tensor, q_target: Tensor, feasible: Tensor
) -> Tensor:
    """Return the double-DQN target [minibatch]: the online net picks, the target net rates.

    Args:
        reward: [minibatch].
        discount: [minibatch], γ, or 0 where the episode ended (not where it was cut off).
        q_online: [minibatch, action], of the next observation.
        q_target: as ``q_online``.
        feasible: bool [minibatch, action], next actions; others are never picked. At least one
            of a transition where discount > 0.

    Source: van Hasselt, Guez, Silver 2016. Departs: infeasible actions are masked.
    """
    picked = q_online.masked_fill(~feasible, -torch.inf).argmax(1, keepdim=True)
    return reward + discount * q_target.gather(1, picked).squeeze(1)
