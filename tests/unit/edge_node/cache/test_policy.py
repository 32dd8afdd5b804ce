"""Each policy on one request trace, with the hits computed by hand, through the real cache."""

import asyncio

import pytest

from edge_node.cache import policy as policies
from edge_node.cache.model_cache import ModelCache
from edge_node.catalog import Catalog
from edge_node.config import CacheConfig
from tests import fakes

SIZES = {"a": 60, "b": 40, "c": 30}
TRACE = "aaabcbcabc"
# Any two fit into 100 bytes, all three do not. "!" is a hit, (x) evicts x.
#
#             a a! a! b c     b     c     a     b     c
# lru                   (a)   !     !     (b)   (c)   (a)     4 hits, ends with b c
# lfu                   (b)   (c)   (b)   !     (c)   (b)     3 hits, ends with a c
#   requests  a 3, b 1  b<a   c<a   b2<a3       c2<a4 b3<a4
# size-aware            (b)   (a)   !     (b)   (a)   !       4 hits, ends with c b
#   values    a 3/60 = .05, b 1/40 = .025 -> b goes, age .025, c = .025 + 1/30 = .0583
#             b comes, a .05 goes, age .05, b = .05 + 1/40 = .075; c hit = .05 + 2/30 = .1167
#             a comes, b .075 goes, age .075, a = .075 + 1/60 = .0917
#             b comes, a .0917 goes, age .0917; c hit
EXPECTED = {
    "lru": (4, {"b", "c"}),
    "lfu": (3, {"a", "c"}),
    "size-aware": (4, {"b", "c"}),
}
EVICTED = {"lru": "abca", "lfu": "bcbcb", "size-aware": "baba"}


async def replayed(policy: str) -> tuple[int, set[str], str]:
    """Return the hits, what is resident at the end, and the evictions in order."""
    engine = fakes.FakeEngine(dict(SIZES))
    catalog = Catalog([fakes.model(name) for name in SIZES])
    cache = ModelCache(CacheConfig(capacity_bytes=100, policy=policy), catalog, engine)
    evicted, evict = [], engine.evict

    async def noted(model_id: str) -> None:
        evicted.append(model_id)
        await evict(model_id)

    engine.evict = noted
    num_hits = 0
    for model_id in TRACE:
        async with cache.ready(model_id) as load_s:
            num_hits += load_s == 0
    return num_hits, set(cache.resident), "".join(evicted)


@pytest.mark.parametrize("policy", EXPECTED)
def test_hits_and_evictions_are_those_computed_by_hand(policy):
    num_hits, resident, evicted = asyncio.run(replayed(policy))
    assert (num_hits, resident) == EXPECTED[policy]
    assert evicted == EVICTED[policy]


def test_a_directed_cache_has_no_policy():
    assert policies.make("controller") is None


def test_what_was_never_requested_goes_first():
    for name in EXPECTED:
        policy = policies.make(name)
        policy.used("a", 10)
        assert policy.victim(["a", "b"]) == "b"


def test_popularity_of_old_does_not_keep_a_model_for_ever():
    policy = policies.make("size-aware")
    for _ in range(5):
        policy.used("old", 10)
    for index in range(20):
        policy.used(f"new{index}", 10)
        gone = policy.victim(["old", f"new{index}"])
        if gone == "old":
            break
    assert gone == "old"
    assert index == 4  # values: old 0.5; the new ones 0.1, 0.2, ... as the age rises by 0.1
