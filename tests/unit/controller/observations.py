"""What policies see, of any kind, drawn by Hypothesis."""

import numpy as np
from hypothesis import strategies as st

from controller.cell.config import AllocationConfig
from controller.cell.dynamics import model_table
from controller.cell.observations import MISS, FrameObservation, SlotObservation
from tests.unit.controller.scenarios import curves

COUNTS = st.integers(0, 20)


@st.composite
def frames(draw: st.DrawFn) -> FrameObservation:
    """Draw any frame: no node, no room and no request included."""
    shape = num_envs, num_nodes, num_models = draw(
        st.tuples(st.integers(1, 2), st.integers(0, 3), st.integers(1, 6))
    )
    history = draw(st.integers(1, 3))
    sizes = draw(st.lists(st.integers(0, 100), min_size=num_models, max_size=num_models))
    number = num_envs * history * num_models
    counts = draw(st.lists(COUNTS, min_size=number, max_size=number))
    rooms = draw(st.lists(st.integers(0, 300), min_size=num_nodes, max_size=num_nodes))
    models = [curves(f"m{index}", resident_bytes=size) for index, size in enumerate(sizes)]
    return FrameObservation(
        frame=draw(st.integers(0, 100)),
        table=model_table(models, 20),
        request_counts=np.array(counts).reshape(num_envs, history, num_models),
        caches=np.zeros(shape, dtype=bool),
        capacity_bytes=np.array(rooms, dtype=np.int64),
    )


@st.composite
def slots(draw: st.DrawFn) -> SlotObservation:
    """Draw any slot of one environment: budgets too small for anything included."""
    num_users, low = draw(st.integers(1, 12)), draw(st.integers(1, 10))
    most = draw(st.integers(low, 60))

    def per_user(values: st.SearchStrategy) -> np.ndarray:
        return np.array([draw(st.lists(values, min_size=num_users, max_size=num_users))])

    steps_s = per_user(st.floats(1e-9, 2))[0]
    models = [
        curves(f"m{user}", step_s=step_s, max_num_steps=draw(st.integers(low, 60)))
        for user, step_s in enumerate(steps_s)
    ]
    asks = per_user(st.booleans())
    return SlotObservation(
        table=model_table(models, most),
        bounds=AllocationConfig(
            min_num_steps=low,
            max_num_steps=most,
            compute_budget_s=draw(st.floats(1e-6, 100)),
        ),
        num_nodes=2,
        asks=asks,
        models=np.arange(num_users)[None],
        nodes=np.where(asks, per_user(st.sampled_from([MISS, 0, 1])), MISS),
        gains=per_user(st.floats(1e-16, 1e-6)),
        waiting_s=per_user(st.floats(0, 10)),
    )
