"""A node's configuration (edge_node/configs/*.toml).

Responsible for plain values and their limits. Not: filling in anything from the machine.
"""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from protos.config import BackhaulConfig, require, require_non_negative, require_positive

PolicyName: TypeAlias = Literal["controller", "lru", "lfu", "size-aware"]
SamplerName: TypeAlias = Literal[
    "ddim", "euler", "euler_ancestral", "dpmpp_2m", "lcm", "flow_euler"
]
SAMPLERS: tuple[str, ...] = get_args(SamplerName)


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """One entry of the catalog."""

    model_id: str
    """Name under which requests ask for the model."""
    source: str
    """"builtin:NAME" (the zoo), "folder:PATH" (inside model_roots) or "hub:OWNER/NAME"."""
    variant: str = ""
    """Weight variant of a hub id, such as "fp16"."""
    scheduler: SamplerName | Literal[""] = ""
    """Sampler for requests that name none; empty: the folder's own."""
    default_num_steps: int = 20
    """Denoising steps suggested to callers."""
    max_num_steps: int = 100
    """Most denoising steps of a request."""
    default_guidance_scale: float = 3.0
    """Classifier-free guidance of requests that name none; 0 or 1 turns it off."""
    width_px: int = 64
    """Image width."""
    height_px: int = 64
    """Image height."""

    def __post_init__(self) -> None:
        require(bool(self.model_id), "model_id must not be empty")
        require(
            self.source.partition(":")[0] in ("builtin", "folder", "hub"),
            f"source must begin with builtin:, folder: or hub:, got {self.source!r}",
        )
        require(
            self.scheduler in ("", *SAMPLERS),
            f"scheduler must be one of {', '.join(SAMPLERS)}, got {self.scheduler!r}",
        )
        require(
            0 <= self.default_guidance_scale <= 50,
            f"default_guidance_scale must be 0..50, got {self.default_guidance_scale}",
        )
        require_positive(self, "width_px", "height_px")
        require(
            1 <= self.default_num_steps <= self.max_num_steps,
            f"default_num_steps must be 1..max_num_steps={self.max_num_steps}, "
            f"got {self.default_num_steps}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheConfig:
    """Byte budgets, and who decides what is cached."""

    capacity_bytes: int
    """Bytes that resident models and the reserve may take together."""
    reserve_bytes: int = 0
    """Bytes of the capacity kept free for working memory."""
    host_capacity_bytes: int = 0
    """Bytes that copies in host memory may take, from which models load again without the disk;
    pinned where there is a GPU, a second copy in the same memory on a CPU; 0: no copies."""
    policy: PolicyName = "controller"
    """Who decides what is cached: the controller, and requests for other models are refused; or the
    node, which loads on a miss and evicts the least recently used ("lru"), the least often used
    ("lfu") or the least often used for its size ("size-aware")."""

    def __post_init__(self) -> None:
        require_positive(self, "capacity_bytes")
        require_non_negative(self, "host_capacity_bytes")
        require(
            0 <= self.reserve_bytes < self.capacity_bytes,
            f"reserve_bytes must be 0..capacity_bytes={self.capacity_bytes}, "
            f"got {self.reserve_bytes}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LimitsConfig:
    """What a request may ask for; a refusal names the limit and the value."""

    max_prompt_chars: int = 2000
    """Longest prompt and negative prompt."""
    max_guidance_scale: float = 30.0
    """Highest guidance."""
    max_queue: int = 64
    """Most requests that wait for the device."""
    max_request_s: float = 600.0
    """Longest life of a request whose caller set no deadline."""
    drain_s: float = 30.0
    """Time that running requests get after SIGTERM."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """Where and how nets run."""

    device: str = "auto"
    """"auto" (CUDA where there is one), "cpu", "cuda" or "cuda:1"."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the resident weights."""
    runtime: Literal["auto", "torch", "onnxruntime"] = "auto"
    """What denoisers run in: torch, or ONNX Runtime, about twice as fast on a CPU, where a model's
    first load ever exports its denoiser (seconds; kept for later ones) and one that cannot be
    exported runs in torch. "auto": ONNX Runtime on a CPU with float32, torch elsewhere."""
    graph_folder: str = ""
    """Folder of the exported denoisers; empty: edge-aigc-testbed/graphs in the user's cache."""
    num_threads: int = 0
    """CPU threads of the nets; 0: as many as cores. 1 where other programs keep cores busy."""
    max_batch_size: int = 0
    """Largest batch of a denoiser call, in which a request with guidance counts twice; 0: measured
    when a model is first loaded (the smallest within 5 % of the least time per sample)."""
    is_compiled: bool = False
    """Whether denoisers run compiled (torch.compile): faster steps (on a CPU with one thread only),
    for a minute or more of each model's first load, in which the device does nothing else; on a CPU
    needs a C++ compiler."""

    def __post_init__(self) -> None:
        require_non_negative(self, "max_batch_size", "num_threads")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeConfig:
    """A node: the whole configuration file."""

    node_id: str = "edge-0"
    """Name of the node in grants, records and logs."""
    role: Literal["edge", "cloud"] = "edge"
    """An edge serves what it caches; a cloud loads everything and adds the backhaul."""
    address: str = "127.0.0.1:50051"
    """HOST:PORT to listen on; port 0 takes a free one."""
    controller: str = ""
    """HOST:PORT of a controller to register with; empty: none, it attaches to us."""
    ticket_secret_file: str = ""
    """File with the secret that controllers sign tickets with; empty: no ticket is needed."""
    model_roots: tuple[str, ...] = ()
    """Folders that "folder:" sources may lie in."""
    cache: CacheConfig
    """The byte budget."""
    models: tuple[ModelConfig, ...]
    """The catalog."""
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """Bounds of requests."""
    engine: EngineConfig = field(default_factory=EngineConfig)
    """Device and precision."""
    backhaul: BackhaulConfig = field(default_factory=BackhaulConfig)
    """Used by a cloud only."""

    def __post_init__(self) -> None:
        names = [model.model_id for model in self.models]
        require(bool(names), "models must hold at least one entry")
        twice = {name for name in names if names.count(name) > 1}
        require(not twice, f"model_id must be unique, got twice: {', '.join(sorted(twice))}")
