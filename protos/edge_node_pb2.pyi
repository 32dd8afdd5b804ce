from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_EDGE: _ClassVar[Role]
    ROLE_CLOUD: _ClassVar[Role]

class NodeState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_STATE_UNSPECIFIED: _ClassVar[NodeState]
    NODE_STATE_SERVING: _ClassVar[NodeState]
    NODE_STATE_DRAINING: _ClassVar[NodeState]
ROLE_UNSPECIFIED: Role
ROLE_EDGE: Role
ROLE_CLOUD: Role
NODE_STATE_UNSPECIFIED: NodeState
NODE_STATE_SERVING: NodeState
NODE_STATE_DRAINING: NodeState

class ModelInfo(_message.Message):
    __slots__ = ("model_id", "is_resident", "resident_bytes", "disk_bytes", "load_s", "num_leases", "max_num_steps", "default_num_steps", "default_guidance_scale", "width_px", "height_px")
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    IS_RESIDENT_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    NUM_LEASES_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    is_resident: bool
    resident_bytes: int
    disk_bytes: int
    load_s: float
    num_leases: int
    max_num_steps: int
    default_num_steps: int
    default_guidance_scale: float
    width_px: int
    height_px: int
    def __init__(self, model_id: _Optional[str] = ..., is_resident: _Optional[bool] = ..., resident_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., load_s: _Optional[float] = ..., num_leases: _Optional[int] = ..., max_num_steps: _Optional[int] = ..., default_num_steps: _Optional[int] = ..., default_guidance_scale: _Optional[float] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ...) -> None: ...

class LoadModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class LoadModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ...) -> None: ...

class EvictModelRequest(_message.Message):
    __slots__ = ("model_id",)
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    model_id: str
    def __init__(self, model_id: _Optional[str] = ...) -> None: ...

class EvictModelResponse(_message.Message):
    __slots__ = ("freed_bytes", "evict_s")
    FREED_BYTES_FIELD_NUMBER: _ClassVar[int]
    EVICT_S_FIELD_NUMBER: _ClassVar[int]
    freed_bytes: int
    evict_s: float
    def __init__(self, freed_bytes: _Optional[int] = ..., evict_s: _Optional[float] = ...) -> None: ...

class SetCacheRequest(_message.Message):
    __slots__ = ("model_ids",)
    MODEL_IDS_FIELD_NUMBER: _ClassVar[int]
    model_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class SetCacheResponse(_message.Message):
    __slots__ = ("models", "used_bytes", "duration_s")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    used_bytes: int
    duration_s: float
    def __init__(self, models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., used_bytes: _Optional[int] = ..., duration_s: _Optional[float] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("request_id", "model_id", "prompt", "negative_prompt", "num_steps", "guidance_scale", "seed", "scheduler", "rate_bps", "ticket", "upload_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    NEGATIVE_PROMPT_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    GUIDANCE_SCALE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    SCHEDULER_FIELD_NUMBER: _ClassVar[int]
    RATE_BPS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model_id: str
    prompt: str
    negative_prompt: str
    num_steps: int
    guidance_scale: float
    seed: int
    scheduler: str
    rate_bps: float
    ticket: bytes
    upload_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., model_id: _Optional[str] = ..., prompt: _Optional[str] = ..., negative_prompt: _Optional[str] = ..., num_steps: _Optional[int] = ..., guidance_scale: _Optional[float] = ..., seed: _Optional[int] = ..., scheduler: _Optional[str] = ..., rate_bps: _Optional[float] = ..., ticket: _Optional[bytes] = ..., upload_bytes: _Optional[int] = ...) -> None: ...

class Accepted(_message.Message):
    __slots__ = ("seed", "queue_depth", "is_hit")
    SEED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    IS_HIT_FIELD_NUMBER: _ClassVar[int]
    seed: int
    queue_depth: int
    is_hit: bool
    def __init__(self, seed: _Optional[int] = ..., queue_depth: _Optional[int] = ..., is_hit: _Optional[bool] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "num_steps")
    STEP_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    step: int
    num_steps: int
    def __init__(self, step: _Optional[int] = ..., num_steps: _Optional[int] = ...) -> None: ...

class ImageChunk(_message.Message):
    __slots__ = ("offset_bytes", "total_bytes", "data")
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset_bytes: int
    total_bytes: int
    data: bytes
    def __init__(self, offset_bytes: _Optional[int] = ..., total_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queue_s", "load_s", "generate_s", "backhaul_s")
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    GENERATE_S_FIELD_NUMBER: _ClassVar[int]
    BACKHAUL_S_FIELD_NUMBER: _ClassVar[int]
    queue_s: float
    load_s: float
    generate_s: float
    backhaul_s: float
    def __init__(self, queue_s: _Optional[float] = ..., load_s: _Optional[float] = ..., generate_s: _Optional[float] = ..., backhaul_s: _Optional[float] = ...) -> None: ...

class Done(_message.Message):
    __slots__ = ("timings", "media_type", "total_bytes", "sha256", "width_px", "height_px", "energy_j")
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    MEDIA_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    WIDTH_PX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_PX_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    timings: Timings
    media_type: str
    total_bytes: int
    sha256: str
    width_px: int
    height_px: int
    energy_j: float
    def __init__(self, timings: _Optional[_Union[Timings, _Mapping]] = ..., media_type: _Optional[str] = ..., total_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., width_px: _Optional[int] = ..., height_px: _Optional[int] = ..., energy_j: _Optional[float] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("accepted", "progress", "chunk", "done")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    accepted: Accepted
    progress: Progress
    chunk: ImageChunk
    done: Done
    def __init__(self, accepted: _Optional[_Union[Accepted, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., chunk: _Optional[_Union[ImageChunk, _Mapping]] = ..., done: _Optional[_Union[Done, _Mapping]] = ...) -> None: ...

class UpdateAllocationRequest(_message.Message):
    __slots__ = ("request_id", "rate_bps")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    RATE_BPS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    rate_bps: float
    def __init__(self, request_id: _Optional[str] = ..., rate_bps: _Optional[float] = ...) -> None: ...

class UpdateAllocationResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Telemetry(_message.Message):
    __slots__ = ("device_name", "memory_used_bytes", "memory_total_bytes", "process_memory_bytes", "utilisation_frac", "power_w", "energy_j")
    DEVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROCESS_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    UTILISATION_FRAC_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    device_name: str
    memory_used_bytes: int
    memory_total_bytes: int
    process_memory_bytes: int
    utilisation_frac: float
    power_w: float
    energy_j: float
    def __init__(self, device_name: _Optional[str] = ..., memory_used_bytes: _Optional[int] = ..., memory_total_bytes: _Optional[int] = ..., process_memory_bytes: _Optional[int] = ..., utilisation_frac: _Optional[float] = ..., power_w: _Optional[float] = ..., energy_j: _Optional[float] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("node_id", "role", "state", "capacity_bytes", "used_bytes", "queue_depth", "num_active", "models", "telemetry")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_BYTES_FIELD_NUMBER: _ClassVar[int]
    USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    NUM_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    TELEMETRY_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    role: Role
    state: NodeState
    capacity_bytes: int
    used_bytes: int
    queue_depth: int
    num_active: int
    models: _containers.RepeatedCompositeFieldContainer[ModelInfo]
    telemetry: Telemetry
    def __init__(self, node_id: _Optional[str] = ..., role: _Optional[_Union[Role, str]] = ..., state: _Optional[_Union[NodeState, str]] = ..., capacity_bytes: _Optional[int] = ..., used_bytes: _Optional[int] = ..., queue_depth: _Optional[int] = ..., num_active: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ModelInfo, _Mapping]]] = ..., telemetry: _Optional[_Union[Telemetry, _Mapping]] = ...) -> None: ...
