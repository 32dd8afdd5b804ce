"""Joining a controller: register, then a heartbeat with the node's status, until cancelled."""

import asyncio
import logging

import grpc

from edge_node.node import Node
from protos import controller_pb2, edge_node_pb2
from protos.controller_pb2_grpc import ControllerServiceStub
from protos.errors import EdgeError
from protos.wire import OPTIONS, raises_errors, to_proto

logger = logging.getLogger(__name__)

_DEADLINE_S = 5.0
_RETRY_S = 2.0


async def keep_registered(node: Node, address: str, controller: str) -> None:
    """Register ``node`` under ``address``, and again whenever the controller forgot it."""
    peer = f"the controller at {controller}"
    async with grpc.aio.insecure_channel(controller, options=OPTIONS) as channel:
        stub = ControllerServiceStub(channel)
        while True:
            try:
                with raises_errors(peer):
                    reply = await stub.RegisterNode(
                        controller_pb2.RegisterNodeRequest(
                            node_id=node.config.node_id,
                            address=address,
                            role=f"ROLE_{node.config.role.upper()}",
                        ),
                        timeout=_DEADLINE_S,
                    )
                    logger.info("registered with %s", peer)
                    while True:
                        await asyncio.sleep(reply.heartbeat_interval_s)
                        status = to_proto(node.status(), edge_node_pb2.GetStatusResponse)
                        await stub.Heartbeat(
                            controller_pb2.HeartbeatRequest(
                                node_id=node.config.node_id, status=status
                            ),
                            timeout=_DEADLINE_S,
                        )
            except EdgeError as error:
                logger.warning("%s; trying again in %g s", error, _RETRY_S)
                await asyncio.sleep(_RETRY_S)
