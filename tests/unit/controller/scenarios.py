"""Synthetic scenarios for tests: small, with numbers chosen by hand."""

import numpy as np

from controller.cell.config import AllocationConfig, RadioConfig, UtilityConfig, WorkloadConfig
from controller.cell.dynamics import ModelCurves, ModelTable
from controller.cell.observations import MISS, SlotObservation
from controller.cell.scenario import ScenarioConfig, read_models
from protos.config import BackhaulConfig


def curves(name: str, **changes) -> ModelCurves:
    values = {
        "curve": (2.0, 0.2, 10.0, 1.0),
        "step_s": 0.1,
        "overhead_s": 0.5,
        "image_bytes": 125_000.0,  # one megabit
        "resident_bytes": 40,
        "load_s": 3.0,
        "max_num_steps": 20,
    }
    return ModelCurves(model_id=name, **(values | changes))


MODELS = (
    curves("a", resident_bytes=60),
    curves("b", resident_bytes=50, step_s=0.2, image_bytes=500_000.0),
    curves("c", resident_bytes=40, curve=(1.0, 0.5, 4.0, 0.8), max_num_steps=8),
)
MANY = tuple(curves(f"m{index}", resident_bytes=30 + index) for index in range(13))
"""More models than whose subsets are enumerated."""


def scenario(**changes) -> ScenarioConfig:
    """Return a cell in which bW = 0.5 MHz, g = 1.5e-14 and P = 1 W give 1 Mbit/s."""
    values = {
        "num_users": 4,
        "capacity_bytes": 100,
        "num_frames": 3,
        "slots_per_frame": 5,
        "slot_s": 2.0,
        "history_frames": 2,
        "synthetic_models": MODELS,
        "radio": RadioConfig(
            bandwidth_hz=1e6,
            uplink_bandwidth_hz=1e6,
            transmit_power_w=1.0,
            user_power_w=1.0,
            noise_dbm_per_hz=-170.0,  # 1e-20 W/Hz
        ),
        "workload": WorkloadConfig(upload_bytes=1000),
        "utility": UtilityConfig(quality_weight=0.6, reference_latency_s=10.0),
        "allocation": AllocationConfig(min_num_steps=1, max_num_steps=20, compute_budget_s=3.0),
        "cloud": BackhaulConfig(delay_s=0.5, rate_bps=1e6),
    }
    return ScenarioConfig(**(values | changes))


def table(**changes) -> ModelTable:
    return read_models(scenario(**changes))


def slot(
    models: list[int], nodes: list[int] | None = None, *, gain=1.5e-14, num_nodes=1, **changes
) -> SlotObservation:
    """Return one environment's slot; -1 as model is a user who does not ask."""
    asked = np.array([models], dtype=np.int64)
    setting = scenario(**changes)
    return SlotObservation(
        table=read_models(setting),
        bounds=setting.allocation,
        num_nodes=num_nodes,
        asks=asked >= 0,
        models=np.maximum(asked, 0),
        nodes=np.where(asked >= 0, np.array([nodes or [0] * len(models)]), MISS),
        gains=np.broadcast_to(np.asarray(gain, float), asked.shape),
        waiting_s=np.full(asked.shape, 0.25),
    )
