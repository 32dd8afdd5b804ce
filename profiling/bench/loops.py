"""How requests come: a fixed number in flight, or Poisson arrivals.

Responsible for when each request is asked and how long it takes. Not: which, and by whom served.
Knows no torch, so that a client's process stays small.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from edge_node.engine.interface import Job
from profiling.measure.prompts import Images

Serve: TypeAlias = Callable[[Job], Awaitable[Images]]
Answers: TypeAlias = tuple[float, list[float], list[Images]]
"""Throughput (1/s), and each request's latency (s) and image."""
Loop: TypeAlias = Callable[..., Awaitable[Answers]]
"""One of this module's loops: serve, requests and how they come."""
Run: TypeAlias = Callable[..., Awaitable[Answers]]
"""Runs a loop, given with all but its ``serve``, wherever the requests are asked."""


def here(serve: Serve) -> Run:
    """Return what runs loops in this process."""

    def run(loop: Loop, *args: Any) -> Awaitable[Answers]:
        return loop(serve, *args)

    return run


async def closed_loop(serve: Serve, requests: Sequence[Job], in_flight: int) -> Answers:
    """Serve a fixed number of requests at a time: one follows where another ends."""
    left = iter(enumerate(requests))
    images: list[Any] = [None] * len(requests)
    latency_s = [0.0] * len(requests)

    async def user() -> None:
        for index, job in left:
            began_s = time.perf_counter()
            images[index] = await serve(job)
            latency_s[index] = time.perf_counter() - began_s

    began_s = time.perf_counter()
    await asyncio.gather(*(user() for _ in range(in_flight)))
    return len(requests) / (time.perf_counter() - began_s), latency_s, images


async def poisson(serve: Serve, requests: Sequence[Job], gaps_s: Sequence[float]) -> Answers:
    """Serve requests that come after these gaps, whether the earlier ones are done or not."""
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    arrivals_s = began_s + np.cumsum(gaps_s)

    async def ask(job: Job, arrival_s: float) -> tuple[float, Images]:
        await asyncio.sleep(arrival_s - loop.time())
        image = await serve(job)
        return loop.time() - arrival_s, image

    answers = await asyncio.gather(*map(ask, requests, arrivals_s))
    latency_s = [latency for latency, _ in answers]
    return len(requests) / (loop.time() - began_s), latency_s, [image for _, image in answers]
