"""What policies see: small cases by hand, and any case by Hypothesis."""

from hypothesis import strategies as st

from controller.cell.spaces import (
    FrameObservation,
    NodeCacheState,
    RequestObservation,
    SlotObservation,
)


def frame(counts, capacity_bytes=100) -> FrameObservation:
    return FrameObservation(
        frame=len(counts),
        models=("a", "b", "c"),
        request_counts=counts,
        model_bytes=(60, 50, 40),
        load_s=(1.0, 1.0, 1.0),
        nodes=(
            NodeCacheState(node_id="e", capacity_bytes=capacity_bytes, free_bytes=0, resident=()),
        ),
    )


def request(index: int, node_id: str, step_s: float) -> RequestObservation:
    return RequestObservation(
        request_id=f"r{index}",
        user_id="u",
        model_id="a",
        node_id=node_id,
        gain=1e-10,
        waiting_s=0.0,
        curve=(1.0, 0.0, 10.0, 1.0),
        step_s=step_s,
        overhead_s=0.1,
        image_bytes=5000.0,
    )


def slot_of(*requests: RequestObservation) -> SlotObservation:
    return SlotObservation(
        frame=0,
        slot=0,
        requests=requests,
        min_num_steps=1,
        max_num_steps=20,
        compute_budget_s=2.0,
    )


@st.composite
def frames(draw: st.DrawFn) -> FrameObservation:
    """Draw any frame: no node, no room and no history included."""
    num_models = draw(st.integers(1, 6))
    models = tuple(f"m{index}" for index in range(num_models))
    per_model = st.tuples(*[st.integers(0, 20)] * num_models)
    return FrameObservation(
        frame=draw(st.integers(0, 100)),
        models=models,
        request_counts=tuple(draw(st.lists(per_model, max_size=3))),
        model_bytes=draw(st.tuples(*[st.integers(0, 100)] * num_models)),
        load_s=(0.1,) * num_models,
        nodes=tuple(
            NodeCacheState(
                node_id=f"edge-{index}",
                capacity_bytes=draw(st.integers(0, 300)),
                free_bytes=0,
                resident=(),
            )
            for index in range(draw(st.integers(0, 3)))
        ),
    )


@st.composite
def slots(draw: st.DrawFn) -> SlotObservation:
    """Draw any slot: no request, budgets too small for anything included."""
    low = draw(st.integers(1, 10))
    return SlotObservation(
        frame=0,
        slot=0,
        requests=tuple(
            RequestObservation(
                request_id=f"r{index}",
                user_id=f"user-{index}",
                model_id="m0",
                node_id=draw(st.sampled_from(["", "edge-0", "edge-1"])),
                gain=draw(st.floats(1e-16, 1e-6)),
                waiting_s=draw(st.floats(0, 10)),
                curve=(1.0, 0.0, 10.0, 1.0),
                step_s=draw(st.floats(0, 2)),
                overhead_s=draw(st.floats(0, 2)),
                image_bytes=5000.0,
            )
            for index in range(draw(st.integers(0, 12)))
        ),
        min_num_steps=low,
        max_num_steps=draw(st.integers(low, 60)),
        compute_budget_s=draw(st.floats(1e-6, 100)),
    )
