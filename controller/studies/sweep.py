"""All training runs of a study, each once, and their table and figure.

Responsible for processes and for which training runs are still to do. Not: what a study is
(study.py) and looks like (table.py, figures.py).
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from controller.studies import study as studies
from controller.studies import table
from controller.studies.results import BaselineRecord, CellRecord, CurvePoint, StudyRecords
from controller.studies.study import Cell, SuiteConfig
from controller.training import checkpoints, run_folder, train
from controller.training.metrics import Metrics
from controller.training.train import Progress
from protos import logs, manifest
from protos.config import ConfigError, read_json, require, require_non_negative, write_json

Submit = Callable[..., Future[Any]]
"""Begins a call elsewhere: (function, *arguments) -> its future."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Do the training runs of a study that have no record yet; write its table and figure.

    A finished training run leaves its record in results/studies/STUDY.jsonl.gz and is not done
    again; one that was stopped goes on from its latest checkpoint, in runs/STUDY. Training runs are
    single-threaded; several run side by side, each in a process of its own, or with --ray as many
    as the cluster has cores. Its hosts need this project installed at the same commit; checkpoints
    stay in the working directories of its workers, records come here.

    $ python -m controller sweep --quick                          two minutes, to see what it does
    $ python -m controller sweep --config actors.toml --workers 1
    $ python -m controller sweep --config actors.toml --report    only the table and the figure
    $ python -m controller sweep --config actors.toml --ray HOST:6379
    """

    config: Path | None = None
    """The study: a TOML file, or the name of a shipped one."""
    quick: bool = False
    """The study quick.toml."""
    workers: int = 0
    """Training runs side by side; 0: as many as cores."""
    ray: str = ""
    """Address of a Ray cluster, or "local" (pip install .[ray])."""
    report: bool = False
    """Train nothing; use what is recorded."""

    def __post_init__(self) -> None:
        require_non_negative(self, "workers")
        require(bool(self.config) != self.quick, "sweep needs either --config or --quick")

    def __call__(self) -> int:
        """Train and rate what lacks a record, then report."""
        file = self.config or Path("quick.toml")
        study = studies.load(file)
        todo, records = studies.cells(study), StudyRecords(Path(study.results), file.stem)
        console = Console(highlight=False, soft_wrap=True)
        if not self.report:
            cores = self.workers or os.cpu_count()
            with _cluster(self.ray) if self.ray else _pool(cores) as submit:
                for line in run(todo, records, submit):
                    console.print(line, markup=False)
        written = table.write(study, todo, records)
        console.print(f"{written.read_text()}\n{written}", markup=False)
        return 0


def run(todo: Sequence[Cell], records: StudyRecords, submit: Submit) -> Iterator[str]:
    """Train and rate what has no record yet; yield a line for each that is done."""
    once = {cell.key: cell for cell in todo}  # several variants may come to the same training run
    left = [cell for key, cell in once.items() if key not in records.runs]
    yield f"{len(once) - len(left)} of {len(once)} training runs are recorded already"
    began_s = time.perf_counter()
    suites = dict.fromkeys(cell.suite for cell in todo if cell.suite not in records.baselines)
    rating = [submit(rate_baselines, suite) for suite in suites]
    training = [submit(run_cell, cell, records.study) for cell in left]
    num_done = 0
    for future in as_completed([*rating, *training]):
        record = future.result()
        records.add(record)
        if isinstance(record, BaselineRecord):  # these come first, and say nothing of a run's time
            if not num_done:
                began_s = time.perf_counter()
            continue
        num_done += 1
        left_s = (time.perf_counter() - began_s) / num_done * (len(left) - num_done)
        yield (
            f"{num_done}/{len(left)} {record.cell.name} {record.cell.variant}: score "
            f"{record.whole.score:.3f}, allocation {record.allocation.score:.3f}, "
            f"{record.curve[-1].cpu_s:.0f} s of CPU time; about {left_s / 60:.0f} min left"
        )


@contextlib.contextmanager
def _pool(workers: int | None) -> Iterator[Submit]:
    """Lend processes; where one of them fails, nothing more is begun."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Submit]:
    """Lend the cores of a Ray cluster, one for each call; ConfigError where there is none."""
    try:
        import ray  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise ConfigError("--ray needs the package ray: pip install .[ray]") from error
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"--ray {address}: {error}") from error
    try:
        yield lambda call, *args: ray.remote(num_cpus=1)(call).remote(*args).future()
    finally:
        ray.shutdown()


def rate_baselines(suite: SuiteConfig) -> BaselineRecord:
    """Rate the baselines on some test episodes."""
    episodes = suite.build()
    return BaselineRecord(
        suite=suite,
        manifest=manifest.collect(),
        whole=tuple(episodes.baselines()),
        allocation=tuple(episodes.allocations()),
    )


def run_cell(cell: Cell, study: str) -> CellRecord:
    """Train a cell in its folder, from its latest checkpoint where there is one; rate it."""
    folder, scenario = Path(cell.config.output) / study / cell.name, cell.suite.scenario
    if not (folder / "config.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        run_folder.describe(folder, cell.config, scenario)
    logs.setup("INFO", folder / "events.log")
    torch.set_num_threads(1)
    recorder = CurveRecorder(folder / "curve.json", scenario.num_frames)
    train.train(cell.config, scenario, folder, recorder)
    policy, episodes = checkpoints.load(folder, scenario), cell.suite.build()
    return CellRecord(
        cell=cell,
        manifest=read_json(folder / "manifest.json", manifest.Manifest),
        curve=tuple(recorder.curve),
        whole=episodes.rate("t2drl", lambda _: policy),
        allocation=episodes.rate_allocation("t2drl", lambda _: policy.decide_allocations),
    )


class CurveRecorder(Progress):
    """Evaluations so far, with the CPU time that they took, kept across restarts."""

    def __init__(self, file: Path, num_frames: int) -> None:
        super().__init__()
        self._file, self._num_frames_each = file, num_frames
        self.curve: list[CurvePoint] = []

    def begin(self, num_done: int, num_frames: int) -> None:
        """Drop what a crash left behind after the checkpoint."""
        super().begin(num_done, num_frames)
        known = read_json(self._file, list[CurvePoint]) if self._file.is_file() else []
        self.curve = [one for one in known if one.episode * self._num_frames_each <= num_done]
        before_s = self.curve[-1].cpu_s if self.curve else 0.0
        self._offset_s = before_s - time.process_time()

    def show(self, num_done: int, row: Metrics) -> None:
        """Keep a row's evaluation."""
        if "evaluation/score" not in row:
            return
        point = CurvePoint(
            episode=num_done // self._num_frames_each,
            cpu_s=self._offset_s + time.process_time(),
            score=row["evaluation/score"],
            allocation_score=row["evaluation/allocation_score"],
        )
        self.curve.append(point)
        write_json(self._file, self.curve)
