"""A simulated setting: places, users, models and bounds, as a strictly read TOML file.

Responsible for the configuration and the models that it names: measured ones from a profile, or a
list of its own, which is synthetic and called so. Not: simulating.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from controller.cell.config import (
    AllocationConfig,
    RadioConfig,
    UtilityConfig,
    WorkloadConfig,
)
from controller.cell.dynamics import ModelCurves, ModelTable, model_curves, model_table
from profiling import records
from protos import config as configs
from protos.config import BackhaulConfig, ConfigError, require

SHIPPED = "controller/configs/scenarios"
"""Folder of the scenarios that have a name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenarioConfig:
    """A simulated setting; with a seed it gives the same episodes."""

    num_users: int
    """Users of the cell; each may ask once a slot."""
    num_nodes: int = 1
    """Edge nodes, alike, that any user's request can be served at."""
    capacity_bytes: int
    """Of each edge node's model cache."""
    num_frames: int
    """Caching decisions of an episode."""
    slots_per_frame: int
    """Allocation decisions in a frame."""
    slot_s: float
    """Length of a slot."""
    history_frames: int = 4
    """Frames whose request counts a caching decision sees."""
    profile: str = ""
    """Measured models: a profile.json, or the name of a shipped one; empty: synthetic_models."""
    model_ids: tuple[str, ...] = ()
    """Models of the profile that take part; empty: all of them."""
    synthetic_models: tuple[ModelCurves, ...] = ()
    """Models that nobody measured, with curves chosen by hand."""
    radio: RadioConfig = field(default_factory=RadioConfig)
    """The cell."""
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    """The requests."""
    utility: UtilityConfig = field(default_factory=UtilityConfig)
    """The objective."""
    allocation: AllocationConfig = field(default_factory=AllocationConfig)
    """Bounds of a slot's decision."""
    cloud: BackhaulConfig = field(
        default_factory=lambda: BackhaulConfig(delay_s=0.3, rate_bps=50e6)
    )
    """Where misses go."""

    def __post_init__(self) -> None:
        for name in ("num_users", "num_nodes", "capacity_bytes", "num_frames", "slots_per_frame"):
            require(getattr(self, name) >= 1, f"{name} must be >= 1, got {getattr(self, name)}")
        require(self.slot_s > 0, f"slot_s must be > 0, got {self.slot_s}")
        require(self.history_frames >= 1, f"history_frames must be >= 1, got {self.history_frames}")
        require(
            bool(self.profile) != bool(self.synthetic_models),
            "a scenario needs a profile or synthetic_models, not both, got "
            f"{self.profile!r} and {len(self.synthetic_models)} synthetic models",
        )
        require(
            bool(self.profile) or not self.model_ids,
            f"model_ids chooses from a profile and there is none, got {list(self.model_ids)}",
        )
        for model in self.synthetic_models:
            _check_model(model)
        names = [model.model_id for model in self.synthetic_models]
        require(len(set(names)) == len(names), f"model_id must differ, got {names}")

    @property
    def frame_s(self) -> float:
        """Length of a frame."""
        return self.slots_per_frame * self.slot_s

    @property
    def expected_requests(self) -> float:
        """Mean number of requests in a slot."""
        return self.num_users * self.workload.request_probability


def _check_model(model: ModelCurves) -> None:
    name = f"synthetic model {model.model_id!r}"
    for field_name in ("step_s", "image_bytes", "resident_bytes", "max_num_steps"):
        value = getattr(model, field_name)
        require(value > 0, f"{name}: {field_name} must be > 0, got {value}")
    for field_name in ("overhead_s", "load_s"):
        value = getattr(model, field_name)
        require(value >= 0, f"{name}: {field_name} must be >= 0, got {value}")
    a1, a2, a3, a4 = model.curve
    require(
        0 <= a1 <= a3 and 0 <= a2 <= a4 <= 1,
        f"{name}: curve must be A1 <= A3 (steps) and 0 <= A2 <= A4 <= 1, got {list(model.curve)}",
    )


def load(name: str | Path) -> ScenarioConfig:
    """Return a scenario: a TOML file, or the name of a shipped one ("default").

    Raises:
        ConfigError: no such file, an unknown key, a refused value.
    """
    file = Path(name)
    file = file if file.suffix == ".toml" else file.with_suffix(".toml")
    return configs.load(file, ScenarioConfig, SHIPPED)


def read_models(scenario: ScenarioConfig) -> ModelTable:
    """Return the scenario's models.

    Raises:
        ConfigError: an unreadable profile or one that lacks a model; a model whose steps take no
            time or that cannot be given the fewest steps; no model that fits an edge node.
    """
    models = scenario.synthetic_models or _measured(scenario)
    smallest = min(models, key=lambda model: model.resident_bytes)
    if smallest.resident_bytes > scenario.capacity_bytes:
        raise ConfigError(
            f"no model fits: capacity_bytes is {scenario.capacity_bytes}, the smallest model "
            f"{smallest.model_id!r} has {smallest.resident_bytes} bytes"
        )
    return bounded_table(models, scenario.allocation)


def bounded_table(models: Sequence[ModelCurves], bounds: AllocationConfig) -> ModelTable:
    """Return models as arrays, their steps within the bounds of a slot's decision.

    Raises:
        ConfigError: a model whose steps take no time or that cannot be given the fewest steps.
    """
    fewest = bounds.min_num_steps
    for model in models:
        if model.step_s <= 0:
            raise ConfigError(f"model {model.model_id!r}: step_s must be > 0, got {model.step_s}")
        if model.max_num_steps < fewest:
            raise ConfigError(
                f"allocation.min_num_steps is {fewest}, model {model.model_id!r} takes at most "
                f"{model.max_num_steps}"
            )
    return model_table(models, bounds.max_num_steps)


def _measured(scenario: ScenarioConfig) -> tuple[ModelCurves, ...]:
    profile = records.load(scenario.profile)
    names = scenario.model_ids or tuple(model.model_id for model in profile.models)
    if not names:
        raise ConfigError(f"the profile {scenario.profile} holds no model")
    return tuple(model_curves(profile, name) for name in names)
