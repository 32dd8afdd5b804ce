import asyncio

import numpy as np

from edge_node.engine.interface import Job
from profiling.bench import loops
from tests import fakes

JOBS = [fakes.job(seed) for seed in range(8)]


class Counter:
    """Serves in a set time and counts how many it serves at once."""

    def __init__(self, serve_s: float) -> None:
        self.serve_s = serve_s
        self.running = self.most = 0

    async def serve(self, job: Job):
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.serve_s)
        self.running -= 1
        return np.full((2, 2, 3), job.seed % 256, np.uint8)


def test_the_closed_loop_keeps_a_fixed_number_in_flight_and_the_order_of_images():
    counter = Counter(0.02)
    throughput_hz, latency_s, images = asyncio.run(loops.closed_loop(counter.serve, JOBS, 3))
    assert counter.most == 3
    assert [int(image[0, 0, 0]) for image in images] == [job.seed % 256 for job in JOBS]
    assert min(latency_s) >= 0.02
    assert throughput_hz <= 3 / 0.02


def test_poisson_arrivals_wait_for_nobody():
    counter = Counter(0.05)
    throughput_hz, latency_s, images = asyncio.run(
        loops.poisson(counter.serve, JOBS, [0.01] * len(JOBS))
    )
    assert counter.most > 1
    assert len(latency_s) == len(images) == len(JOBS)
    assert throughput_hz <= len(JOBS) / (0.01 * len(JOBS) + 0.05)
