"""One live run, wired together: nodes, registry, server, users, policy, clock, records.

Responsible for the order in which the parts start and end, and that whatever happens every request
has its record: who is still open when the run ends, fails or is interrupted, is closed with the
reason.
"""

import asyncio
import contextlib
import logging
import math
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from controller.cell import workload
from controller.cell.dynamics import ModelTable
from controller.cell.radio import RadioCell
from controller.policies import baselines
from controller.policies.policy import Policy
from controller.record.config import LEARNED, NodeSpec, RunConfig
from controller.record.request_log import NodeRecord, RequestLog
from controller.testbed import inputs as run_inputs
from controller.testbed.dispatcher import Dispatcher
from controller.testbed.display import Display, Snapshot
from controller.testbed.inputs import Inputs
from controller.testbed.interface import run_frames
from controller.testbed.live import LiveTestbed
from controller.testbed.node_process import started_node
from controller.testbed.registry import Registry
from controller.testbed.servicer import ControllerServicer, serving
from controller.testbed.users import OnImage, User, emulate
from profiling import records
from protos import manifest
from protos.config import ConfigError, write_json
from protos.errors import EdgeError
from protos.messages import Role
from protos.seeds import stream

logger = logging.getLogger(__name__)


async def run(config: RunConfig, inputs: Inputs, folder: Path, display: Display) -> bool:
    """Run to the end; return whether it came there (False: interrupted). Records are in ``folder``.

    Raises:
        ConfigError: a node that is not there or refuses its configuration, a port in use, a
            profile that lacks a model; no request was taken.
        EdgeError: a started node failed.
    """
    task = asyncio.current_task()
    if task:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with RequestLog(folder / "requests.sqlite") as log:
        async with (
            Registry(config.deadlines) as registry,
            _joined(config, inputs, folder, registry, display),
        ):
            _write_nodes(log, registry)
            try:
                async with _parts(config, inputs, registry, log) as parts:
                    return await _drive(parts, folder, display)
            finally:
                _write_nodes(log, registry)


def describe(config: RunConfig, inputs: Inputs, folder: Path) -> None:
    """Write config.json, manifest.json and profile.json: what the run is, before it starts."""
    write_json(folder / "config.json", config)
    write_json(folder / "manifest.json", manifest.collect())
    records.save(inputs.profile, folder / "profile.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Parts:
    """A run that listens."""

    config: RunConfig
    inputs: Inputs
    address: str
    registry: Registry
    policy: Policy
    dispatcher: Dispatcher
    testbed: LiveTestbed
    log: RequestLog


@contextlib.asynccontextmanager
async def _joined(
    config: RunConfig, inputs: Inputs, folder: Path, registry: Registry, display: Display
) -> AsyncIterator[None]:
    """Have every node of the configuration in the registry while the block runs."""
    async with contextlib.AsyncExitStack() as stack:
        secret_file = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "secret"
        secret_file.touch(mode=0o600)
        secret_file.write_bytes(inputs.secret)

        num_started = sum(bool(spec.start) for spec in config.nodes)
        num_threads = max(1, (os.cpu_count() or 1) // max(1, num_started))

        async def join(number: int, spec: NodeSpec) -> None:
            if spec.attach:
                await _attach(registry, spec.attach, f"nodes[{number}].attach")
                return
            display.say(f"starting {spec.start}")
            node = await stack.enter_async_context(
                started_node(
                    spec.start,
                    log_file=folder / f"node-{number}.log",
                    deadlines=config.deadlines,
                    num_threads=num_threads,
                    options=("--ticket-secret-file", str(secret_file)),
                )
            )
            await _attach(registry, node.address, spec.start, node.node_id)

        joins = (join(number, spec) for number, spec in enumerate(config.nodes))
        for outcome in await asyncio.gather(*joins, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
        if not registry.statuses(Role.CLOUD):
            display.say("no cloud among the nodes: requests for models not cached are rejected")
        yield


async def _attach(registry: Registry, address: str, where: str, peer: str = "") -> None:
    try:
        await registry.attach(address, peer)
    except EdgeError as error:
        raise ConfigError(f"{where}: no edge node answers at {address}: {error}") from error


@contextlib.asynccontextmanager
async def _parts(
    config: RunConfig, inputs: Inputs, registry: Registry, log: RequestLog
) -> AsyncIterator[_Parts]:
    """Have the controller serve while the block runs; then close what is open."""
    served = [status.models for status in registry.last_statuses()]
    table = run_inputs.match(inputs.profile, served, config)
    cell = RadioCell(config.radio, config.num_users, stream(config.seed, "radio"))
    policy = _policy(config, table, registry)
    dispatcher = Dispatcher(config, log, registry, cell, table, inputs.secret)
    testbed = LiveTestbed(
        config, registry=registry, dispatcher=dispatcher, cell=cell, table=table, log=log
    )
    servicer = ControllerServicer(registry, dispatcher, testbed.run_status)
    async with serving(config.address, servicer) as bound:
        try:
            yield _Parts(
                config=config,
                inputs=inputs,
                address=bound.address,
                registry=registry,
                policy=policy,
                dispatcher=dispatcher,
                testbed=testbed,
                log=log,
            )
        finally:
            dispatcher.end()
            dispatcher.close("the run ended before its image came")
            await testbed.close()


def _policy(config: RunConfig, table: ModelTable, registry: Registry) -> Policy:
    """Return the policy that the configuration names.

    Raises:
        ConfigError: a checkpoint that is not there or of another setting; both sides are named.
    """
    edges = registry.edges()
    if config.policy == LEARNED:
        from controller.training import checkpoints  # noqa: PLC0415 - torch is for those who learn

        return checkpoints.for_run(
            Path(config.checkpoint),
            model_ids=table.model_ids,
            num_nodes=len(edges),
            history_frames=config.history_frames,
            radio=config.radio,
            slot_s=config.slot_s,
        )
    capacity_bytes = min((edge.capacity_bytes for edge in edges.values()), default=0)
    scenario = config.scenario(len(edges), capacity_bytes)
    return baselines.build(config.policy, scenario, stream(config.seed, "policy"))


async def _drive(parts: _Parts, folder: Path, display: Display) -> bool:
    """Run frames, users and display side by side; return whether all frames were run."""
    config, testbed = parts.config, parts.testbed
    display.say(f"controller at {parts.address}; records in {folder}")
    try:
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(parts.registry.keep_polling()),
                tasks.create_task(display.keep_showing(lambda: _snapshot(parts))),
            ]
            emulation = tasks.create_task(_emulate(parts, folder))
            await run_frames(
                testbed,
                parts.policy,
                num_frames=config.num_frames,
                slots_per_frame=config.slots_per_frame,
            )
            parts.dispatcher.end()
            await _drained(emulation, parts.dispatcher, config.deadlines.drain_s)
            for task in beside:
                task.cancel()
    except asyncio.CancelledError:
        task_self = asyncio.current_task()
        if task_self is None or not task_self.cancelling():
            raise
        task_self.uncancel()
        display.say("interrupted: closing the records")
        return False
    return True


async def _drained(emulation: asyncio.Task[None], dispatcher: Dispatcher, limit_s: float) -> None:
    try:
        async with asyncio.timeout(limit_s):
            await asyncio.shield(emulation)
            await dispatcher.drained()
    except TimeoutError:
        logger.warning("requests still run %g s after the last slot", limit_s)
        emulation.cancel()


async def _emulate(parts: _Parts, folder: Path) -> None:
    config, inputs = parts.config, parts.inputs
    arrivals = workload.draw(
        config.workload,
        num_frames=config.num_frames,
        slots_per_frame=config.slots_per_frame,
        num_users=config.num_users,
        models=parts.registry.models(),
        prompts=inputs.prompts,
        rng=stream(config.seed, "workload"),
    )
    keep = _gallery(folder, parts.log, len(arrivals), config.limits.max_images)
    async with contextlib.AsyncExitStack() as stack:
        users = [
            await stack.enter_async_context(
                User(parts.address, config.deadlines, slot_s=config.slot_s, on_image=keep)
            )
            for _ in range(config.num_users)
        ]
        await parts.testbed.begun.wait()
        await emulate(
            arrivals, users, slot_s=config.slot_s, upload_bytes=config.workload.upload_bytes
        )


def _gallery(folder: Path, log: RequestLog, expected: int, limit: int) -> OnImage:
    """Return what keeps at most ``limit`` of the expected images, spread over the run."""
    every = math.ceil(expected / limit) if limit else 0
    seen = 0

    def keep(request_id: str, data: bytes) -> None:
        nonlocal seen
        seen += 1
        if every and (seen - 1) % every == 0:
            file = folder / "images" / f"{request_id}.png"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(data)
            log.attach_image(request_id, file.relative_to(folder).as_posix())

    return keep


def _snapshot(parts: _Parts) -> Snapshot:
    return Snapshot(
        status=parts.testbed.run_status(),
        averages=parts.log.averages(),
        num_slots_per_frame=parts.config.slots_per_frame,
        has_begun=parts.testbed.begun.is_set(),
        left_s=parts.testbed.left_s,
        problem=_latest_problem(parts.log),
    )


def _latest_problem(log: RequestLog) -> str:
    refused = [cache for cache in log.caches() if cache.error]
    if not refused:
        return ""
    last = refused[-1]
    return f"SetCache of frame {last.frame + 1} at {last.node_id}: {last.error}"


def _write_nodes(log: RequestLog, registry: Registry) -> None:
    """Record the nodes that ever answered, as they are now."""
    summaries = {summary.node_id: summary for summary in registry.summaries()}
    for status in registry.last_statuses():
        summary = summaries[status.node_id]
        log.write_node(
            NodeRecord(
                node_id=summary.node_id,
                address=summary.address,
                role=summary.role.name.lower(),
                capacity_bytes=status.capacity_bytes,
                device=status.telemetry.device_name,
                is_alive=summary.is_alive,
            )
        )
