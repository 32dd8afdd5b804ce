"""The model cache: which models are resident, under a byte budget, pinned by leases.

Invariants, held between any two awaits:
  1. the bytes of resident models never exceed ``capacity_bytes - reserve_bytes``;
  2. a leased model is never evicted: eviction closes the model to new leases, waits for the
     running ones, and only then frees it;
  3. a load that fails leaves the models that were resident before it resident.
One lock (``_changing``) orders loads and evictions. Leases never take it: they are counted on the
event loop, so a lease and the start of an eviction cannot interleave.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edge_node.catalog import Catalog, Entry
from edge_node.config import CacheConfig
from edge_node.engine import Engine
from protos.errors import EdgeError, ModelTooLargeError, NotResidentError, OverloadedError
from protos.messages import ModelInfo

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Record:
    """One resident model."""

    bytes: int
    num_leases: int = 0
    is_closing: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.idle.set()


class ModelCache:
    """Keeps the node's resident models within its budget."""

    def __init__(self, config: CacheConfig, catalog: Catalog, engine: Engine) -> None:
        self._budget_bytes = config.capacity_bytes - config.reserve_bytes
        self._catalog = catalog
        self._engine = engine
        self._records: dict[str, _Record] = {}
        self._measured_bytes: dict[str, int] = {}
        self._load_s: dict[str, float] = {}
        self._changing = asyncio.Lock()

    @property
    def capacity_bytes(self) -> int:
        """Bytes that resident models may take: the configured capacity without its reserve."""
        return self._budget_bytes

    @property
    def used_bytes(self) -> int:
        """Bytes of the resident models."""
        return sum(record.bytes for record in self._records.values())

    @property
    def resident(self) -> tuple[str, ...]:
        """Names of the resident models that take requests."""
        return tuple(name for name, record in self._records.items() if not record.is_closing)

    def infos(self) -> tuple[ModelInfo, ...]:
        """Return the catalog with each model's state."""
        return tuple(self._info(entry) for entry in self._catalog)

    @contextmanager
    def lease(self, model_id: str) -> Iterator[None]:
        """Pin a resident model while the block runs.

        Raises:
            UnknownModelError: the catalog does not hold it.
            NotResidentError: it is not loaded, or about to be evicted.
        """
        self._catalog.get(model_id)
        record = self._records.get(model_id)
        if record is None or record.is_closing:
            held = ", ".join(self.resident) or "none"
            raise NotResidentError(f"model {model_id!r} is not resident; resident: {held}")
        record.num_leases += 1
        record.idle.clear()
        try:
            yield
        finally:
            record.num_leases -= 1
            if record.num_leases == 0:
                record.idle.set()

    async def load(self, model_id: str) -> ModelInfo:
        """Make one model resident, evicting nothing.

        Raises:
            ModelTooLargeError: it needs more than the whole budget.
            OverloadedError: it does not fit beside the resident ones.
            ModelLoadError: its weights cannot be read.
        """
        entry = self._catalog.get(model_id)
        async with self._changing:
            await self._load(entry)
        return self._info(entry)

    async def evict(self, model_id: str) -> tuple[int, float]:
        """Release one model after its leases; return the freed bytes and the seconds.

        Raises:
            NotResidentError: it is not loaded.
        """
        self._catalog.get(model_id)
        began_s = time.perf_counter()
        async with self._changing:
            if model_id not in self._records:
                raise NotResidentError(f"model {model_id!r} is not resident, so nothing to evict")
            freed = await self._evict(model_id)
        return freed, time.perf_counter() - began_s

    async def set_cache(self, model_ids: Iterable[str]) -> float:
        """Make exactly these models resident; return the seconds it took.

        Nothing is touched when the set cannot fit or a file is damaged; when a load fails later,
        the previous set is restored.
        """
        entries = [self._catalog.get(model_id) for model_id in dict.fromkeys(model_ids)]
        began_s = time.perf_counter()
        async with self._changing:
            before = [self._catalog.get(name) for name in self._records]
            for entry in entries:
                if entry not in before:
                    entry.check()
            self._check_fits(entries)
            try:
                await self._move_to(entries)
            except (EdgeError, asyncio.CancelledError):
                logger.warning("caching decision failed, restoring the previous one")
                await self._move_to(before)
                raise
        return time.perf_counter() - began_s

    async def _move_to(self, entries: list[Entry]) -> None:
        wanted = {entry.model_id for entry in entries}
        for model_id in [name for name in self._records if name not in wanted]:
            await self._evict(model_id)
        for entry in entries:
            await self._load(entry)

    async def _load(self, entry: Entry) -> None:
        if entry.model_id in self._records:
            return
        expected = self._expected_bytes(entry)
        self._check_fits([entry])
        if self.used_bytes + expected > self._budget_bytes:
            raise OverloadedError(
                f"model {entry.model_id!r} needs {expected} bytes; {self.used_bytes} of the "
                f"budget's {self._budget_bytes} are taken by {', '.join(self._records)}"
            )
        began_s = time.perf_counter()
        loaded_bytes = await self._engine.load(entry)
        self._measured_bytes[entry.model_id] = loaded_bytes
        if self.used_bytes + loaded_bytes > self._budget_bytes:
            await self._engine.evict(entry.model_id)
            raise ModelTooLargeError(
                f"model {entry.model_id!r} measures {loaded_bytes} bytes after loading; "
                f"{self._budget_bytes - self.used_bytes} of the budget are free"
            )
        self._load_s[entry.model_id] = time.perf_counter() - began_s
        self._records[entry.model_id] = _Record(loaded_bytes)
        logger.info("loaded %s: %d bytes", entry.model_id, loaded_bytes)

    async def _evict(self, model_id: str) -> int:
        record = self._records[model_id]
        record.is_closing = True
        try:
            await record.idle.wait()
        except asyncio.CancelledError:
            record.is_closing = False
            raise
        try:
            await self._engine.evict(model_id)
        finally:
            del self._records[model_id]  # the engine ends what it began, also when cancelled
        logger.info("evicted %s: %d bytes", model_id, record.bytes)
        return record.bytes

    def _check_fits(self, entries: list[Entry]) -> None:
        total = sum(map(self._expected_bytes, entries))
        if total > self._budget_bytes:
            names = " + ".join(entry.model_id for entry in entries)
            raise ModelTooLargeError(
                f"{names}: {total} bytes needed, the budget for models is {self._budget_bytes}"
            )

    def _expected_bytes(self, entry: Entry) -> int:
        record = self._records.get(entry.model_id)
        if record:
            return record.bytes
        return self._measured_bytes.get(entry.model_id) or self._engine.estimate_bytes(entry)

    def _info(self, entry: Entry) -> ModelInfo:
        record = self._records.get(entry.model_id)
        config = entry.config
        return ModelInfo(
            model_id=entry.model_id,
            is_resident=record is not None and not record.is_closing,
            resident_bytes=self._measured_bytes.get(entry.model_id),
            disk_bytes=entry.disk_bytes(),
            load_s=self._load_s.get(entry.model_id),
            num_leases=record.num_leases if record else 0,
            max_num_steps=config.max_num_steps,
            default_num_steps=config.default_num_steps,
            default_guidance_scale=config.default_guidance_scale,
            width_px=config.width_px,
            height_px=config.height_px,
        )
