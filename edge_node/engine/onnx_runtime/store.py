"""Keeps exported nets on disk, by what they depend on, and has missing ones exported.

FOLDER/<weights>/<net>-<versions, CPU>/ holds one graph. A new one is written apart and moved there,
so it is there whole or not at all, whoever is killed when.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_node.catalog import weights_digest
from edge_node.engine.onnx_runtime.graph import DIGEST_CHARS, Answer, Graph, Request, Source

logger = logging.getLogger(__name__)

_ABANDONED_S = 24 * 3600.0
"""No export takes so long: what one left behind is removed."""


def default_folder() -> Path:
    """Return the folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "edge-aigc-testbed" / "graphs"


class GraphStore:
    """The graphs of one folder.

    graph = await store.graph("scene-base", source)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.export_s = 0.0
        """Seconds that exports have taken in this process."""
        self._asking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def knows(self, net: Path) -> bool:
        """Return whether there is a graph of a net's weights, of whatever versions."""
        return (self._folder / weights_digest(net)[:DIGEST_CHARS]).is_dir()

    async def graph(self, model_id: str, source: Source) -> Graph | None:
        """Return a net's graph, exported now where there is none; None where that fails.

        What goes wrong is said in the log: a net without a graph runs in torch.
        """
        try:
            folder = self._folder.joinpath(*await asyncio.to_thread(source.keys))
            try:
                return await asyncio.to_thread(Graph.opened, folder)
            except FileNotFoundError:
                logger.info("%s: exporting its %s, once, to %s", model_id, source.net, folder)
            except ValueError as error:
                logger.warning("%s: exporting its %s again: %s", model_id, source.net, error)
            await self._export(source, folder)
            return await asyncio.to_thread(Graph.opened, folder)
        except (OSError, ValueError) as error:
            logger.warning(
                "%s: its %s runs in torch, not in ONNX Runtime: %s", *(model_id, source.net, error)
            )
            return None

    def close(self) -> None:
        """End the exporting process, if there is one."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    async def _export(self, source: Source, folder: Path) -> None:
        """Have a graph exported, and end that where the caller is cancelled.

        Raises:
            ValueError: it failed.
            OSError: the folder cannot be written.
        """
        began_s = time.perf_counter()
        work = asyncio.ensure_future(asyncio.to_thread(self._ask, source, folder))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if self._process:
                self._process.kill()
            await asyncio.wait([work])
            work.exception()  # retrieved: it was ended
            raise
        finally:
            self.export_s += time.perf_counter() - began_s

    def _ask(self, source: Source, folder: Path) -> None:
        """Wait for an export, in a thread."""
        with self._asking, self._scratch() as scratch:
            process = self._exporter()
            if process.stdin is None or process.stdout is None:
                raise TypeError("the exporting process has no pipes")
            request = Request(source=source, folder=str(folder), scratch=str(scratch))
            with contextlib.suppress(BrokenPipeError):  # it has ended: below
                process.stdin.write(msgspec.json.encode(request) + b"\n")
            line = process.stdout.readline()
            if not line:
                code = process.wait()
                told = f"by signal {-code} (9: mostly as memory was full)" if code < 0 else code
                raise ValueError(f"the exporting process ended: {told}")
        answer = msgspec.json.decode(line, type=Answer)
        if answer.error:
            raise ValueError(answer.error)

    def _exporter(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_node.engine.onnx_runtime.export"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return self._process

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="partial-", dir=self._folder))
        for other in self._folder.glob("partial-*"):
            with contextlib.suppress(FileNotFoundError):
                if scratch.stat().st_mtime - other.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(other, ignore_errors=True)
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
