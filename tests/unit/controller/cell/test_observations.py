import numpy as np
import pytest

from controller.cell import observations as seen
from controller.cell.observations import CONTEXT_FEATURES, MISS, USER_FEATURES
from controller.cell.simulator import Simulator
from tests.unit.controller.scenarios import scenario, slot, table

GAIN_0_DB = 1e-14  # P g = 1e-14 W over 1 MHz of 1e-20 W/Hz


def user_features(asks) -> dict[str, np.ndarray]:
    features = seen.slot_features(asks, scenario().radio, 2.0)
    return dict(zip(USER_FEATURES, features.user_features[0].T, strict=True))


def test_a_users_features_by_hand():
    asks = slot([2, 0, -1], [0, MISS, 0], gain=[GAIN_0_DB, 10**-10.5, 1.0])
    found = user_features(asks)
    assert found["is_active"].tolist() == [1, 1, 0]
    assert found["is_hit"].tolist() == [1, 0, 0]
    # c: knees at 1 and 4 of 20 steps, 0.5 and 0.8; half of b's 0.2 s; a quarter of b's bytes
    assert found["first_knee"] == pytest.approx([0.05, 0.1, 0])
    assert found["low_quality"] == pytest.approx([0.5, 0.2, 0])
    assert found["second_knee"] == pytest.approx([0.2, 0.5, 0])
    assert found["high_quality"] == pytest.approx([0.8, 1.0, 0])
    assert found["step_cost"] == pytest.approx([0.5, 0.5, 0])
    assert found["max_steps"] == pytest.approx([0.4, 1.0, 0])
    assert found["image_size"] == pytest.approx([0.25, 0.25, 0])
    # 0 dB: 2 * 5 / 35 - 1; 35 dB: 2 * 40 / 35 - 1
    assert found["gain"] == pytest.approx([-25 / 35, 45 / 35, 0], abs=1e-6)
    assert found["waiting"] == pytest.approx([0.125, 0.125, 0])
    # 8 steps of 0.1 s of 3 s; the miss has no node
    assert found["node_demand"] == pytest.approx([0.8 / 3, 0, 0])


def test_the_context_by_hand():
    asks = slot([2, 0, -1, 1], [0, MISS, 0, 0])
    context = seen.slot_features(asks, scenario().radio, 2.0).context[0]
    found = dict(zip(CONTEXT_FEATURES, context, strict=True))
    # hits are c and b: one step each takes 0.3 of 3 s, all steps 8 * 0.1 + 20 * 0.2 = 4.8 s
    assert found["free_compute"] == pytest.approx(0.9)
    assert found["active_frac"] == pytest.approx(0.75)
    assert found["hit_frac"] == pytest.approx(0.5)
    assert found["demand"] == pytest.approx(1.6)


def test_demand_is_that_of_the_users_own_node():
    asks = slot([2, 1], [0, 1], num_nodes=2)
    assert user_features(asks)["node_demand"] == pytest.approx([0.8 / 3, 4.0 / 3])


def test_features_have_the_shapes_and_bounds_that_are_stated():
    setting = scenario(num_nodes=2)
    sim = Simulator(setting, table(), num_envs=7, seed=0)
    frame = sim.observe_frame()
    sim.apply_caches(np.broadcast_to([[True, False, True], [False, True, False]], (7, 2, 3)))
    asks = sim.observe_slot()
    features = seen.slot_features(asks, setting.radio, setting.slot_s)
    assert features.user_features.shape == (7, 4, len(USER_FEATURES))
    assert features.context.shape == (7, len(CONTEXT_FEATURES))
    assert features.flat.shape == (7, 4 * len(USER_FEATURES) + len(CONTEXT_FEATURES))
    assert features.user_mask is asks.asks
    assert {features.user_features.dtype, features.context.dtype} == {np.dtype(np.float32)}
    assert np.abs(features.flat).max() <= seen.FEATURE_HIGH
    assert not features.user_features[~asks.asks].any()
    wide = seen.frame_features(frame, setting)
    assert wide.shape == (7, seen.frame_width(setting, 3))
    assert wide.dtype == np.float32


def test_a_frames_features_by_hand():
    setting = scenario()
    frame = seen.FrameObservation(
        frame=1,
        table=table(),
        request_counts=np.array([[[0, 0, 0], [3, 1, 0]]]),
        caches=np.array([[[True, False, False]]]),
        capacity_bytes=np.array([100]),
    )
    features = seen.frame_features(frame, setting)[0]
    # shares of requests; cache; bytes of 100; loads of 10 s; free bytes
    expected = [0, 0, 0, 0.75, 0.25, 0, 1, 0, 0, 0.6, 0.5, 0.4, 0.3, 0.3, 0.3, 0.4]
    assert features == pytest.approx(expected)
    # of {}, a, b, ab, c, ac, bc, abc: 0, 60, 50, 110, 40, 100, 90, 150 bytes
    assert seen.action_mask(frame).tolist() == [[True, True, True, False, True, True, True, False]]


def test_too_many_subsets_are_refused():
    assert len(seen.subsets(12)) == seen.MAX_SUBSETS
    with pytest.raises(ValueError, match=r"at most 4096 subsets are enumerated, got 2 \*\* 13"):
        seen.subsets(13)


def test_sets_are_filled_in_order_while_models_fit():
    # 60, 50 and 40 bytes into 100, and in the last node into 40
    frame = seen.FrameObservation(
        frame=0,
        table=table(),
        request_counts=np.zeros((1, 2, 3), dtype=np.int64),
        caches=np.zeros((1, 3, 3), dtype=bool),
        capacity_bytes=np.array([100, 100, 40]),
    )
    orders = np.array([[[0, 1, 2], [1, 2, 0], [1, 2, 0]]])
    assert seen.filled(orders, frame)[0].astype(int).tolist() == [
        [1, 0, 1],
        [0, 1, 1],
        [0, 0, 1],
    ]
    with pytest.raises(ValueError, match="an edge node holds 40 bytes, got 50 bytes"):
        frame.validate(np.array([[[1, 0, 1], [0, 1, 1], [0, 1, 0]]], dtype=bool))


def test_what_does_not_fit_is_left_out():
    chosen = np.array([[True, True, True], [False, True, True], [False, False, False]])
    assert seen.fitted(chosen, table(), 100).astype(int).tolist() == [
        [1, 0, 1],
        [0, 1, 1],
        [0, 0, 0],
    ]
    assert chosen.all(axis=1)[0]  # the argument is left alone


@pytest.mark.parametrize(
    ("shares", "num_steps", "complaint"),
    [
        ([[-0.1, 0.5]], [[1, 1]], "shares must be >= 0 and sum to <= 1, got -0.1"),
        ([[0.6, 0.5]], [[1, 1]], "and 1.1"),
        ([[np.nan, 0.5]], [[1, 1]], "got nan"),
        ([[0.5, 0.5]], [[0, 1]], r"num_steps must be 1\.\.20, got 0"),
        ([[0.5, 0.5]], [[1, 21]], r"num_steps must be 1\.\.20, got 21"),
        ([[0.5, 0.5]], [[20, 6]], "has 3 s of compute, got 3.2 s"),
        ([[0.5]], [[1]], r"must be \(1, 2\), got \(1, 1\) and \(1, 1\)"),
    ],
)
def test_an_infeasible_allocation_is_named(shares, num_steps, complaint):
    action = seen.Allocation(shares=np.array(shares), num_steps=np.array(num_steps))
    with pytest.raises(ValueError, match=complaint):
        action.validate(slot([0, 1]))


def test_a_miss_gets_its_models_most_steps_and_nothing_less():
    waiting = slot([2, 0], [seen.MISS, 0])  # c takes at most 8 steps
    most, less = (
        seen.Allocation(shares=np.array([[0.5, 0.5]]), num_steps=np.array([[steps, 5]]))
        for steps in (8, 7)
    )
    most.validate(waiting)
    with pytest.raises(ValueError, match=r"num_steps must be 8\.\.8, got 7"):
        less.validate(waiting)
