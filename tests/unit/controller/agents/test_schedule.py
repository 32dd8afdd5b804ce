"""The schedule's numbers, by hand."""

import math

import numpy as np
import pytest

from controller.agents.schedule import vp_schedule


def test_betas_of_two_steps_are_those_computed_by_hand():
    schedule = vp_schedule(2, beta_min=0.1, beta_max=10.0)

    # -beta_min / 2 - 1 / 8 * 9.9 = -1.2875 and -beta_min / 2 - 3 / 8 * 9.9 = -3.7625
    assert schedule.beta == pytest.approx([1 - math.exp(-1.2875), 1 - math.exp(-3.7625)])
    assert schedule.beta == pytest.approx([0.724040, 0.976775], abs=1e-6)
    assert schedule.alpha_bar == pytest.approx([math.exp(-1.2875), math.exp(-5.05)])


def test_posterior_of_two_steps_is_that_computed_by_hand():
    schedule = vp_schedule(2, beta_min=0.1, beta_max=10.0)

    # i = 2: beta 0.976775, alpha_bar_1 0.275960, alpha_bar_2 0.00640933, 1 - alpha_bar_2 0.99359067
    assert schedule.clean_weight[1] == pytest.approx(0.976775 * 0.525318 / 0.993591, abs=1e-5)
    assert schedule.noisy_weight[1] == pytest.approx(0.724040 * 0.152397 / 0.993591, abs=1e-5)
    assert schedule.posterior_variance[1] == pytest.approx(0.976775 * 0.724040 / 0.993591, abs=1e-5)


@pytest.mark.parametrize("chain_len", [1, 2, 5, 15])
def test_the_last_transition_is_the_clean_action_and_adds_no_noise(chain_len):
    schedule = vp_schedule(chain_len, beta_min=0.1, beta_max=10.0)

    assert schedule.clean_weight[0] == pytest.approx(1.0)
    assert schedule.noisy_weight[0] == 0.0
    assert schedule.posterior_variance[0] == 0.0


@pytest.mark.parametrize("chain_len", [1, 2, 5, 15])
def test_a_longer_chain_is_finer_not_noisier(chain_len):
    schedule = vp_schedule(chain_len, beta_min=0.1, beta_max=10.0)

    assert schedule.alpha_bar[-1] == pytest.approx(math.exp(-5.05))


@pytest.mark.parametrize("chain_len", [2, 5, 15])
def test_the_posterior_keeps_the_variance_of_the_forward_process(chain_len):
    schedule = vp_schedule(chain_len, beta_min=0.1, beta_max=10.0)

    # For x_0 of variance 1 every x_i has variance 1, and cov(x_0, x_i) is sqrt(alpha_bar_i).
    clean, noisy = np.array(schedule.clean_weight), np.array(schedule.noisy_weight)
    variance = clean**2 + noisy**2 + 2 * clean * noisy * np.sqrt(schedule.alpha_bar)
    assert variance + np.array(schedule.posterior_variance) == pytest.approx(np.ones(chain_len))


@pytest.mark.parametrize(
    ("chain_len", "low", "high", "complaint"),
    [
        (0, 0.1, 10.0, "chain_len must be >= 1, got 0"),
        (5, 0.0, 1.0, "beta_min"),
        (5, 2, 1, "got 2"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(chain_len, low, high, complaint):
    with pytest.raises(ValueError, match=complaint):
        vp_schedule(chain_len, beta_min=low, beta_max=high)
