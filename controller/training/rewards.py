"""What the two agents are rewarded with: utilities without what no decision changes, to scale.

Most of a utility's spread has nothing to do with decisions: who is far away, who asks for what. The
formulas know that part, so it is taken off: D3PG is rewarded with what a request gains over equal
allocation, DDQN with what the frame's requests gain over the cloud. What is taken off depends on
channels, requests and (D3PG's) caches, never on the agent's decision, so that the best decisions
stay the best ones, and are learnt from fewer samples. Utilities below LOW_UTILITY would drown all
others: a few requests in deep fades. Below it a reward goes on falling, but as the logarithm of the
utility does, so that starving a request costs something wherever it is. ("clipped" stops there, and
after a while D3PG may learn to give less and less to those who are below it anyway.)

Responsible for rewards and their running moments. Not: what is reported, which is never clipped or
shifted.

    n  number of values (code: count)    M2  sum of squared distances from the mean (code: squares)

Source: Chan, Golub, LeVeque 1979 (moments of two samples merged).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from torch import Tensor

from controller.cell.dynamics import Array
from controller.cell.observations import MISS, SlotObservation
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import serve
from controller.policies.baselines import equal

RewardKind = Literal["gain", "utility"]
Tail = Literal["log", "clipped"]
LOW_UTILITY = -1.0
"""No utility is above 1."""
_LEAST_STD = 1e-6


def rewards_of(
    slot: SlotObservation, utility: Array, scenario: ScenarioConfig, kind: RewardKind, tail: Tail
) -> tuple[Array, Array]:
    """Return D3PG's rewards [env, user] of a slot, 0 where nobody asks, and DDQN's share [env].

    The latter is summed over the mean number of requests, as ``Outcomes.reward`` is: its mean over
    a frame's slots is DDQN's reward.

    Args:
        slot: what was decided on.
        utility: [env, user], what became of it.
        scenario: the formulas' numbers.
        kind: "gain" as above; "utility" takes nothing off.
        tail: what utilities below LOW_UTILITY count.
    """
    worth = compress_tail(utility, tail)
    if kind == "utility":
        return worth, worth.sum(axis=-1) / scenario.expected_requests
    at_cloud = replace(slot, nodes=np.full_like(slot.nodes, MISS))
    of_equal, of_cloud = (
        compress_tail(serve(any_slot, equal(any_slot), scenario).utility, tail)
        for any_slot in (slot, at_cloud)
    )
    return worth - of_equal, (worth - of_cloud).sum(axis=-1) / scenario.expected_requests


def compress_tail(utility: Array, tail: Tail) -> Array:
    """Return utilities without their tail: below LOW_UTILITY on a logarithm, or cut off.

    >>> compress_tail(np.array([0.5, -1.0, -np.e]), "log").tolist()
    [0.5, -1.0, -2.0]
    >>> compress_tail(np.array([0.5, -1.0, -np.e]), "clipped").tolist()
    [0.5, -1.0, -1.0]
    """
    kept = np.maximum(utility, LOW_UTILITY)
    if tail == "clipped":
        return kept
    return np.asarray(kept - np.log(np.maximum(utility / LOW_UTILITY, 1.0)))


@dataclass(slots=True)
class Normaliser:
    """Mean and standard deviation of all values observed."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def observe(self, values: Array) -> None:
        """Take further values into account (any shape; none is allowed).

        >>> import numpy as np
        >>> seen = Normaliser()
        >>> seen.observe(np.array([1.0, 2.0]))
        >>> seen.observe(np.array([6.0]))
        >>> seen.mean, round(seen.std, 3)
        (3.0, 2.16)
        """
        if not values.size:
            return
        mean, total = float(values.mean()), self.count + values.size
        apart = mean - self.mean
        self.squares += float(((values - mean) ** 2).sum())
        self.squares += apart**2 * self.count * values.size / total
        self.mean += apart * values.size / total
        self.count = total

    @property
    def std(self) -> float:
        """Standard deviation, of the values as they are; 1 before there are any."""
        if not self.count:
            return 1.0
        return max((self.squares / self.count) ** 0.5, _LEAST_STD)

    def applied(self, minibatch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return a minibatch with its ``reward`` on the common scale."""
        return {**minibatch, "reward": (minibatch["reward"] - self.mean) / self.std}

    def metrics(self, name: str) -> dict[str, float]:
        """Return the moments as ``scale/<name>_mean`` and ``scale/<name>_std``."""
        return {f"scale/{name}_mean": self.mean, f"scale/{name}_std": self.std}
