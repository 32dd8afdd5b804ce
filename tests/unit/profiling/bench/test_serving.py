import asyncio

import numpy as np
import pytest

from edge_node.engine.interface import Job
from profiling.bench import serving


def settings(**changes) -> serving.Serving:
    return serving.Serving(**({"num_requests": 8, "in_flight": 3, "rounds": 1} | changes))


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


def test_requests_are_the_same_for_the_same_seed_and_within_bounds():
    made = serving.jobs(settings(num_requests=40))
    assert made == serving.jobs(settings(num_requests=40))
    assert all(4 <= job.num_steps <= 50 for job in made)
    assert [job.guidance_scale for job in made[:4]] == [3.0, 3.0, 3.0, 1.0]
    assert made != serving.jobs(settings(num_requests=40, seed=12))


def test_the_closed_loop_keeps_a_fixed_number_in_flight_and_the_order_of_images():
    counter = Counter(0.02)
    requests = serving.jobs(settings())
    throughput_hz, latency_s, images = asyncio.run(serving.closed_loop(counter.serve, requests, 3))
    assert counter.most == 3
    assert [int(image[0, 0, 0]) for image in images] == [job.seed % 256 for job in requests]
    assert min(latency_s) >= 0.02
    assert throughput_hz <= 3 / 0.02


def test_poisson_arrivals_wait_for_nobody():
    counter = Counter(0.05)
    requests = serving.jobs(settings())
    throughput_hz, latency_s, images = asyncio.run(
        serving.poisson(counter.serve, requests, [0.01] * len(requests))
    )
    assert counter.most > 1
    assert len(latency_s) == len(images) == len(requests)
    assert throughput_hz <= len(requests) / (0.01 * len(requests) + 0.05)


def test_similarity_is_1_for_equal_images_and_less_for_others():
    noise = np.random.default_rng(0).integers(256, size=(2, 16, 16, 3), dtype=np.uint8)
    assert serving.similarity([noise[0]], [noise[0]]) == pytest.approx([1.0])
    assert serving.similarity([noise[0]], [noise[1]])[0] < 0.5


def record(rates):
    rounds = [
        {
            "contender": name,
            "loop": loop,
            "throughput_hz": rate,
            "latency_s": [1.0, 3.0],
            "deadline_frac": 0.5,
        }
        for loop in ("closed", "poisson")
        for name, found in rates.items()
        for rate in found
    ]
    return {
        "settings": {
            "model": {"model_id": "m"},
            "num_requests": 8,
            "min_num_steps": 4,
            "max_num_steps": 50,
            "rounds": 3,
            "in_flight": 3,
            "load_frac": 0.7,
        },
        "device": "cpu",
        "poisson_rate_hz": 2.0,
        "rounds": rounds,
        "ssim_min": dict.fromkeys(rates, 0.9951),
        "engine_step_over_bare_denoiser": [1.0, 1.02, 1.5],
    }


def test_the_table_tells_medians_ratios_and_spread():
    text = "\n".join(
        serving.table(record({"pipeline": [1.0, 2.0, 4.0], "engine": [6.0, 7.0, 9.0]}))
    )
    pipeline = (
        "| pipeline | 2.00 (1.00 to 4.00) | 1.00 (1.00 to 1.00) | 2.00 | 3.00 | 50% | 0.9951 |"
    )
    assert pipeline in text
    assert "| engine | 7.00 (6.00 to 9.00) | 3.50 (2.25 to 6.00) |" in text  # 6/1, 7/2, 9/4
    assert "takes the engine 1.020 times a bare denoiser call" in text
