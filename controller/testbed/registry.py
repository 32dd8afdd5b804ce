"""The nodes of a run: where they are, what they hold, whether they answer.

Responsible for liveness: a node lives while GetStatus answers or heartbeats come; one that stays
silent gets no more grants, and gets them again once it answers.
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Self

from controller.record.config import DeadlinesConfig
from protos.clients import EdgeNodeClient
from protos.config import ConfigError
from protos.errors import EdgeError, InvalidRequestError, NodeDownError
from protos.messages import CacheChange, NodeState, NodeStatus, NodeSummary, Role

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    """One node; ``client`` is open until the registry closes."""

    node_id: str
    address: str
    role: Role
    client: EdgeNodeClient
    status: NodeStatus | None = None
    is_alive: bool = False
    wanted: tuple[str, ...] | None = None
    """From a decision until its SetCache has ended: what it is to hold; the rest is evicted."""


class Registry:
    """Knows every node; use as ``async with``, all methods belong to the event loop."""

    def __init__(self, deadlines: DeadlinesConfig) -> None:
        self._deadlines = deadlines
        self._entries: dict[str, _Entry] = {}
        self._clients = contextlib.AsyncExitStack()  # a replaced one may still have calls running
        self._refreshes: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._refreshes:
            task.cancel()
        self._entries.clear()
        await self._clients.aclose()

    @property
    def heartbeat_interval_s(self) -> float:
        """How often a registered node is expected to call."""
        return self._deadlines.poll_interval_s

    async def attach(self, address: str, peer: str = "") -> NodeStatus:
        """Add the node that answers at ``address``.

        Raises:
            NodeDownError, DeadlineError: nobody answers; the address is named.
            ConfigError: another node has its node_id.
        """
        async with EdgeNodeClient(address, deadline_s=self._deadlines.call_s, peer=peer) as probe:
            status = await probe.status()
        held = self._entries.get(status.node_id)
        if held and held.address != address:
            raise ConfigError(
                f"node_id must be unique: {status.node_id!r} is at {held.address} and at {address}"
            )
        await self.register(status.node_id, address, status.role)
        self._heard(self._entries[status.node_id], status)
        return status

    async def register(self, node_id: str, address: str, role: Role) -> None:
        """Add a node, or move it to another address.

        Raises:
            InvalidRequestError: no node_id, or an address that is not HOST:PORT.
        """
        if not node_id or not address.rpartition(":")[2].isdigit():
            raise InvalidRequestError(
                f"a node needs a node_id and HOST:PORT, got {node_id!r} at {address!r}"
            )
        held = self._entries.get(node_id)
        if held and (held.address, held.role) == (address, role):
            return
        client = await self._clients.enter_async_context(
            EdgeNodeClient(address, deadline_s=self._deadlines.call_s, peer=node_id)
        )
        self._entries[node_id] = _Entry(node_id, address, role, client)
        logger.info("node %s at %s", role.name.lower(), address, extra={"node_id": node_id})

    def heartbeat(self, node_id: str, status: NodeStatus) -> None:
        """Note that a node lives.

        Raises:
            InvalidRequestError: it never registered.
        """
        if node_id not in self._entries:
            raise InvalidRequestError(f"node {node_id!r} is not registered; register it first")
        self._heard(self._entries[node_id], status)

    async def poll(self, node_id: str = "") -> None:
        """Ask one node, or all at once, for their status."""
        entries = [entry for entry in self._entries.values() if node_id in ("", entry.node_id)]
        await asyncio.gather(*(self._poll(entry) for entry in entries))

    def refresh(self, node_id: str) -> None:
        """Ask a node for its status soon, without waiting for it."""
        task = asyncio.create_task(self.poll(node_id))
        self._refreshes.add(task)
        task.add_done_callback(self._refreshes.discard)

    async def keep_polling(self) -> None:
        """Poll until cancelled."""
        while True:
            await asyncio.sleep(self._deadlines.poll_interval_s)
            await self.poll()

    def expect(self, node_id: str, models: tuple[str, ...]) -> None:
        """Send nobody to a node for what it will not hold; to be followed by ``set_cache``."""
        self._entries[node_id].wanted = models

    async def set_cache(self, node_id: str, models: tuple[str, ...]) -> CacheChange:
        """Make a node hold exactly these models.

        Raises:
            EdgeError: the node's refusal, or NodeDownError.
        """
        entry = self._entries[node_id]
        if entry.wanted is None:  # else a later decision may be waiting already
            entry.wanted = models
        try:
            return await entry.client.set_cache(models, deadline_s=self._deadlines.cache_s)
        finally:
            await self._poll(entry)
            if entry.wanted == models:
                entry.wanted = None

    def statuses(self, role: Role) -> dict[str, NodeStatus]:
        """Return the last status of every living node of a role, by node_id."""
        return {
            entry.node_id: entry.status
            for entry in self._entries.values()
            if entry.role is role and entry.is_alive and entry.status
        }

    def edges(self) -> dict[str, NodeStatus]:
        """Return the last status of every living edge node, in the order of their ids."""
        return dict(sorted(self.statuses(Role.EDGE).items()))

    def holders(self, model_id: str) -> list[str]:
        """Return the living edge nodes where a model is resident and stays so."""
        return [
            node_id
            for node_id in self.edges()
            if model_id in _resident(self._entries[node_id]) and model_id in self.expected(node_id)
        ]

    def expected(self, node_id: str) -> tuple[str, ...]:
        """Return the models that a node holds, or will hold once its latest order is done."""
        entry = self._entries[node_id]
        return _resident(entry) if entry.wanted is None else entry.wanted

    def cloud(self, model_id: str) -> str:
        """Return a living cloud whose catalog has the model, or an empty string."""
        for node_id, status in self.statuses(Role.CLOUD).items():
            if any(model.model_id == model_id for model in status.models):
                return node_id
        return ""

    def models(self) -> tuple[str, ...]:
        """Return every model of every catalog, in the order of the catalogs."""
        names = {model.model_id: None for status in self.last_statuses() for model in status.models}
        return tuple(names)

    def address(self, node_id: str) -> str:
        """Return a node's HOST:PORT."""
        return self._entries[node_id].address

    def role(self, node_id: str) -> Role:
        """Return what a node is."""
        return self._entries[node_id].role

    def last_statuses(self) -> list[NodeStatus]:
        """Return the last status of every node that ever answered, by node_id.

        Not in the order in which they came: the same run draws the same requests.
        """
        entries = sorted(self._entries.values(), key=lambda entry: entry.node_id)
        return [entry.status for entry in entries if entry.status]

    def summaries(self) -> tuple[NodeSummary, ...]:
        """Return the nodes as RunStatus shows them."""
        return tuple(
            NodeSummary(
                node_id=entry.node_id,
                address=entry.address,
                role=entry.role,
                is_alive=entry.is_alive,
                resident_models=_resident(entry),
            )
            for entry in self._entries.values()
        )

    async def _poll(self, entry: _Entry) -> None:
        try:
            status = await entry.client.status(deadline_s=self._deadlines.poll_s)
            if status.node_id != entry.node_id:
                raise NodeDownError(f"node {status.node_id!r} answers at {entry.address}")
        except EdgeError as error:
            if entry.is_alive:
                logger.warning("lost: %s", error, extra={"node_id": entry.node_id})
            entry.is_alive = False
        else:
            self._heard(entry, status)

    def _heard(self, entry: _Entry, status: NodeStatus) -> None:
        entry.status = status
        entry.is_alive = status.state is NodeState.SERVING


def _resident(entry: _Entry) -> tuple[str, ...]:
    models = entry.status.models if entry.status else ()
    return tuple(model.model_id for model in models if model.is_resident)
