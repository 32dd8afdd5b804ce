"""A gRPC server as every process here runs one: health, reflection, an error for a taken port."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from protos.config import ConfigError
from protos.wire import OPTIONS

_PENDING = tuple(
    (f"grpc.server.max_pending_requests{bound}", 100_000) for bound in ("", "_hard_limit")
)
"""Calls that have come but not reached Python. gRPC cancels what is above 3,000 without a word;
here they reach the servicer, whose own limits refuse by name."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A running server."""

    address: str
    """HOST:PORT that it is bound to."""
    health: health.aio.HealthServicer

    async def say_not_serving(self) -> None:
        """Tell health checks that no new request is welcome."""
        await self.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)


@asynccontextmanager
async def listening(
    address: str, service: str, add: Callable[[grpc.aio.Server], None], grace_s: float = 2.0
) -> AsyncIterator[Listening]:
    """Serve one service while the block runs.

    Args:
        address: HOST:PORT; port 0 takes a free one.
        service: full name, for reflection.
        add: registers the servicer.
        grace_s: time that calls get when the block ends.

    Raises:
        ConfigError: the address is not HOST:PORT, or cannot be bound.
    """
    host, _, wanted = address.rpartition(":")
    if not (host and re.fullmatch(r"\d{1,5}", wanted) and int(wanted) < 2**16):
        raise ConfigError(f"address must be HOST:PORT with a port of 0..65535, got {address!r}")
    server = grpc.aio.server(options=OPTIONS + _PENDING)
    add(server)
    checks = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    names = (service, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ConfigError(f"cannot listen on {address}: the port is in use or not ours") from error
    await server.start()
    await checks.set("", health_pb2.HealthCheckResponse.SERVING)
    try:
        yield Listening(f"{host}:{port}", checks)
    finally:
        await checks.enter_graceful_shutdown()
        await server.stop(grace_s)
