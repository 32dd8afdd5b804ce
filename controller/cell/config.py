"""The system model's configuration: radio, workload, utility, bounds of a slot's decision.

Plain values, checked, never filled in from the machine.
"""

from dataclasses import dataclass

from protos.config import require, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class RadioConfig:
    """The cell: where users walk and what the air does to their signal."""

    cell_radius_m: float = 500.0
    """Users walk inside this circle around the base station."""
    min_distance_m: float = 35.0
    """Path loss is that of this distance when a user is nearer."""
    min_speed_mps: float = 0.5
    """Slowest leg of the random waypoint walk."""
    max_speed_mps: float = 2.0
    """Fastest leg."""
    shadowing_db: float = 6.0
    """Standard deviation of the log-normal shadowing."""
    shadowing_distance_m: float = 50.0
    """Distance over which shadowing forgets itself (to 1/e)."""
    bandwidth_hz: float = 200e3
    """W of the downlink; the policy shares it out."""
    transmit_power_w: float = 0.002
    """P of the base station."""
    uplink_bandwidth_hz: float = 200e3
    """W of the uplink, shared like the downlink."""
    user_power_w: float = 0.001
    """P of a user."""
    noise_dbm_per_hz: float = -174.0
    """N0."""

    def __post_init__(self) -> None:
        require_positive(
            self, "cell_radius_m", "min_distance_m", "min_speed_mps", "shadowing_distance_m"
        )
        require_positive(
            self, "bandwidth_hz", "transmit_power_w", "uplink_bandwidth_hz", "user_power_w"
        )
        require(
            self.max_speed_mps >= self.min_speed_mps,
            f"max_speed_mps must be >= min_speed_mps={self.min_speed_mps}, "
            f"got {self.max_speed_mps}",
        )
        require(self.shadowing_db >= 0, f"shadowing_db must be >= 0, got {self.shadowing_db}")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadConfig:
    """What users ask for."""

    prompts: str = "controller/configs/scene-prompts.txt"
    """File of one prompt a line, drawn uniformly; or the name of a shipped one."""
    request_probability: float = 0.8
    """Chance that a user asks for an image in a slot."""
    zipf_skews: tuple[float, ...] = (0.5, 1.2, 2.0)
    """Skew of the popularity in each state of the Markov chain."""
    transitions: tuple[tuple[float, ...], ...] = ((0.6, 0.3, 0.1), (0.2, 0.6, 0.2), (0.1, 0.3, 0.6))
    """Chance to go from state (row) to state (column) at a frame's end."""
    drift_probability: float = 0.3
    """Chance that two neighbours of the popularity ranking change places at a frame's end."""
    upload_bytes: int = 600
    """Prompt, headers and ticket of a request."""

    def __post_init__(self) -> None:
        asks, drifts = self.request_probability, self.drift_probability
        require(0 < asks <= 1, f"request_probability must be > 0 and <= 1, got {asks}")
        require(0 <= drifts <= 1, f"drift_probability must be 0..1, got {drifts}")
        require(self.upload_bytes >= 0, f"upload_bytes must be >= 0, got {self.upload_bytes}")
        states = len(self.zipf_skews)
        require(states > 0, "zipf_skews must hold at least one value")
        require(
            len(self.transitions) == states and all(len(row) == states for row in self.transitions),
            f"transitions must be {states} x {states}, one row for each of zipf_skews",
        )
        for row in self.transitions:
            require(
                min(row) >= 0 and abs(sum(row) - 1) < 1e-9,
                f"each row of transitions must be probabilities that sum to 1, got {list(row)}",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class UtilityConfig:
    """What a request is worth: w * quality - (1 - w) * total_s / reference_latency_s."""

    quality_weight: float = 0.7
    """w, 0..1."""
    reference_latency_s: float = 5.0
    """Latency that costs (1 - w)."""

    def __post_init__(self) -> None:
        require(
            0 <= self.quality_weight <= 1, f"quality_weight must be 0..1, got {self.quality_weight}"
        )
        require_positive(self, "reference_latency_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class AllocationConfig:
    """Bounds of a slot's decision."""

    min_num_steps: int = 1
    """Fewest denoising steps of an image."""
    max_num_steps: int = 20
    """Most denoising steps; what the cloud always gives."""
    compute_budget_s: float = 2.0
    """Device seconds that one slot may give out on one edge node."""

    def __post_init__(self) -> None:
        require(
            1 <= self.min_num_steps <= self.max_num_steps,
            f"min_num_steps must be 1..max_num_steps={self.max_num_steps}, "
            f"got {self.min_num_steps}",
        )
        require_positive(self, "compute_budget_s")
