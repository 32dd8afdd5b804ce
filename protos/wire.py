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
from contextlib import aclosing, contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from protos.errors import (
    BY_CODE,
    DeadlineError,
    EdgeError,
    GenerationError,
    InvalidRequestError,
    NodeDownError,
    RequestCancelledError,
)

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


def to_proto(message: Any, proto_class: type[Message]) -> Message:
    """Return ``proto_class`` filled with the dataclass's fields; None leaves a field unset."""
    proto = proto_class()
    for field in fields(message):
        value = getattr(message, field.name)
        if value is None:
            continue
        if isinstance(value, tuple):
            target = getattr(proto, field.name)
            for item in value:
                if is_dataclass(item):
                    target.add().CopyFrom(to_proto(item, _element_class(proto, field.name)))
                else:
                    target.append(item)
        elif is_dataclass(value):
            target = getattr(proto, field.name)
            target.CopyFrom(to_proto(value, type(target)))
            target.SetInParent()
        else:
            setattr(proto, field.name, value.value if isinstance(value, Enum) else value)
    return proto


def _element_class(proto: Message, name: str) -> type[Message]:
    return type(getattr(type(proto)(), name).add())


def from_proto(proto: Message, cls: type[T]) -> T:
    """Return the dataclass ``cls`` with the proto's values; an unset ``optional`` becomes None.

    Raises:
        InvalidRequestError: an enum that is unset or unknown here.
    """
    hints = _hints(cls)  # type: ignore[arg-type]  # a class is hashable
    return cls(
        **{
            field.name: _from_field(proto, field.name, hints[field.name])
            for field in fields(cls)  # type: ignore[arg-type]  # every cls here is a dataclass
        }
    )


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _from_field(proto: Message, name: str, hint: Any) -> Any:
    args = typing.get_args(hint)
    if isinstance(hint, types.UnionType) and types.NoneType in args:
        if not proto.HasField(name):
            return None
        hint = next(arg for arg in args if arg is not types.NoneType)
    value = getattr(proto, name)
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        return tuple(from_proto(v, item) if is_dataclass(item) else v for v in value)  # type: ignore[arg-type]  # item is a class
    if is_dataclass(hint):
        return from_proto(value, typing.cast("type[Any]", hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(name, hint, value)
    return value


def _member(name: str, kind: type[Enum], value: int) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(f"{member.name} ({member.value})" for member in kind)
        raise InvalidRequestError(f"{name} must be one of {known}, got {value}") from error


def pack_event(event: Any, proto_class: type[Message], kinds: dict[str, type]) -> Message:
    """Return a ``oneof event`` message holding ``event``, by a table name -> dataclass."""
    name = next(name for name, kind in kinds.items() if isinstance(event, kind))
    proto = proto_class()
    target = getattr(proto, name)
    target.CopyFrom(to_proto(event, type(target)))
    target.SetInParent()
    return proto


def unpack_event(proto: Message, kinds: dict[str, type]) -> Any:
    """Return the dataclass that a ``oneof event`` message holds."""
    name = proto.WhichOneof("event")
    if name is None:
        raise GenerationError(f"{type(proto).__name__} holds no event")
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
        cls = BY_CODE.get(error.code(), GenerationError)
        detail = error.details() or error.code().name
        if cls in (NodeDownError, DeadlineError) and peer not in detail:
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
        async def stream(
            self: Any, request: Message, context: grpc.aio.ServicerContext
        ) -> AsyncIterator[Message]:
            try:
                async with aclosing(handler(self, request, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:  # noqa: BLE001 - the per-request boundary
                await _abort(context, error)

        return typing.cast("Handler", stream)

    @functools.wraps(handler)
    async def unary(
        self: Any, request: Message, context: grpc.aio.ServicerContext
    ) -> Message | None:
        try:
            return await typing.cast("Awaitable[Message]", handler(self, request, context))
        except Exception as error:  # noqa: BLE001 - the per-request boundary
            await _abort(context, error)
            return None

    return typing.cast("Handler", unary)


async def _abort(context: grpc.aio.ServicerContext, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, EdgeError):
        logger.info("refused: %s: %s", type(error).__name__, error)
        await context.abort(error.code, str(error))
    logger.error("request failed", exc_info=error)
    await context.abort(GenerationError.code, f"{type(error).__name__}: {error}")


async def require_deadline(context: grpc.aio.ServicerContext, limit_s: float) -> float:
    """Return the seconds that the caller still waits, at most ``limit_s``.

    Raises:
        RequestCancelledError: the caller is gone already.
    """
    if context.cancelled():
        await asyncio.sleep(0)
        raise RequestCancelledError("the caller cancelled before the request began")
    remaining_s = context.time_remaining()
    return limit_s if remaining_s is None else min(remaining_s, limit_s)
