"""A run's configuration: plain values, checked, never filled in from the machine.

Relative paths start at the repository's root (``ROOT``), wherever the command is typed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent


def _require(is_fine: bool, complaint: str) -> None:  # noqa: FBT001 - a check, not an option
    if not is_fine:
        raise ValueError(complaint)


def _require_positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value > 0, f"{name} must be > 0, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSpec:
    """One node of the run: started here, or attached to."""

    start: str = ""
    """Configuration file of edge_node to start as a child process, on a free port."""
    attach: str = ""
    """HOST:PORT of a node that runs already."""

    def __post_init__(self) -> None:
        _require(
            bool(self.start) != bool(self.attach),
            f"a node needs start or attach, not both, got {self.start!r} and {self.attach!r}",
        )


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
        _require_positive(
            self, "cell_radius_m", "min_distance_m", "min_speed_mps", "shadowing_distance_m"
        )
        _require_positive(
            self, "bandwidth_hz", "transmit_power_w", "uplink_bandwidth_hz", "user_power_w"
        )
        _require(
            self.max_speed_mps >= self.min_speed_mps,
            f"max_speed_mps must be >= min_speed_mps={self.min_speed_mps}, "
            f"got {self.max_speed_mps}",
        )
        _require(self.shadowing_db >= 0, f"shadowing_db must be >= 0, got {self.shadowing_db}")


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkloadConfig:
    """What users ask for."""

    prompts: str = "controller/configs/scene-prompts.txt"
    """One prompt a line; drawn uniformly."""
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
        for name in ("request_probability", "drift_probability"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"{name} must be 0..1, got {value}")
        _require(self.upload_bytes >= 0, f"upload_bytes must be >= 0, got {self.upload_bytes}")
        states = len(self.zipf_skews)
        _require(states > 0, "zipf_skews must hold at least one value")
        _require(
            len(self.transitions) == states and all(len(row) == states for row in self.transitions),
            f"transitions must be {states} x {states}, one row for each of zipf_skews",
        )
        for row in self.transitions:
            _require(
                min(row) >= 0 and abs(sum(row) - 1) < 1e-9,
                f"each row of transitions must be chances that sum to 1, got {list(row)}",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class UtilityConfig:
    """What a request is worth: w * quality - (1 - w) * total_s / reference_latency_s."""

    quality_weight: float = 0.7
    """w, 0..1."""
    reference_latency_s: float = 5.0
    """Latency that costs (1 - w)."""

    def __post_init__(self) -> None:
        _require(
            0 <= self.quality_weight <= 1, f"quality_weight must be 0..1, got {self.quality_weight}"
        )
        _require_positive(self, "reference_latency_s")


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
        _require(
            1 <= self.min_num_steps <= self.max_num_steps,
            f"min_num_steps must be 1..max_num_steps={self.max_num_steps}, "
            f"got {self.min_num_steps}",
        )
        _require_positive(self, "compute_budget_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitsConfig:
    """What the controller takes; a refusal names the limit and the value."""

    max_pending: int = 256
    """Most requests that wait for a slot."""
    max_prompt_chars: int = 2000
    """Longest prompt."""
    max_upload_bytes: int = 10_000_000
    """Largest upload."""
    max_images: int = 48
    """Images kept in the run folder, for the gallery."""
    max_history_frames: int = 8
    """Frames whose request counts the caching decision sees."""

    def __post_init__(self) -> None:
        _require_positive(self, "max_pending", "max_prompt_chars", "max_history_frames")


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadlinesConfig:
    """How long anything may take."""

    call_s: float = 10.0
    """Of every call that has no other deadline."""
    start_s: float = 120.0
    """Until a started node listens."""
    cache_s: float = 60.0
    """Of one node's SetCache."""
    poll_s: float = 3.0
    """Until a node that does not answer counts as dead."""
    poll_interval_s: float = 1.0
    """Between two polls of a node, and between its heartbeats."""
    grant_s: float = 30.0
    """Life of a grant and its ticket; then the request has failed."""
    drain_s: float = 30.0
    """Time that running requests get after the last slot."""
    stop_s: float = 10.0
    """Between SIGTERM and kill of a started node."""

    def __post_init__(self) -> None:
        _require_positive(self, "call_s", "start_s", "cache_s", "poll_s", "poll_interval_s")
        _require_positive(self, "grant_s", "drain_s", "stop_s")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """Everything that a run is told."""

    seed: int = 0
    """Of workload, radio and policy, each by its own stream."""
    num_frames: int
    """Caching decisions."""
    slots_per_frame: int
    """Allocation decisions in a frame."""
    slot_s: float
    """Length of a slot."""
    num_users: int
    """Emulated users; 0: only users from outside."""
    policy: Literal["most-popular", "random", "t2drl"] = "most-popular"
    """Who decides; "random" is the floor of every comparison."""
    checkpoint: str = ""
    """Folder of the training that "t2drl" comes from (python -m controller train writes it)."""
    profile: str = "profiling/results/zoo-cpu/profile.json"
    """Measured curves of the models (python profiling/fit_curves.py writes it)."""
    output: str = "runs"
    """Folder that run folders are created in."""
    address: str = "127.0.0.1:0"
    """HOST:PORT of the controller; port 0 takes a free one."""
    ticket_secret_file: str = ""
    """Secret shared with attached nodes; empty: a random one, given to started nodes."""
    nodes: tuple[NodeSpec, ...]
    """At least one."""
    radio: RadioConfig = field(default_factory=RadioConfig)
    """The cell."""
    workload: WorkloadConfig = field(default_factory=WorkloadConfig)
    """The requests."""
    utility: UtilityConfig = field(default_factory=UtilityConfig)
    """The objective."""
    allocation: AllocationConfig = field(default_factory=AllocationConfig)
    """Bounds of a slot's decision."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """Bounds of requests and records."""
    deadlines: DeadlinesConfig = field(default_factory=DeadlinesConfig)
    """Bounds of time."""

    def __post_init__(self) -> None:
        _require_positive(self, "num_frames", "slots_per_frame", "slot_s")
        _require(self.num_users >= 0, f"num_users must be >= 0, got {self.num_users}")
        _require(self.seed >= 0, f"seed must be >= 0, got {self.seed}")
        _require(bool(self.nodes), "nodes must hold at least one entry")
        _require(
            bool(self.checkpoint) == (self.policy == "t2drl"),
            "policy 't2drl' needs a checkpoint and no other policy takes one, got "
            f"{self.policy!r} and {self.checkpoint!r}",
        )

    @property
    def num_slots(self) -> int:
        """Slots of the whole run."""
        return self.num_frames * self.slots_per_frame
