"""The node's process: builds the node, listens, drains on SIGTERM and Ctrl-C.

The device has the main thread, where it may use every core; the event loop has another.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from edge_node.catalog import Catalog
from edge_node.config import NodeConfig
from edge_node.engine.diffusers_engine import DiffusersEngine
from edge_node.node import Node
from edge_node.registration import keep_registered
from edge_node.servicer import EdgeNodeServicer
from protos import edge_node_pb2
from protos.config import ConfigError
from protos.edge_node_pb2_grpc import add_EdgeNodeServiceServicer_to_server
from protos.serving import listening

logger = logging.getLogger(__name__)

SERVICE = edge_node_pb2.DESCRIPTOR.services_by_name["EdgeNodeService"].full_name
"""Name under which reflection shows the service."""


def run(config: NodeConfig, announce: Callable[[str], object] = sys.stdout.write) -> None:
    """Serve until SIGTERM or SIGINT; then refuse new requests, finish the running ones, return.

    Args:
        config: of the node.
        announce: gets the address, once it listens.

    Raises:
        ConfigError: a source outside the roots, no secret file, no such device.
    """
    try:
        catalog = Catalog(config.models, [Path(root) for root in config.model_roots])
        engine = DiffusersEngine(config.engine)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    secret = None
    if config.ticket_secret_file:
        file = Path(config.ticket_secret_file)
        try:
            secret = file.read_bytes().strip()
        except OSError as error:
            raise ConfigError(f"cannot read ticket_secret_file {file}: {error.strerror}") from error
    with contextlib.suppress(KeyboardInterrupt):
        engine.thread.run(serve(Node(config, catalog, engine, secret), announce))


async def serve(node: Node, announce: Callable[[str], object]) -> None:
    """Serve until cancelled; then drain."""
    config = node.config
    try:
        await node.start()
        add = partial(add_EdgeNodeServiceServicer_to_server, EdgeNodeServicer(node))
        async with listening(config.address, SERVICE, add) as bound:
            announce(f"{config.node_id} ({config.role}) listening on {bound.address}\n")
            sys.stdout.flush()
            registered = asyncio.create_task(keep_registered(node, bound.address))
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.get_running_loop().create_future()  # until cancelled
            logger.info("draining: at most %g s", config.limits.drain_s)
            node.begin_drain()
            await bound.say_not_serving()
            registered.cancel()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(node.drained(), config.limits.drain_s)
    finally:
        await node.close()
