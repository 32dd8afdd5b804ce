"""A run's configuration: plain values, checked, never filled in from the machine."""

from dataclasses import dataclass, field
from typing import Literal

from controller.cell.config import (
    AllocationConfig,
    RadioConfig,
    UtilityConfig,
    WorkloadConfig,
)
from protos.config import require, require_positive


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSpec:
    """One node of the run: started here, or attached to."""

    start: str = ""
    """Configuration of an edge node to start as a child process, on a free port: a file, or the
    name of a shipped one."""
    attach: str = ""
    """HOST:PORT of a node that runs already."""

    def __post_init__(self) -> None:
        require(
            bool(self.start) != bool(self.attach),
            f"a node needs start or attach, not both, got {self.start!r} and {self.attach!r}",
        )


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
        require_positive(self, "max_pending", "max_prompt_chars", "max_history_frames")


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
        require_positive(self, "call_s", "start_s", "cache_s", "poll_s", "poll_interval_s")
        require_positive(self, "grant_s", "drain_s", "stop_s")


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
    profile: str = "zoo-cpu.json"
    """Measured curves of the models: a profile.json (python profiling/fit_curves.py writes it), or
    the name of a shipped one."""
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
        require_positive(self, "num_frames", "slots_per_frame", "slot_s")
        require(self.num_users >= 0, f"num_users must be >= 0, got {self.num_users}")
        require(self.seed >= 0, f"seed must be >= 0, got {self.seed}")
        require(bool(self.nodes), "nodes must hold at least one entry")
        require(
            bool(self.checkpoint) == (self.policy == "t2drl"),
            "policy 't2drl' needs a checkpoint and no other policy takes one, got "
            f"{self.policy!r} and {self.checkpoint!r}",
        )

    @property
    def num_slots(self) -> int:
        """Slots of the whole run."""
        return self.num_frames * self.slots_per_frame
