"""Which cached model makes room for another: the policies of a reactive cache.

Under "controller" there is none: the controller decides which models are cached. The others load on
a miss, and name who goes. Pure and without a clock, so that they can be compared on a trace.
"""

from collections import Counter
from collections.abc import Callable, Collection
from typing import Protocol

from edge_node.config import PolicyName


class CachePolicy(Protocol):
    """Learns of every request, and names who is evicted.

    policy.used("a", 30)            # a request for a model of 30 bytes, hit or loaded for it
    policy.victim(["a", "b"])       # of these two, who goes; it does go
    """

    def used(self, model_id: str, num_bytes: int) -> None:
        """Take note of a request."""

    def victim(self, model_ids: Collection[str]) -> str:
        """Return which of these models is evicted next."""


class LeastRecentlyUsed:
    """The model whose last request is the longest ago goes."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._num_requests = 0

    def used(self, model_id: str, num_bytes: int) -> None:  # noqa: ARG002 - the interface's
        """Remember the order."""
        self._num_requests += 1
        self._last[model_id] = self._num_requests

    def victim(self, model_ids: Collection[str]) -> str:
        """Return the one used the longest ago; never used comes first."""
        return min(model_ids, key=lambda name: self._last.get(name, 0))


class LeastFrequentlyUsed:
    """The model with the fewest requests since the start goes; among equals the least recent."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._recency = LeastRecentlyUsed()

    def used(self, model_id: str, num_bytes: int) -> None:
        """Count."""
        self._counts[model_id] += 1
        self._recency.used(model_id, num_bytes)

    def victim(self, model_ids: Collection[str]) -> str:
        """Return the one with the fewest requests."""
        fewest = min(self._counts[name] for name in model_ids)
        return self._recency.victim([n for n in model_ids if self._counts[n] == fewest])


class GreedyDualSizeFrequency:
    """The model with the lowest ``age + requests / bytes`` goes, and its value becomes the age.

    Cherkasova 1998, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
    Policy", HPL-98-69R1, with equal costs, which favours hits. Requests are counted since the model
    was cached; the age keeps those who were popular once from staying for ever.
    """

    def __init__(self) -> None:
        self._age = 0.0
        self._counts: Counter[str] = Counter()
        self._values: dict[str, float] = {}

    def used(self, model_id: str, num_bytes: int) -> None:
        """Raise the model's value."""
        self._counts[model_id] += 1
        self._values[model_id] = self._age + self._counts[model_id] / max(1, num_bytes)

    def victim(self, model_ids: Collection[str]) -> str:
        """Return the one of the least value; its count begins anew when it comes back."""
        name = min(model_ids, key=lambda name: self._values.get(name, self._age))
        self._age = self._values.pop(name, self._age)
        del self._counts[name]
        return name


_POLICIES: dict[str, Callable[[], CachePolicy]] = {
    "lru": LeastRecentlyUsed,
    "lfu": LeastFrequentlyUsed,
    "size-aware": GreedyDualSizeFrequency,
}


def make(name: PolicyName) -> CachePolicy | None:
    """Return a policy by its name in the configuration; None for "controller"."""
    return None if name == "controller" else _POLICIES[name]()
