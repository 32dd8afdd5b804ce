import numpy as np
import pytest

from profiling.bench import serving


def settings(**changes) -> serving.Serving:
    return serving.Serving(**({"num_requests": 8, "in_flight": 3, "rounds": 1} | changes))


def test_requests_are_the_same_for_the_same_seed_and_within_bounds():
    made = serving.jobs(settings(num_requests=40))
    assert made == serving.jobs(settings(num_requests=40))
    assert all(4 <= job.num_steps <= 50 for job in made)
    assert [job.guidance_scale for job in made[:4]] == [3.0, 3.0, 3.0, 1.0]
    assert made != serving.jobs(settings(num_requests=40, seed=12))


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
        "grpc_latency_ratio": {"closed_loop": [1.02, 1.01, 1.2], "one_at_a_time": [0.98, 1.1]},
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
    assert "3 in flight 1.020 (1.010 to 1.200), one at a time 1.040 (0.980 to 1.100)" in text
