"""Edge nodes as child processes: started, found, stopped; only our own children."""

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.record.config import DeadlinesConfig
from protos.config import ConfigError
from protos.errors import NodeDownError

logger = logging.getLogger(__name__)

_LISTENING = re.compile(rb"^(\S+) \((\w+)\) listening on (\S+:\d+)\s*$")

_SHARING = {"PYTHONUNBUFFERED": "1", "OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True, kw_only=True, slots=True)
class StartedNode:
    """A child that listens."""

    node_id: str
    address: str
    pid: int


@contextlib.asynccontextmanager
async def started_node(
    config_file: str,
    *,
    log_file: Path,
    deadlines: DeadlinesConfig,
    num_threads: int,
    options: Sequence[str] = (),
    command: Sequence[str] = (sys.executable, "-m", "edge_node"),
) -> AsyncIterator[StartedNode]:
    """Run an edge node on a free port while the block runs; SIGTERM, then kill.

    Args:
        config_file: what ``serve --config`` takes: a file, or the name of a shipped one.
        log_file: gets the child's standard error.
        deadlines: until it listens, and between SIGTERM and kill.
        num_threads: of its nets, where the environment and the node's configuration say nothing.
            Nodes on one host that each take every core, and spin while they wait, slow each
            other down tenfold: give each a share.
        options: more command line of ``serve``.
        command: the program; tests replace it.

    Raises:
        ConfigError: no such configuration file, or the node refuses it.
        NodeDownError: it ended, or did not listen in time; its last line is named.
    """
    arguments = ["serve", "--config", config_file, "--address", "127.0.0.1:0", *options]
    with log_file.open("wb") as log:
        child = await asyncio.create_subprocess_exec(
            *command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            env=_SHARING | {"OMP_NUM_THREADS": str(num_threads)} | os.environ,
            start_new_session=True,  # Ctrl-C is ours: the child is stopped after its requests
        )
    try:
        yield await _listening(child, config_file, log_file, deadlines.start_s)
    finally:
        await _stop(child, deadlines.stop_s)


async def _listening(
    child: asyncio.subprocess.Process, config_file: str, log_file: Path, deadline_s: float
) -> StartedNode:
    if child.stdout is None:
        raise ValueError("the child needs a pipe as its standard output")
    try:
        async with asyncio.timeout(deadline_s):
            async for line in child.stdout:
                found = _LISTENING.match(line)
                if found:
                    node_id, _, address = (part.decode() for part in found.groups())
                    logger.info("started at %s, pid %d", address, child.pid)
                    return StartedNode(node_id=node_id, address=address, pid=child.pid)
            code = await child.wait()
    except TimeoutError as error:
        raise NodeDownError(
            f"the node of {config_file} did not listen within {deadline_s:g} s"
        ) from error
    lines = log_file.read_text(errors="replace").strip().splitlines() or ["(no output)"]
    message = f"the node of {config_file} ended with code {code}: {lines[-1][:500]}"
    raise ConfigError(message) if code == 2 else NodeDownError(message)


async def _stop(child: asyncio.subprocess.Process, grace_s: float) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        try:
            await asyncio.wait_for(child.wait(), grace_s)
        except TimeoutError:
            logger.warning("pid %d did not drain within %g s: killed", child.pid, grace_s)
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    child._transport.close()  # type: ignore[attr-defined]  # its pipe, now
