from protos import edge_node_pb2 as _edge_node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RejectionReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REJECTION_REASON_UNSPECIFIED: _ClassVar[RejectionReason]
    REJECTION_REASON_UNKNOWN_MODEL: _ClassVar[RejectionReason]
    REJECTION_REASON_NO_NODE: _ClassVar[RejectionReason]
    REJECTION_REASON_RUN_ENDED: _ClassVar[RejectionReason]
    REJECTION_REASON_QUEUE_FULL: _ClassVar[RejectionReason]
REJECTION_REASON_UNSPECIFIED: RejectionReason
REJECTION_REASON_UNKNOWN_MODEL: RejectionReason
REJECTION_REASON_NO_NODE: RejectionReason
REJECTION_REASON_RUN_ENDED: RejectionReason
REJECTION_REASON_QUEUE_FULL: RejectionReason

class RegisterNodeRequest(_message.Message):
    __slots__ = ("node_id", "address", "role")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    address: str
    role: _edge_node_pb2.Role
    def __init__(self, node_id: _Optional[str] = ..., address: _Optional[str] = ..., role: _Optional[_Union[_edge_node_pb2.Role, str]] = ...) -> None: ...

class RegisterNodeResponse(_message.Message):
    __slots__ = ("heartbeat_interval_s",)
    HEARTBEAT_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    heartbeat_interval_s: float
    def __init__(self, heartbeat_interval_s: _Optional[float] = ...) -> None: ...

class HeartbeatRequest(_message.Message):
    __slots__ = ("node_id", "status")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    status: _edge_node_pb2.GetStatusResponse
    def __init__(self, node_id: _Optional[str] = ..., status: _Optional[_Union[_edge_node_pb2.GetStatusResponse, _Mapping]] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("request_id", "user_id", "model_id", "prompt", "seed", "upload_bytes")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_ID_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    user_id: str
    model_id: str
    prompt: str
    seed: int
    upload_bytes: int
    def __init__(self, request_id: _Optional[str] = ..., user_id: _Optional[str] = ..., model_id: _Optional[str] = ..., prompt: _Optional[str] = ..., seed: _Optional[int] = ..., upload_bytes: _Optional[int] = ...) -> None: ...

class Queued(_message.Message):
    __slots__ = ("frame", "slot")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    frame: int
    slot: int
    def __init__(self, frame: _Optional[int] = ..., slot: _Optional[int] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("node_id", "address", "role", "num_steps", "rate_bps", "upload_rate_bps", "ticket")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    NUM_STEPS_FIELD_NUMBER: _ClassVar[int]
    RATE_BPS_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_RATE_BPS_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    address: str
    role: _edge_node_pb2.Role
    num_steps: int
    rate_bps: float
    upload_rate_bps: float
    ticket: bytes
    def __init__(self, node_id: _Optional[str] = ..., address: _Optional[str] = ..., role: _Optional[_Union[_edge_node_pb2.Role, str]] = ..., num_steps: _Optional[int] = ..., rate_bps: _Optional[float] = ..., upload_rate_bps: _Optional[float] = ..., ticket: _Optional[bytes] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("reason", "detail")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    reason: RejectionReason
    detail: str
    def __init__(self, reason: _Optional[_Union[RejectionReason, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("queued", "grant", "rejection")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    queued: Queued
    grant: Grant
    rejection: Rejection
    def __init__(self, queued: _Optional[_Union[Queued, _Mapping]] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ..., rejection: _Optional[_Union[Rejection, _Mapping]] = ...) -> None: ...

class ReportOutcomeRequest(_message.Message):
    __slots__ = ("request_id", "failure", "timings", "wait_s", "upload_s", "total_s", "image_bytes", "sha256", "is_hit")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    WAIT_S_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_S_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    IS_HIT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    failure: str
    timings: _edge_node_pb2.Timings
    wait_s: float
    upload_s: float
    total_s: float
    image_bytes: int
    sha256: str
    is_hit: bool
    def __init__(self, request_id: _Optional[str] = ..., failure: _Optional[str] = ..., timings: _Optional[_Union[_edge_node_pb2.Timings, _Mapping]] = ..., wait_s: _Optional[float] = ..., upload_s: _Optional[float] = ..., total_s: _Optional[float] = ..., image_bytes: _Optional[int] = ..., sha256: _Optional[str] = ..., is_hit: _Optional[bool] = ...) -> None: ...

class ReportOutcomeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRunStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NodeSummary(_message.Message):
    __slots__ = ("node_id", "address", "role", "is_alive", "resident_models")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    IS_ALIVE_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_MODELS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    address: str
    role: _edge_node_pb2.Role
    is_alive: bool
    resident_models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node_id: _Optional[str] = ..., address: _Optional[str] = ..., role: _Optional[_Union[_edge_node_pb2.Role, str]] = ..., is_alive: _Optional[bool] = ..., resident_models: _Optional[_Iterable[str]] = ...) -> None: ...

class GetRunStatusResponse(_message.Message):
    __slots__ = ("frame", "num_frames", "slot", "num_served", "num_rejected", "num_failed", "num_open", "mean_utility", "nodes")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    NUM_FRAMES_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    NUM_SERVED_FIELD_NUMBER: _ClassVar[int]
    NUM_REJECTED_FIELD_NUMBER: _ClassVar[int]
    NUM_FAILED_FIELD_NUMBER: _ClassVar[int]
    NUM_OPEN_FIELD_NUMBER: _ClassVar[int]
    MEAN_UTILITY_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    frame: int
    num_frames: int
    slot: int
    num_served: int
    num_rejected: int
    num_failed: int
    num_open: int
    mean_utility: float
    nodes: _containers.RepeatedCompositeFieldContainer[NodeSummary]
    def __init__(self, frame: _Optional[int] = ..., num_frames: _Optional[int] = ..., slot: _Optional[int] = ..., num_served: _Optional[int] = ..., num_rejected: _Optional[int] = ..., num_failed: _Optional[int] = ..., num_open: _Optional[int] = ..., mean_utility: _Optional[float] = ..., nodes: _Optional[_Iterable[_Union[NodeSummary, _Mapping]]] = ...) -> None: ...
