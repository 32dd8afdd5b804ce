"""A run's configuration: plain values, checked, never filled in from the machine."""

from dataclasses import dataclass, field
from pathlib import Path

from controller.cell.config import (
    AllocationConfig,
    RadioConfig,
    UtilityConfig,
    WorkloadConfig,
)
from controller.cell.scenario import ScenarioConfig
from controller.policies.baselines import split
from protos.config import ConfigError, read_json, require, require_positive

LEARNED = "t2drl"
"""The policy that a checkpoint brings."""


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

    def __post_init__(self) -> None:
        require_positive(self, "max_pending", "max_prompt_chars")


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
    """The configuration of a live run."""

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
    history_frames: int = 4
    """Frames whose request counts a caching decision sees."""
    policy: str = "most-popular"
    """Who decides: "t2drl" with a checkpoint, or CACHING-ALLOCATION. CACHING: random (the floor of
    every comparison), most-popular, lru, lfu, greedy, static, cloud; ALLOCATION: equal (also where
    it is left out), exact, genetic."""
    checkpoint: str = ""
    """Folder of the training run that "t2drl" comes from (python -m controller train writes it)."""
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
        require_positive(self, "num_frames", "slots_per_frame", "slot_s", "history_frames")
        require(self.num_users >= 0, f"num_users must be >= 0, got {self.num_users}")
        require(self.seed >= 0, f"seed must be >= 0, got {self.seed}")
        require(bool(self.nodes), "nodes must hold at least one entry")
        require(
            bool(self.checkpoint) == (self.policy == LEARNED),
            f"policy {LEARNED!r} needs a checkpoint and no other policy takes one, got "
            f"{self.policy!r} and {self.checkpoint!r}",
        )
        if self.policy != LEARNED:
            split(self.policy)

    @property
    def num_slots(self) -> int:
        """Slots of the whole run."""
        return self.num_frames * self.slots_per_frame

    @property
    def policy_name(self) -> str:
        """The policy's whole name: "lru" is "lru-equal"."""
        return self.policy if self.policy == LEARNED else "-".join(split(self.policy))

    def scenario(self, num_nodes: int, capacity_bytes: int) -> ScenarioConfig:
        """Return the run's cell as a scenario, for policies that weigh utilities.

        The backhaul is the default one: what a miss pays for it, no decision of a slot changes.
        """
        return ScenarioConfig(
            num_users=max(1, self.num_users),
            num_nodes=max(1, num_nodes),
            capacity_bytes=max(1, capacity_bytes),
            num_frames=self.num_frames,
            slots_per_frame=self.slots_per_frame,
            slot_s=self.slot_s,
            history_frames=self.history_frames,
            profile=self.profile,
            radio=self.radio,
            workload=self.workload,
            utility=self.utility,
            allocation=self.allocation,
        )


def read_config(folder: Path) -> RunConfig:
    """Return the configuration of a finished run.

    Raises:
        ConfigError: it is not a run's folder.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ConfigError(f"{folder} is not a run's folder: it holds no {file.name}")
    return read_json(file, RunConfig)
