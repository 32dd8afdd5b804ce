"""The host tier: copies of models in host memory, so that a reload does not touch the disk.

Weights do not change, so a copy is made once, when a model comes from the disk, and an eviction
from the device copies nothing. The bytes of the copies never exceed the budget; the least recently
used goes first. Knows the engine, and nothing of what is resident on the device.
"""

import logging

from edge_node.catalog import Entry
from edge_node.engine.interface import Engine

logger = logging.getLogger(__name__)


class HostTier:
    """Keeps copies within a byte budget; one caller at a time."""

    def __init__(self, capacity_bytes: int, engine: Engine) -> None:
        self.capacity_bytes = capacity_bytes
        self._engine = engine
        self._bytes: dict[str, int] = {}  # the least recently used first

    @property
    def used_bytes(self) -> int:
        """Bytes of all copies."""
        return sum(self._bytes.values())

    def __contains__(self, model_id: str) -> bool:
        return model_id in self._bytes

    async def hold(self, entry: Entry, expected_bytes: int) -> None:
        """Make a copy of a model, or mark the one there is as used; nothing where it cannot fit.

        Raises:
            ModelLoadError: its weights cannot be used.
            OverloadedError: the host's memory is full.
        """
        if entry.model_id in self._bytes:
            self.touch(entry.model_id)
            return
        if expected_bytes > self.capacity_bytes or self.capacity_bytes == 0:
            return
        await self._make_room(expected_bytes)
        num_bytes = await self._engine.stage(entry)
        if num_bytes > self.capacity_bytes:
            await self._engine.unstage(entry.model_id)
            return
        try:
            await self._make_room(num_bytes)  # where it is more than was expected
        except BaseException:
            await self._engine.unstage(entry.model_id)
            raise
        self._bytes[entry.model_id] = num_bytes
        logger.info("host copy of %s: %d bytes", entry.model_id, num_bytes)

    def touch(self, model_id: str) -> None:
        """Mark a copy as the most recently used, if there is one."""
        if model_id in self._bytes:
            self._bytes[model_id] = self._bytes.pop(model_id)

    async def _make_room(self, num_bytes: int) -> None:
        while self.used_bytes + num_bytes > self.capacity_bytes:
            oldest = next(iter(self._bytes))
            del self._bytes[oldest]
            await self._engine.unstage(oldest)
            logger.info("dropped the host copy of %s", oldest)
