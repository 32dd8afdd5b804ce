import subprocess
import sys
import typing
from dataclasses import is_dataclass
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos import controller_pb2, edge_node_pb2, messages, wire
from protos.errors import GenerationError, InvalidRequestError

IDS = st.text(max_size=20)
SECONDS = st.floats(0, 1e6)
TIMINGS = st.builds(
    messages.Timings,
    queue_s=SECONDS,
    load_s=SECONDS,
    generate_s=SECONDS,
    backhaul_s=SECONDS,
)
REQUESTS = st.builds(
    messages.GenerateRequest,
    request_id=IDS,
    model_id=IDS,
    prompt=IDS,
    num_steps=st.integers(-(2**31), 2**31 - 1),
    guidance_scale=st.none() | st.floats(allow_nan=False),
    seed=st.none() | st.integers(0, 2**64 - 1),
    rate_bps=st.none() | st.floats(allow_nan=False),
    ticket=st.binary(max_size=20),
)
MODELS = st.builds(
    messages.ModelInfo,
    model_id=IDS,
    is_resident=st.booleans(),
    resident_bytes=st.none() | st.integers(0, 2**62),
    disk_bytes=st.none() | st.integers(0, 2**62),
    load_s=st.none() | SECONDS,
    num_leases=st.integers(0, 99),
    max_num_steps=st.integers(1, 99),
    default_num_steps=st.integers(1, 99),
    default_guidance_scale=SECONDS,
    width_px=st.integers(1, 4096),
    height_px=st.integers(1, 4096),
)
STATUSES = st.builds(
    messages.NodeStatus,
    node_id=IDS,
    role=st.sampled_from(messages.Role),
    state=st.sampled_from(messages.NodeState),
    capacity_bytes=st.integers(0, 2**62),
    used_bytes=st.integers(0, 2**62),
    queue_depth=st.integers(0, 99),
    num_active=st.integers(0, 99),
    models=st.lists(MODELS, max_size=3).map(tuple),
    telemetry=st.builds(
        messages.Telemetry,
        device_name=IDS,
        memory_used_bytes=st.integers(0, 2**62),
        memory_total_bytes=st.integers(0, 2**62),
        process_memory_bytes=st.integers(0, 2**62),
        utilisation_frac=st.floats(0, 1),
        power_w=st.none() | SECONDS,
        energy_j=st.none() | SECONDS,
    ),
)


PROTOS = {
    messages.ModelInfo: edge_node_pb2.ModelInfo,
    messages.CacheChange: edge_node_pb2.SetCacheResponse,
    messages.Eviction: edge_node_pb2.EvictModelResponse,
    messages.GenerateRequest: edge_node_pb2.GenerateRequest,
    messages.Accepted: edge_node_pb2.Accepted,
    messages.Progress: edge_node_pb2.Progress,
    messages.ImageChunk: edge_node_pb2.ImageChunk,
    messages.Timings: edge_node_pb2.Timings,
    messages.Done: edge_node_pb2.Done,
    messages.Telemetry: edge_node_pb2.Telemetry,
    messages.NodeStatus: edge_node_pb2.GetStatusResponse,
    messages.Submission: controller_pb2.SubmitRequest,
    messages.Queued: controller_pb2.Queued,
    messages.Grant: controller_pb2.Grant,
    messages.Rejection: controller_pb2.Rejection,
    messages.Outcome: controller_pb2.ReportOutcomeRequest,
    messages.NodeSummary: controller_pb2.NodeSummary,
    messages.RunStatus: controller_pb2.GetRunStatusResponse,
}
SCALARS = {
    str: IDS,
    bytes: st.binary(max_size=20),
    bool: st.booleans(),
    int: st.integers(0, 2**31 - 1),
    float: st.floats(allow_nan=False),
}


def values(hint):
    """Values of a field's type, as messages.py annotates it."""
    if hint in SCALARS:
        return SCALARS[hint]
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is tuple:
        return st.lists(values(arguments[0]), max_size=3).map(tuple)
    if arguments:
        return st.none() | values(arguments[0])
    return st.sampled_from(hint) if issubclass(hint, Enum) else built(hint)


def built(cls):
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{name: values(hint) for name, hint in hints.items()})


def through(message, proto_class):
    proto = proto_class.FromString(wire.to_proto(message, proto_class).SerializeToString())
    return wire.from_proto(proto, type(message))


def test_the_table_of_messages_is_whole():
    assert set(PROTOS) == {cls for cls in vars(messages).values() if is_dataclass(cls)}


@pytest.mark.parametrize("cls", PROTOS)
def test_every_message_survives_the_wire(cls):
    @given(built(cls))
    def survives(message):
        assert through(message, PROTOS[cls]) == message

    survives()


def test_every_event_survives_the_wire():
    @given(st.one_of(map(built, messages.GENERATE_EVENTS.values())))
    def survives(event):
        packed = wire.pack_event(event, edge_node_pb2.GenerateResponse, messages.GENERATE_EVENTS)
        sent = edge_node_pb2.GenerateResponse.FromString(packed.SerializeToString())
        assert wire.unpack_event(sent, messages.GENERATE_EVENTS) == event

    survives()


@given(REQUESTS)
def test_a_request_survives_the_wire(request):
    assert through(request, edge_node_pb2.GenerateRequest) == request


@given(STATUSES)
def test_a_status_with_its_nested_and_optional_fields_survives_the_wire(status):
    assert through(status, edge_node_pb2.GetStatusResponse) == status


@given(TIMINGS, IDS, IDS)
def test_an_outcome_survives_the_wire(timings, name, failure):
    outcome = messages.Outcome(request_id=name, failure=failure, timings=timings, is_hit=True)
    assert through(outcome, controller_pb2.ReportOutcomeRequest) == outcome


def test_an_event_keeps_its_kind_even_when_all_its_fields_are_default():
    progress = messages.Progress(step=0, num_steps=0)
    packed = wire.pack_event(progress, edge_node_pb2.GenerateResponse, messages.GENERATE_EVENTS)
    sent = edge_node_pb2.GenerateResponse.FromString(packed.SerializeToString())
    assert wire.unpack_event(sent, messages.GENERATE_EVENTS) == progress


def test_an_event_of_no_kind_is_an_error():
    with pytest.raises(GenerationError, match="GenerateResponse holds no event"):
        wire.unpack_event(edge_node_pb2.GenerateResponse(), messages.GENERATE_EVENTS)


def test_an_unset_enum_is_refused_with_its_choices():
    status = edge_node_pb2.GetStatusResponse(node_id="edge-0")
    with pytest.raises(InvalidRequestError, match=r"role must be one of EDGE \(1\), .*, got 0"):
        wire.from_proto(status, messages.NodeStatus)


@pytest.mark.parametrize(
    ("kinds", "proto_class"),
    [
        (messages.GENERATE_EVENTS, edge_node_pb2.GenerateResponse),
        (messages.SUBMIT_EVENTS, controller_pb2.SubmitResponse),
    ],
)
def test_the_tables_of_events_are_the_protos(kinds, proto_class):
    oneof = proto_class.DESCRIPTOR.oneofs_by_name["event"]
    assert [field.name for field in oneof.fields] == [*kinds]


def test_the_stubs_are_what_the_protos_compile_to():
    done = subprocess.run(
        [sys.executable, "-m", "protos.compile", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr + done.stdout
