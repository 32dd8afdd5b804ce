"""Joining a controller: register, then a heartbeat with the node's status, until cancelled."""

import asyncio
import logging

from edge_node.node import Node
from protos.clients import ControllerClient
from protos.errors import EdgeError
from protos.messages import Role

logger = logging.getLogger(__name__)

_DEADLINE_S = 5.0
_RETRY_S = 2.0


async def keep_registered(node: Node, address: str) -> None:
    """Register ``node`` under ``address``, and again whenever the controller forgot it."""
    controller = node.config.controller
    if not controller:
        return
    node_id, role = node.config.node_id, Role[node.config.role.upper()]
    async with ControllerClient(controller, deadline_s=_DEADLINE_S) as client:
        while True:
            try:
                interval_s = await client.register(node_id, address, role)
                logger.info("registered with the controller at %s", controller)
                while True:
                    await asyncio.sleep(interval_s)
                    await client.heartbeat(node_id, node.status())
            except EdgeError as error:
                logger.warning("%s; trying again in %g s", error, _RETRY_S)
                await asyncio.sleep(_RETRY_S)
