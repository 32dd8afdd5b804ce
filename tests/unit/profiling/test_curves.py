import doctest

import numpy as np
import pytest

from profiling import curves
from profiling.measure import grid

STEPS = np.array([1, 2, 4, 8, 16, 32, 50], float)


@pytest.mark.parametrize("module", [curves, grid])
def test_the_examples_in_docstrings_hold(module):
    found = doctest.testmod(module)

    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    "knees",
    [
        (2.0, 20.0, 16.0, 28.0),  # both knees at measured step counts
        (3.0, 20.0, 20.0, 28.0),  # both between: three points on the ramp settle the line
        (3.0, 90.0, 20.0, 15.0),  # falling, as FID does
    ],
)
def test_the_knees_of_an_exact_curve_are_found(knees):
    values = curves.linear_saturation(STEPS, *knees)

    fit = curves.fit(curves.LINEAR_SATURATION, STEPS, values)

    assert fit.knees() == pytest.approx(knees, rel=1e-5)
    assert fit(STEPS) == pytest.approx(values, rel=1e-6)


def test_one_step_count_gives_one_value():
    assert float(curves.linear_saturation(4, 2, 20.0, 10, 28.0)) == 22.0
    assert float(curves.affine(10, 0.02, 0.1)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("family", "theta"), [(curves.EXPONENTIAL, 6.0), (curves.POWER, 0.8)], ids=["exp", "power"]
)
def test_an_exact_curve_of_another_family_is_found(family, theta):
    values = 12.0 + 9.0 * family.shape(STEPS, np.array([theta]))

    fit = curves.fit(family, STEPS, values)

    assert fit.theta == pytest.approx((theta,), rel=1e-4)
    assert (fit.start, fit.rise) == pytest.approx((12.0, 9.0), rel=1e-4)


def test_no_curve_of_a_fine_grid_fits_noisy_values_better():
    rng = np.random.default_rng(3)
    rows = curves.linear_saturation(STEPS, 1, 20, 6, 28) + rng.normal(0, 3, (300, len(STEPS)))

    fits = curves.fit_many(curves.LINEAR_SATURATION, STEPS, rows)

    errors = np.array([np.square(f(STEPS) - row).sum() for f, row in zip(fits, rows, strict=True)])
    best = np.full(len(rows), np.inf)
    for first in np.geomspace(1, 49, 60):
        for second in np.geomspace(first * 1.01, 50, 60):
            shape = curves.linear_saturation(STEPS, first, 0, second, 1)
            design = np.stack([np.ones_like(STEPS), shape], axis=1)
            misses = rows.T - design @ np.linalg.lstsq(design, rows.T, rcond=None)[0]
            best = np.minimum(best, np.square(misses).sum(0))
    spread = np.square(rows - rows.mean(1, keepdims=True)).sum(1)
    assert ((errors - best) / spread).max() < 1e-4


def test_a_flat_curve_has_no_rise():
    fit = curves.fit(curves.LINEAR_SATURATION, STEPS, np.full(len(STEPS), 25.0))

    assert fit(STEPS) == pytest.approx(np.full(len(STEPS), 25.0))


def test_the_affine_fit_weighs_errors_by_the_time():
    # Minimise Σ((b1·s + b2)/t - 1)² over (1, 1), (2, 1), (3, 2): weights 1/t² = 1, 1, 1/4.
    # Σw = 9/4, Σwx = 15/4, Σwy = 5/2, Σwxx = 29/4, Σwxy = 9/2
    # b1 = (9/4·9/2 - 15/4·5/2) / (9/4·29/4 - (15/4)²) = (3/4) / (9/4) = 1/3
    # b2 = (5/2 - 15/4·1/3) / (9/4) = 5/9
    assert curves.fit_affine([1, 2, 3], [1, 1, 2]) == pytest.approx((1 / 3, 5 / 9))


def test_the_held_out_error_of_the_affine_fit_is_that_of_predicting_each_point_from_the_others():
    # Without (1, 1) the line predicts 0 there, without (2, 2) 2.5, without (3, 4) 3.
    expected = np.sqrt((1 + 0.25 + 1) / 3)

    assert curves.affine_held_out_rmse([1, 2, 3], [1, 2, 4]) == pytest.approx(expected)


def test_the_held_out_error_tells_the_true_family_from_another():
    values = 12.0 + 9.0 * curves.EXPONENTIAL.shape(STEPS, np.array([6.0]))

    errors = {n: curves.held_out_rmse(f, STEPS, values) for n, f in curves.FAMILIES.items()}

    assert min(errors, key=errors.get) == "exponential"
    assert errors["exponential"] < 0.05 < errors["linear_saturation"]


@pytest.mark.parametrize(
    ("steps", "values", "complaint"),
    [
        ([1, 2], [1, 2], ">= 3 different step counts"),
        ([1, 2, 2], [1, 2, 3], ">= 3 different step counts"),
        ([0, 1, 2], [1, 2, 3], ">= 3 different step counts"),
        ([1, 2, 3], [1, 2, np.nan], "finite"),
        ([1, 2, 3], [1, 2], "one for each of 3"),
    ],
)
def test_a_fit_refuses_what_settles_no_curve(steps, values, complaint):
    with pytest.raises(ValueError, match=complaint):
        curves.fit(curves.LINEAR_SATURATION, steps, values)


def test_only_the_family_of_record_has_knees():
    fit = curves.fit(curves.POWER, [1, 2, 4], [1, 2, 3])

    with pytest.raises(ValueError, match="power"):
        fit.knees()


def test_an_affine_fit_refuses_times_that_are_none():
    with pytest.raises(ValueError, match="times > 0"):
        curves.fit_affine([1, 2], [0.1, 0.0])


def test_a_prompt_is_resampled_with_all_its_images():
    # Two columns that differ by 5 for every prompt must differ by 5 in every resample.
    rng = np.random.default_rng(0)
    column = rng.normal(size=20)

    means = curves.resampled_means(np.stack([column, column + 5], axis=1), 50, rng)

    assert means.shape == (50, 2)
    assert means[:, 1] - means[:, 0] == pytest.approx(np.full(50, 5.0))
    assert means[:, 0].std() > 0.1


def test_intervals_of_means_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        means = curves.resampled_means(rng.normal(7.0, 2.0, size=(64, 1)), 100, rng)
        low, high = curves.interval(means[:, 0])
        hits += low <= 7.0 <= high

    assert 0.88 <= hits / 400 <= 0.98


def test_intervals_of_knees_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(2)
    true = (2.0, 15.0, 12.0, 27.0)
    hits = np.zeros(4)
    for _ in range(30):
        noise = rng.normal(0, 3, (64, 1)) + rng.normal(0, 2, (64, len(STEPS)))
        table = curves.linear_saturation(STEPS, *true) + noise
        means = curves.resampled_means(table, 40, rng)
        fits = curves.fit_many(curves.LINEAR_SATURATION, STEPS, means)
        for number, column in enumerate(np.array([fit.knees() for fit in fits]).T):
            low, high = curves.interval(column)
            hits[number] += low <= true[number] <= high
            assert high > low

    assert (hits / 30 >= 0.75).all()
    assert hits.sum() < 120  # intervals that never miss are too wide
