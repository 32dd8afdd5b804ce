import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cell.config import UtilityConfig
from controller.cell.dynamics import CAUSES, lost_utility, model_curves, split_latency, utility
from protos.config import ConfigError
from protos.messages import Timings
from tests.unit.controller.profiles import model, profile

seconds = st.floats(0, 1e3)


def test_what_no_cause_explains_is_the_download():
    timings = Timings(queue_s=0.5, load_s=0.0, generate_s=1.0, backhaul_s=0.3)
    latency = split_latency(3.0, wait_s=0.7, upload_s=0.2, timings=timings)
    # 3.0 - (0.7 + 0.2 + 0.5 + 1.0 + 0.3) = 0.3: the paced bytes and the calls' overhead
    assert latency["download_s"] == pytest.approx(0.3)
    assert latency["total_s"] == pytest.approx(3.0)


@given(total_s=seconds, wait_s=seconds, upload_s=seconds, queue_s=seconds, generate_s=seconds)
def test_causes_sum_to_the_total_and_none_is_negative(
    total_s, wait_s, upload_s, queue_s, generate_s
):
    timings = Timings(queue_s=queue_s, generate_s=generate_s)
    latency = split_latency(total_s, wait_s=wait_s, upload_s=upload_s, timings=timings)
    parts = [latency[cause] for cause in CAUSES]
    assert min(parts) >= 0
    assert sum(parts) == latency["total_s"]
    assert latency["total_s"] == pytest.approx(
        max(total_s, wait_s + upload_s + queue_s + generate_s)
    )


def test_utility_weighs_quality_against_latency():
    config = UtilityConfig(quality_weight=0.7, reference_latency_s=5.0)
    # 0.7 * 0.9 - 0.3 * 2 / 5 = 0.63 - 0.12
    assert utility(0.9, 2.0, config) == pytest.approx(0.51)
    assert lost_utility(config) == pytest.approx(-0.3)


def test_quality_is_normalised_between_the_worst_and_the_best_of_the_zoo():
    curves = model_curves(profile(model("a", knees=(2.0, 12.0, 10.0, 28.0))), "a")
    # worst 10, best 30: A2 = (12 - 10) / 20 = 0.1, A4 = (28 - 10) / 20 = 0.9
    assert curves.curve == pytest.approx((2.0, 0.1, 10.0, 0.9))
    assert curves.quality(1) == pytest.approx(0.1)
    assert curves.quality(6) == pytest.approx(0.5)  # half way between the knees
    assert curves.quality(50) == pytest.approx(0.9)


def test_latency_and_sizes_come_from_the_profile():
    curves = model_curves(profile(model("a", step_s=0.04, overhead_s=0.1)), "a")
    assert (curves.step_s, curves.overhead_s, curves.load_s) == (0.04, 0.1, 0.2)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"quality": ()}, "model 'a' holds no quality 'clip_score'"),
        ({"latency": ()}, "model 'a' holds no latency at batch 1"),
    ],
)
def test_a_profile_that_lacks_a_curve_is_refused(changes, complaint):
    broken = profile(dataclasses.replace(model("a"), **changes))
    with pytest.raises(ConfigError, match=complaint):
        model_curves(broken, "a")


def test_a_profile_without_a_spread_of_quality_is_refused():
    with pytest.raises(ConfigError, match="both 10"):
        model_curves(profile(model("a"), worst=10.0, best=10.0), "a")
