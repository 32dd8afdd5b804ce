import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cell.config import RadioConfig
from controller.cell.radio import RadioCell, noise_w_per_hz, path_loss_db, rate_bps
from protos.seeds import stream


def test_path_loss_is_128_db_at_a_kilometre_and_37_6_db_less_at_a_tenth_of_it():
    assert path_loss_db([1000.0, 100.0]) == pytest.approx([128.1, 90.5])


def test_minus_174_dbm_is_4_zeptowatts():
    # -174 dBm = -204 dBW = 10 ** -20.4 W
    assert noise_w_per_hz(-174.0) == pytest.approx(3.981e-21, rel=1e-3)


def test_the_rate_of_a_known_channel():
    # b W = 0.5 MHz, noise 1e-20 * 5e5 = 5e-15 W, P g = 1.5e-14 W: SNR 3, log2(1 + 3) = 2
    assert rate_bps(0.5, 1.5e-14, 1e6, 1.0, 1e-20) == pytest.approx(1e6)


def test_no_share_is_no_rate():
    assert rate_bps([0.0, 0.5], [1e-12, 1e-12], 1e6, 1.0, 1e-20)[0] == 0.0


@given(share=st.floats(1e-3, 0.49), gain=st.floats(1e-16, 1e-8), bandwidth_hz=st.floats(1e4, 1e8))
def test_more_bandwidth_is_a_higher_rate_with_falling_returns(share, gain, bandwidth_hz):
    one, two = rate_bps([share, 2 * share], [gain, gain], bandwidth_hz, 0.1, 4e-21)
    assert one < two <= 2 * one * (1 + 1e-9)


def test_users_stay_in_the_cell_and_no_faster_than_allowed():
    config = RadioConfig(cell_radius_m=100.0, min_speed_mps=1.0, max_speed_mps=3.0)
    cell = RadioCell(config, 50, stream(1, "radio"))
    for _ in range(200):
        before = cell._positions
        cell.step(2.0)
        moved_m = np.linalg.norm(cell._positions - before, axis=1)
        assert np.all(moved_m <= 6.0 + 1e-9)
        assert np.all(np.linalg.norm(cell._positions, axis=1) <= 100.0 + 1e-9)
        assert np.all(cell.gains > 0)
    assert moved_m.mean() > 1.0


def test_the_same_seed_gives_the_same_channels_and_another_one_others():
    def gains(seed: int) -> np.ndarray:
        cell = RadioCell(RadioConfig(), 4, stream(seed, "radio"))
        cell.step(1.0)
        return cell.gains

    assert np.array_equal(gains(3), gains(3))
    assert not np.array_equal(gains(3), gains(4))


def test_shadowing_keeps_its_spread_and_is_remembered_over_short_ways():
    config = RadioConfig(shadowing_db=8.0, min_speed_mps=1.0, max_speed_mps=1.0)
    cell = RadioCell(config, 4000, stream(0, "radio"))
    before = cell._shadowing_db.copy()
    cell.step(1.0)  # 1 m of 50: a correlation of exp(-0.02) = 0.98
    assert np.corrcoef(before, cell._shadowing_db)[0, 1] == pytest.approx(0.98, abs=0.01)
    for _ in range(100):
        cell.step(50.0)
    assert cell._shadowing_db.std() == pytest.approx(8.0, rel=0.05)


def test_fading_has_mean_one_and_is_drawn_anew():
    cell = RadioCell(RadioConfig(), 20_000, stream(0, "radio"))
    first = cell._fading.copy()
    cell.step(1.0)
    assert first.mean() == pytest.approx(1.0, abs=0.03)
    assert abs(np.corrcoef(first, cell._fading)[0, 1]) < 0.03


def test_a_cell_without_users_still_has_a_typical_gain():
    cell = RadioCell(RadioConfig(cell_radius_m=200.0), 0, stream(0, "radio"))
    cell.step(1.0)
    # 100 m: 90.5 dB
    assert cell.typical_gain == pytest.approx(10**-9.05)
    assert len(cell.gains) == 0
