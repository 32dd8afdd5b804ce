"""The model cache: which models are resident, under a byte budget, pinned by leases.

Invariants, held between any two awaits:
  1. the bytes of resident models never exceed ``capacity_bytes - reserve_bytes``, those of host
     copies never ``host_capacity_bytes`` (host_tier.py);
  2. a leased model is never evicted: eviction closes the model to new leases, waits for the
     running ones, and only then frees it;
  3. a load that fails leaves the models that were resident before it resident, but for those
     that a reactive policy had evicted for it; an eviction that fails leaves its model in service.
One lock (``_changing``) orders loads and evictions. Leases never take it: they are counted on the
event loop, so a lease and the start of an eviction cannot interleave. Who waits for a missing model
holds its lease from the moment it is loaded, so it cannot be evicted between the two.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from edge_node.cache import policy
from edge_node.cache.host_tier import HostTier
from edge_node.catalog import Catalog, Entry
from edge_node.config import CacheConfig
from edge_node.engine.interface import Engine
from protos.errors import EdgeError, ModelTooLargeError, NotResidentError, OverloadedError
from protos.messages import Eviction, ModelInfo

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

    def lease(self, num_leases: int) -> None:
        """Count more leases."""
        self.num_leases += num_leases
        if num_leases:
            self.idle.clear()

    def release(self) -> None:
        """End one lease."""
        self.num_leases -= 1
        if self.num_leases == 0:
            self.idle.set()


@dataclass(slots=True)
class _Miss:
    """A load on behalf of requests."""

    task: asyncio.Task[_Record]
    """Ends with a record that everybody who waits holds a lease of."""
    num_waiting: int = 0


class ModelCache:
    """Keeps the node's resident models within its budget."""

    def __init__(self, config: CacheConfig, catalog: Catalog, engine: Engine) -> None:
        self.capacity_bytes = config.capacity_bytes - config.reserve_bytes
        """Bytes that resident models may take: the configured capacity without its reserve."""
        self._reserve_bytes = config.reserve_bytes
        self._catalog = catalog
        self._engine = engine
        self.host = HostTier(config.host_capacity_bytes, engine)
        """Copies in host memory."""
        self._policy = policy.make(config.policy)
        self._misses: dict[str, _Miss] = {}
        self._records: dict[str, _Record] = {}
        self._measured_bytes: dict[str, int] = {}
        self._load_s: dict[str, float] = {}
        self._changing = asyncio.Lock()

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
        record = self._leased(model_id)
        try:
            yield
        finally:
            record.release()

    @asynccontextmanager
    async def ready(self, model_id: str) -> AsyncIterator[float]:
        """Pin a model for a request; yield the seconds that it waited for a load, 0 on a hit.

        Under the policy "controller" a miss is refused; under the others the model is loaded.

        Raises:
            UnknownModelError: the catalog does not hold it.
            NotResidentError: it is not loaded, and only the controller loads.
            ModelTooLargeError: it does not fit the whole budget.
            ModelLoadError: its weights cannot be read.
            OverloadedError: memory is full.
        """
        began_s = time.perf_counter()
        is_hit = self._policy is None or model_id in self.resident
        if is_hit:
            record = self._leased(model_id)
        else:
            record = await self._missed(self._catalog.get(model_id))
        try:
            if self._policy:
                self._policy.used(model_id, record.bytes)
            yield 0.0 if is_hit else time.perf_counter() - began_s
        finally:
            record.release()

    def _leased(self, model_id: str) -> _Record:
        """Return a resident model's record, with a lease for the caller."""
        self._catalog.get(model_id)
        record = self._records.get(model_id)
        if record is None or record.is_closing:
            held = ", ".join(self.resident) or "none"
            raise NotResidentError(f"model {model_id!r} is not resident; resident: {held}")
        record.lease(1)
        return record

    async def _missed(self, entry: Entry) -> _Record:
        """Return the record of a model once it is loaded, with a lease for the caller."""
        name = entry.model_id
        if name not in self._misses:
            self._misses[name] = _Miss(asyncio.create_task(self._load_missing(entry)))
        miss = self._misses[name]
        miss.num_waiting += 1
        try:
            return await asyncio.shield(miss.task)
        except asyncio.CancelledError:
            miss.num_waiting -= 1
            if miss.task.done() and not miss.task.cancelled() and not miss.task.exception():
                miss.task.result().release()  # it was loaded at the same moment
            elif miss.num_waiting == 0:
                miss.task.cancel()
                self._forget(name, miss)  # it ends what it began; who comes now begins another
            raise

    def _forget(self, model_id: str, miss: _Miss) -> None:
        if self._misses.get(model_id) is miss:
            del self._misses[model_id]

    async def _load_missing(self, entry: Entry) -> _Record:
        """Load a model for whoever waits, evicting what the policy names."""
        own = self._misses[entry.model_id]
        try:
            async with self._changing:
                if entry.model_id not in self._records:
                    self._check_loadable(entry)
                    self._check_fits([entry])
                    await self._make_room(self._expected_bytes(entry))
                    await self._load(entry)
                # No await from here on: those who wait hold it before anybody can evict it.
                record = self._records[entry.model_id]
                record.lease(own.num_waiting)
                return record
        finally:
            self._forget(entry.model_id, own)

    async def _make_room(self, num_bytes: int) -> None:
        """Evict until so many bytes are free: idle models first, then after their leases."""
        while self._policy and self.used_bytes + num_bytes > self.capacity_bytes:
            idle = [name for name, record in self._records.items() if not record.num_leases]
            await self._evict(self._policy.victim(idle or list(self._records)))

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

    async def evict(self, model_id: str) -> Eviction:
        """Release one model after its leases.

        Raises:
            NotResidentError: it is not loaded.
        """
        self._catalog.get(model_id)
        began_s = time.perf_counter()
        async with self._changing:
            if model_id not in self._records:
                raise NotResidentError(f"model {model_id!r} is not resident, so nothing to evict")
            freed_bytes = await self._evict(model_id)
        return Eviction(freed_bytes=freed_bytes, evict_s=time.perf_counter() - began_s)

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
                    self._check_loadable(entry)
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
        if self.used_bytes + expected > self.capacity_bytes:
            raise OverloadedError(
                f"model {entry.model_id!r} needs {expected} bytes; {self.used_bytes} of the "
                f"budget's {self.capacity_bytes} are taken by {', '.join(self._records)}"
            )
        began_s = time.perf_counter()
        await self.host.hold(entry, expected)
        loaded_bytes = await self._engine.load(entry)
        self._measured_bytes[entry.model_id] = loaded_bytes
        if self.used_bytes + loaded_bytes > self.capacity_bytes:
            await self._engine.evict(entry.model_id)
            raise ModelTooLargeError(
                f"model {entry.model_id!r} measures {loaded_bytes} bytes after loading; "
                f"{self.capacity_bytes - self.used_bytes} of the budget are free"
            )
        self._load_s[entry.model_id] = time.perf_counter() - began_s
        self._records[entry.model_id] = _Record(loaded_bytes)
        logger.info("loaded %s: %d bytes", entry.model_id, loaded_bytes)
        working_bytes = self._engine.working_bytes(entry.model_id)
        if working_bytes is not None:
            level = logging.WARNING if working_bytes > self._reserve_bytes else logging.INFO
            logger.log(
                level,
                "%s: its largest batch takes %d bytes of working memory, reserve_bytes is %d",
                *(entry.model_id, working_bytes, self._reserve_bytes),
            )

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
        except asyncio.CancelledError:
            del self._records[model_id]  # the engine ends what it began, also when cancelled
            raise
        except EdgeError:
            record.is_closing = False
            raise
        del self._records[model_id]
        self.host.touch(model_id)
        logger.info("evicted %s: %d bytes", model_id, record.bytes)
        return record.bytes

    def _check_loadable(self, entry: Entry) -> None:
        if entry.model_id not in self.host:
            entry.check()

    def _check_fits(self, entries: list[Entry]) -> None:
        total = sum(map(self._expected_bytes, entries))
        if total > self.capacity_bytes:
            names = " + ".join(entry.model_id for entry in entries)
            raise ModelTooLargeError(
                f"{names}: {total} bytes needed, the budget for models is {self.capacity_bytes}"
            )

    def _expected_bytes(self, entry: Entry) -> int:
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
