"""The wire: dataclass <-> proto conversion, errors <-> status codes, channel and server options.

Responsible for all that knows both sides of a call. Not: what a message means.

A dataclass of messages.py mirrors one proto message: same field names, ``X | None`` for an
``optional`` field, a tuple for a ``repeated`` one, an ``Enum`` whose values are the proto numbers,
and a union of dataclasses for a message that is one ``oneof event``.
"""

import asyncio
import functools
import inspect
import logging
import types
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import is_dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message

from protos import errors

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Upper limit of one message; images travel in chunks far below it."""

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second listener
)
"""Options of every channel and every server."""

Convert: TypeAlias = Callable[[Any], Any] | None
"""Turns a field's value into its other form; None where both are the same."""


def to_proto(message: Any, proto_class: type[Message]) -> Message:
    """Return ``proto_class`` filled with the dataclass's fields; None leaves a field unset."""
    return proto_class(**_plain(message))


def _plain(message: Any) -> dict[str, Any]:
    """Return a message as a constructor of protos takes it: as a dict, enums as numbers."""
    plain = {}
    for name, _, convert in _fields(type(message), _to_plain):  # type: ignore[arg-type]  # hashable
        value = getattr(message, name)
        if value is not None:
            plain[name] = value if convert is None else convert(value)
    return plain


def _to_plain(_: str, hint: Any) -> Convert:
    if is_dataclass(hint):
        return _plain
    return attrgetter("value") if issubclass(hint, Enum) else None


def from_proto(proto: Message, cls: type[T]) -> T:
    """Return the dataclass ``cls`` with the proto's values; an unset ``optional`` becomes None.

    Raises:
        InvalidRequestError: an enum that is unset or unknown here.
    """
    values: dict[str, Any] = {}
    for name, is_optional, convert in _fields(cls, _from_plain):  # type: ignore[arg-type]  # hashable
        if is_optional and not proto.HasField(name):
            values[name] = None
        else:
            value = getattr(proto, name)
            values[name] = value if convert is None else convert(value)
    return cls(**values)


def _from_plain(name: str, hint: Any) -> Convert:
    if is_dataclass(hint):
        return lambda value: from_proto(value, typing.cast("type[Any]", hint))
    if not issubclass(hint, Enum):
        return None

    def member(value: int) -> Enum:
        try:
            return typing.cast("Enum", hint(value))
        except ValueError as error:
            known = ", ".join(f"{one.name} ({one.value})" for one in hint)
            raise errors.InvalidRequestError(
                f"{name} must be one of {known}, got {value}"
            ) from error

    return member


@functools.cache
def _fields(
    cls: type, converter: Callable[[str, Any], Convert]
) -> tuple[tuple[str, bool, Convert], ...]:
    """Return a dataclass's fields, read from its annotations once: name, is optional, converter."""

    def field(name: str, hint: Any) -> tuple[str, bool, Convert]:
        is_optional = isinstance(hint, types.UnionType)  # X | None
        if is_optional:
            hint = typing.get_args(hint)[0]
        if typing.get_origin(hint) is not tuple:
            return name, is_optional, converter(name, hint)
        convert = converter(name, typing.get_args(hint)[0])
        return name, is_optional, lambda values: tuple(map(convert, values) if convert else values)

    return tuple(field(name, hint) for name, hint in typing.get_type_hints(cls).items())


def pack_event(event: Any, proto_class: type[Message], kinds: dict[str, type]) -> Message:
    """Return a ``oneof event`` message holding ``event``, by a table name -> dataclass."""
    name = next(name for name, kind in kinds.items() if isinstance(event, kind))
    return proto_class(**{name: _plain(event)})


def unpack_event(proto: Message, kinds: dict[str, type]) -> Any:
    """Return the dataclass that a ``oneof event`` message holds."""
    name = proto.WhichOneof("event")
    if name is None:
        raise errors.GenerationError(f"{type(proto).__name__} holds no event")
    return from_proto(getattr(proto, name), kinds[name])


@contextmanager
def raises_errors(peer: str) -> Iterator[None]:
    """Turn a failed call into the error class that its status code stands for.

    Args:
        peer: who was called ("edge-0 at 127.0.0.1:50051"), named when nobody answers in time.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        cls = errors.BY_CODE.get(error.code(), errors.GenerationError)
        detail = error.details() or error.code().name
        if cls in (errors.NodeDownError, errors.DeadlineError) and peer not in detail:
            detail = f"{peer}: {detail}"
        raise cls(detail) from error


Handler = TypeVar("Handler", bound=Callable[..., Any])


def answers_errors(handler: Handler) -> Handler:
    """Turn an EdgeError that a servicer's method raises into its status code and message.

    Anything else is a defect: it is logged with its traceback and answered as INTERNAL. Works on
    unary methods (coroutines) and streaming ones (async generators).
    """
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def stream(self: Any, request: Message, context: Any) -> AsyncIterator[Message]:
            async with _aborting(context), aclosing(handler(self, request, context)) as responses:
                async for response in responses:
                    yield response

        return typing.cast("Handler", stream)

    @functools.wraps(handler)
    async def unary(self: Any, request: Message, context: Any) -> Message | None:
        async with _aborting(context):
            return await typing.cast("Awaitable[Message]", handler(self, request, context))
        return None

    return typing.cast("Handler", unary)


@asynccontextmanager
async def _aborting(context: grpc.aio.ServicerContext) -> AsyncIterator[None]:
    try:
        yield
    except grpc.aio.AbortError:
        raise
    except errors.EdgeError as error:
        logger.info("refused: %s: %s", type(error).__name__, error)
        await context.abort(error.code, str(error))
    except Exception as error:
        logger.exception("request failed")
        await context.abort(errors.GenerationError.code, f"{type(error).__name__}: {error}")


async def require_deadline(context: grpc.aio.ServicerContext, limit_s: float) -> float:
    """Return the seconds that the caller still waits, at most ``limit_s``.

    Raises:
        RequestCancelledError: the caller is gone already.
    """
    if context.cancelled():
        await asyncio.sleep(0)
        raise errors.RequestCancelledError("the caller cancelled before the request began")
    remaining_s = context.time_remaining()
    return limit_s if remaining_s is None else min(remaining_s, limit_s)
