"""The samplers that a request may name, as diffusers schedulers (which import torch)."""

from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)

from edge_node.admission import SAMPLERS

_CLASSES = dict(
    zip(
        SAMPLERS,
        (
            DDIMScheduler,
            EulerDiscreteScheduler,
            EulerAncestralDiscreteScheduler,
            DPMSolverMultistepScheduler,
            LCMScheduler,
        ),
        strict=True,
    )
)


def make(name: str, own: Any) -> Any:
    """Return a fresh scheduler on the model's own noise schedule; empty name: the model's own."""
    return _CLASSES[name].from_config(own.config) if name else type(own).from_config(own.config)
