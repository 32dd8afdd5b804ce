"""A benchmark's client in a process of its own, against a node without nets."""

import asyncio
import os
from functools import partial

import numpy as np

from edge_node.engine.interface import image_of
from edge_node.server import SERVICE
from edge_node.servicer import EdgeNodeServicer
from profiling.bench.loops import closed_loop, here
from profiling.bench.remote import latency_rounds, remote
from protos.edge_node_pb2_grpc import add_EdgeNodeServiceServicer_to_server
from protos.serving import listening
from tests import fakes


def test_rounds_alternate_and_tell_latencies_and_cpu_seconds_apart():
    jobs = [fakes.job(seed, model_id="a") for seed in range(4)]
    order = []

    async def scenario():
        node, engine = fakes.node()
        await node.cache.load("a")
        generate = node.generate

        def noted(request, deadline_s):
            order.append("grpc")
            return generate(request, deadline_s)

        node.generate = noted

        async def serve(job):
            order.append("engine")
            return (await image_of(engine, job)).pixels

        add = partial(add_EdgeNodeServiceServicer_to_server, EdgeNodeServicer(node))
        async with (
            listening("127.0.0.1:0", SERVICE, add) as bound,
            remote(bound.address, os.getpid()) as asked,
        ):
            _, latency_s, images = await asked.run(closed_loop, jobs, 2)
            expected = [await serve(job) for job in jobs]
            order.clear()
            rounds = await latency_rounds(here(serve), asked, jobs, 2, 3)
        return latency_s, images, expected, rounds

    latency_s, images, expected, rounds = asyncio.run(scenario())
    assert min(latency_s) > 0
    for image, other in zip(images, expected, strict=True):
        assert np.array_equal(image, other)
    assert order == 4 * ["engine"] + 8 * ["grpc"] + 8 * ["engine"] + 4 * ["grpc"]
    for found in rounds:
        assert set(found["median_latency_s"]) == {"engine", "grpc"}
        assert set(found["cpu_s"]) == {"engine", "node", "client"}
        assert min(found["median_latency_s"].values()) > 0
        assert found["cpu_s"]["client"] > 0
