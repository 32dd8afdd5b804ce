"""The engine over gRPC: a node in a process of its own, asked by a client in another one.

So neither the node's Python nor the client's waits for the other's interpreter, and the CPU time of
both is known apart. Also: what that costs beside the engine in the benchmark's own process.
"""

import asyncio
import contextlib
import io
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
from PIL import Image

from edge_node.engine.interface import Job
from profiling.bench.loops import Answers, Loop, Run, Serve, closed_loop
from profiling.measure.prompts import Images
from protos.clients import EdgeNodeClient
from protos.messages import GenerateRequest, ImageChunk

DEADLINE_S = 600.0


def by_client(client: EdgeNodeClient) -> Serve:
    """Return a node as a backend; request ids are made unique, as a node wants them."""
    calls = iter(range(10**9))

    async def serve(job: Job) -> Images:
        request = GenerateRequest(
            request_id=f"{job.request_id}-{next(calls)}",
            model_id=job.model_id,
            prompt=job.prompt,
            num_steps=job.num_steps,
            guidance_scale=job.guidance_scale,
            seed=job.seed,
        )
        events = client.generate(request, DEADLINE_S)
        data = b"".join([event.data async for event in events if isinstance(event, ImageChunk)])
        return np.asarray(Image.open(io.BytesIO(data)))

    return serve


def _asked(address: str, loop: Loop, args: Sequence[Any]) -> tuple[Answers, float]:
    """Run a loop against a node; return its answers and the CPU seconds of this process."""

    async def connected() -> tuple[Answers, float]:
        async with EdgeNodeClient(address, deadline_s=DEADLINE_S) as client:
            await client.status()  # connects
            began_s = time.process_time()
            answers = await loop(by_client(client), *args)
            return answers, time.process_time() - began_s

    return asyncio.run(connected())


@dataclass(frozen=True, slots=True)
class Remote:
    """A node and its client's process."""

    address: str
    node_pid: int
    client: ProcessPoolExecutor

    async def run(self, loop: Loop, *args: Any) -> Answers:
        """Run a loop in the client's process."""
        return (await self.run_timed(loop, *args))[0]

    async def run_timed(self, loop: Loop, *args: Any) -> tuple[Answers, dict[str, float]]:
        """Return a loop's answers, and the CPU seconds that node and client took meanwhile."""
        began_s = _cpu_s(self.node_pid)
        events = asyncio.get_running_loop()
        answers, client_s = await events.run_in_executor(
            self.client, _asked, self.address, loop, args
        )
        return answers, {"node": _cpu_s(self.node_pid) - began_s, "client": client_s}


@contextlib.asynccontextmanager
async def remote(address: str, node_pid: int) -> AsyncIterator[Remote]:
    """Run a client's process for a node that listens."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as client:
        yield Remote(address, node_pid, client)


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


async def latency_rounds(
    engine: Run, node: Remote, requests: Sequence[Job], in_flight: int, rounds: int
) -> list[dict[str, Any]]:
    """Serve the same requests by the engine in this process and over gRPC, by turns.

    Returns:
        Of every round: both median latencies (s), and the CPU seconds of this process while it
        served, of the node and of the client. Who goes first changes with every round.
    """

    async def by_engine() -> tuple[Answers, dict[str, float]]:
        began_s = time.process_time()
        answers = await engine(closed_loop, requests, in_flight)
        return answers, {"engine": time.process_time() - began_s}

    async def by_node() -> tuple[Answers, dict[str, float]]:
        return await node.run_timed(closed_loop, requests, in_flight)

    ways: list[tuple[str, Callable[[], Any]]] = [("engine", by_engine), ("grpc", by_node)]
    found = []
    for _ in range(rounds):
        latency_s: dict[str, float] = {}
        cpu_s: dict[str, float] = {}
        for name, way in ways:
            (_, took_s, _), spent_s = await way()
            latency_s[name] = statistics.median(took_s)
            cpu_s |= spent_s
        found.append({"median_latency_s": latency_s, "cpu_s": cpu_s})
        ways.reverse()
    return found
