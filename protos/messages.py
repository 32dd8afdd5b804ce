"""The wire's messages as frozen dataclasses: what the rest of the code passes around.

Each mirrors the proto message of the same name, where the fields and units are documented;
wire.py converts. Proto messages travel no further than servicers, clients and this table.
"""

from dataclasses import dataclass, field
from enum import Enum

from protos.errors import InvalidRequestError

MAX_ID_CHARS = 128
"""Longest request_id; other names are cut to it in records."""


def check_request_id(request_id: str) -> None:
    """Refuse an id under which nothing could be recorded.

    Raises:
        InvalidRequestError: empty or too long.
    """
    if not 0 < len(request_id) <= MAX_ID_CHARS:
        raise InvalidRequestError(
            f"request_id must have 1..{MAX_ID_CHARS} characters, got {len(request_id)}"
        )


class Role(Enum):
    """What a node is; the values are the proto's numbers."""

    EDGE = 1
    CLOUD = 2


class NodeState(Enum):
    """Whether a node takes requests; the values are the proto's numbers."""

    SERVING = 1
    DRAINING = 2


class RejectionReason(Enum):
    """Why a request gets no grant; the values are the proto's numbers."""

    UNKNOWN_MODEL = 1
    NO_NODE = 2
    RUN_ENDED = 3
    QUEUE_FULL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInfo:
    """One entry of a node's catalog and its state in the cache."""

    model_id: str
    is_resident: bool
    resident_bytes: int | None
    disk_bytes: int | None
    load_s: float | None
    num_leases: int
    max_num_steps: int
    default_num_steps: int
    default_guidance_scale: float
    width_px: int
    height_px: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheChange:
    """What SetCache did (SetCacheResponse)."""

    models: tuple[ModelInfo, ...]
    used_bytes: int
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Eviction:
    """What EvictModel freed (EvictModelResponse)."""

    freed_bytes: int
    evict_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """One image to generate."""

    request_id: str
    model_id: str
    prompt: str
    num_steps: int
    negative_prompt: str = ""
    guidance_scale: float | None = None
    seed: int | None = None
    scheduler: str = ""
    rate_bps: float | None = None
    ticket: bytes = b""
    upload_bytes: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """The node took the request."""

    seed: int
    queue_depth: int
    is_hit: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Denoising steps are done; not every step is told, but the last one is."""

    step: int
    num_steps: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageChunk:
    """A piece of the encoded image."""

    offset_bytes: int
    total_bytes: int
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Timings:
    """A request's seconds on the node, split by cause."""

    queue_s: float = 0.0
    load_s: float = 0.0
    generate_s: float = 0.0
    backhaul_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The last byte has left the node."""

    timings: Timings
    media_type: str
    total_bytes: int
    sha256: str
    width_px: int
    height_px: int
    energy_j: float | None = None


GenerateEvent = Accepted | Progress | ImageChunk | Done
GENERATE_EVENTS: dict[str, type] = {
    "accepted": Accepted,
    "progress": Progress,
    "chunk": ImageChunk,
    "done": Done,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Telemetry:
    """What the device reports now; None where it does not report it."""

    device_name: str
    memory_used_bytes: int
    memory_total_bytes: int
    process_memory_bytes: int
    utilisation_frac: float
    power_w: float | None = None
    energy_j: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeStatus:
    """A node's state, cache and telemetry (GetStatusResponse)."""

    node_id: str
    role: Role
    state: NodeState
    capacity_bytes: int
    used_bytes: int
    queue_depth: int
    num_active: int
    models: tuple[ModelInfo, ...]
    telemetry: Telemetry


@dataclass(frozen=True, kw_only=True, slots=True)
class Submission:
    """A user's request to the controller (SubmitRequest)."""

    request_id: str
    user_id: str
    model_id: str
    prompt: str
    seed: int
    upload_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Queued:
    """The slot whose decision will answer the request."""

    frame: int
    slot: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What the slot's decision gave the request."""

    node_id: str
    address: str
    role: Role
    num_steps: int
    rate_bps: float
    upload_rate_bps: float
    ticket: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Why the request gets nothing."""

    reason: RejectionReason
    detail: str


SubmitEvent = Queued | Grant | Rejection
SUBMIT_EVENTS: dict[str, type] = {"queued": Queued, "grant": Grant, "rejection": Rejection}


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a granted request ended, as its user saw it (ReportOutcomeRequest)."""

    request_id: str
    failure: str = ""
    timings: Timings = field(default_factory=Timings)
    wait_s: float = 0.0
    upload_s: float = 0.0
    total_s: float = 0.0
    image_bytes: int = 0
    sha256: str = ""
    is_hit: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSummary:
    """A node as the controller sees it."""

    node_id: str
    address: str
    role: Role
    is_alive: bool
    resident_models: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    """A run at this moment (GetRunStatusResponse)."""

    frame: int
    num_frames: int
    slot: int
    num_served: int
    num_rejected: int
    num_failed: int
    num_open: int
    mean_utility: float
    nodes: tuple[NodeSummary, ...]
