import statistics

import pytest

from profiling.bench import loading, soak


def test_growth_is_the_last_readings_over_the_first_that_are_settled():
    cycles = list(range(10, 1010, 10))
    sizes = [999] * 5 + [100] * 10 + [500] * 75 + [103] * 10
    assert soak.growth_frac(cycles, sizes) == pytest.approx(0.03)
    assert soak.growth_frac(cycles[:20], sizes[:20]) is None


@pytest.mark.parametrize(("growth", "word"), [(0.019, "passed"), (0.021, "FAILED"), (-0.1, "pass")])
def test_the_verdict_follows_the_limit(growth, word):
    record = {
        "manifest": {"device": "cpu"},
        "models": ["a", "b"],
        "num_cycles": 1000,
        "taken_s": 10.0,
        "resident_bytes": [10**9, 2 * 10**9],
        "growth_frac": growth,
    }
    assert word in soak.verdict(record)


def test_the_table_shows_medians_spread_and_ratio():
    record = {
        "manifest": {"device": "cpu", "cpu": "test"},
        "settings": {"repeats": 3},
        "rates": [
            {
                "model_id": "m",
                "way": "host -> device",
                "num_bytes": 10**9,
                "limit_s": [1.0, 0.5, 0.25],
                "load_s": [1.0, 1.0, 2.0],
            }
        ],
        "delays": {
            "running": "r",
            "loading": "m",
            "alone": {"step_s": [0.010, 0.011, 0.012]},
            "disk": {"step_s": [0.020], "load_s": [0.5]},
            "host": {"step_s": [0.015], "load_s": []},
        },
    }
    text = "\n".join(loading.table(record))
    assert (
        "| m | host -> device | 1000 | 2.00 (1.00 to 4.00) | 1.00 (0.50 to 1.00) | 0.50 |" in text
    )
    assert "| none | 3 | 11.0 | 12.0 | 12.0 | 0 |  |" in text
    assert "| from disk | 1 | 20.0 | 20.0 | 20.0 | 1 | 500.0 |" in text


def test_a_plain_read_takes_as_long_as_it_sleeps(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(bytes(range(256)) * 40)
    target = bytearray(10240)
    loading._read_all([file], memoryview(target))
    assert target == file.read_bytes()
    times = [loading._seconds(lambda: loading.time.sleep(0.02)) for _ in range(3)]
    assert 0.02 <= statistics.median(times) < 0.05
