"""The controller as users start it: real processes, real gRPC, real diffusers models."""

import asyncio
import dataclasses
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from PIL import Image
from rich.console import Console

from controller.cell import workload
from controller.cell.dynamics import CAUSES
from controller.policies import baselines
from controller.record.config import DeadlinesConfig, RunConfig
from controller.record.request_log import RequestLog, RequestRecord
from controller.testbed import inputs, run
from controller.testbed.display import Display
from controller.testbed.users import User
from protos import config as configs
from protos.clients import ControllerClient
from protos.messages import Submission
from protos.seeds import stream
from tests.integration.live_runs import ENV, ROOT, fake_node, write_node, write_run


@pytest.fixture
def small_run(tmp_path: Path, model_root: Path) -> Path:
    """A run of an edge that holds one of two models, and a cloud; both real processes."""
    edge = write_node(tmp_path, "edge", model_root, 12_000_000)
    return write_run(tmp_path, edge, write_node(tmp_path, "cloud", model_root, 10**9))


def started(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "controller", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENV,
    )


def ended(process: subprocess.Popen) -> subprocess.CompletedProcess:
    out, err = process.communicate(timeout=90)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def folder_of(file: Path) -> Path:
    (folder,) = (file.parent / "runs" / file.stem).iterdir()
    return folder


def rows_of(folder: Path):
    with RequestLog(folder / "requests.sqlite") as log:
        return log.rows(), log.caches(), log.nodes()


def in_time(rows: list[RequestRecord]) -> list[RequestRecord]:
    """Return those made before the last slot; on a busy machine some users come after it."""
    return [row for row in rows if not row.reason.startswith("the run ")]


def expected_requests(file: Path, **changes) -> int:
    config = dataclasses.replace(configs.load(file, RunConfig), **changes)
    drawn = workload.draw(
        config.workload,
        num_frames=config.num_frames,
        slots_per_frame=config.slots_per_frame,
        num_users=config.num_users,
        models=("tiny", "small"),
        prompts=("a", "b"),
        rng=stream(config.seed, "workload"),
    )
    return len(drawn)


def node_processes(folder: Path) -> dict[str, int]:
    """Return the pid of each node that a run started, by its address."""
    lines = (json.loads(line) for line in (folder / "events.log").read_text().splitlines())
    words = [line["message"].split() for line in lines if line["message"].startswith("started at")]
    return {address.rstrip(","): int(pid) for _, _, address, _, pid in words}


def wait_for(path: Path, query: str, limit_s: float = 60.0) -> list[tuple]:
    """Return the rows of a query on a run's records, once there are any."""
    deadline_s = time.perf_counter() + limit_s
    while time.perf_counter() < deadline_s:
        for file in path.glob("*/requests.sqlite"):
            found = _select(file, query)
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError(f"no row of {query} within {limit_s} s")


def _select(file: Path, query: str) -> list[tuple]:
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return db.execute(query).fetchall()
    except sqlite3.OperationalError:  # no table yet
        return []
    finally:
        db.close()


def test_a_short_run_gives_every_request_one_row_and_leaves_a_report(small_run):
    done = ended(started("run", "--config", str(small_run)))

    assert done.returncode == 0, done.stderr
    folder = folder_of(small_run)
    assert f"report:  {folder / 'report.html'}" in done.stdout
    rows, caches, nodes = rows_of(folder)
    assert len(rows) == expected_requests(small_run)
    rows = in_time(rows)
    assert {row.status for row in rows} == {"served"}
    for row in rows:
        assert row.total_s == pytest.approx(sum(getattr(row, cause) for cause in CAUSES))
        assert (row.role, row.node_id, row.backhaul_s > 0) in {
            ("edge", "edge-0", False),
            ("cloud", "cloud-0", True),
        }
        assert row.is_hit == (row.role == "edge")
        with Image.open(folder / row.image_path) as image:
            assert image.size == (64, 64)
        assert (folder / row.image_path).stat().st_size == row.image_bytes
    assert {row.role for row in rows} == {"edge", "cloud"}
    assert [cache.frame for cache in caches] == [0, 1, 2]
    assert all(cache.duration_s is not None and not cache.error for cache in caches)
    assert {node.node_id: node.is_alive for node in nodes} == {"edge-0": True, "cloud-0": True}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png") == 2 + len(rows)
    assert "device synthetic" in page
    assert "a red circle" in (folder / "report.md").read_text()
    assert json.loads((folder / "config.json").read_bytes())["num_frames"] == 3
    assert not any(psutil.pid_exists(pid) for pid in node_processes(folder).values())


def test_a_run_goes_on_through_the_cloud_when_its_edge_node_is_killed(small_run):
    # so long that it still goes on when the kill comes, on a busy machine too
    process = started("run", "--config", str(small_run), "--num-frames", "10")
    try:
        wait_for(small_run.parent / "runs" / "small-run", "SELECT 1 FROM requests WHERE is_hit=1")
        folder = folder_of(small_run)
        ((edge,),) = _select(
            folder / "requests.sqlite", "SELECT address FROM nodes WHERE role='edge'"
        )
        running = "SELECT request_id FROM requests WHERE role='edge' AND status='open'"
        at_the_edge = wait_for(folder.parent, running)
        os.kill(node_processes(folder)[edge], signal.SIGKILL)
        killed = len(_select(folder / "requests.sqlite", "SELECT 1 FROM requests"))
    finally:
        done = ended(process)

    assert done.returncode == 0, done.stderr
    rows, _, nodes = rows_of(folder)
    assert len(rows) == expected_requests(small_run, num_frames=10) > killed
    assert all(row.status == "served" or row.reason for row in rows)
    assert "open" not in {row.status for row in rows}
    interrupted = [row for row in rows if (row.request_id,) in at_the_edge and row.num_tries == 2]
    assert interrupted
    for row in interrupted:
        assert (row.status, row.role, row.is_hit) == ("served", "cloud", False)
        assert "edge-0 did not serve it" in row.reason
    assert {(row.status, row.role) for row in in_time(rows[killed:])} == {("served", "cloud")}
    assert {node.node_id: node.is_alive for node in nodes} == {"edge-0": False, "cloud-0": True}
    assert "lost" in (folder / "report.md").read_text()


def test_a_run_attached_to_running_nodes_can_be_stopped_and_keeps_its_records(tmp_path):
    async def scenario():
        async with fake_node("edge") as edge, fake_node("cloud") as cloud:
            nodes = (f'attach = "{node.address}"' for node in (edge, cloud))
            file = write_run(tmp_path, *nodes, num_frames=50, slot_s=0.3, policy="random")
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "controller", "run", "--config", str(file)),
                cwd=ROOT,
                stdout=asyncio.subprocess.PIPE,
                env=ENV,
            )
            served = "SELECT 1 FROM requests WHERE status='served'"
            try:
                await asyncio.to_thread(wait_for, tmp_path / "runs" / file.stem, served, 30.0)
            finally:
                child.send_signal(signal.SIGTERM)
                out, _ = await asyncio.wait_for(child.communicate(), 30)
            return child.returncode, out.decode(), file

    code, out, file = asyncio.run(scenario())

    assert code == 1
    assert "interrupted" in out
    rows, _, _ = rows_of(folder_of(file))
    assert {row.status for row in rows} <= {"served", "rejected", "failed"}
    assert all(row.reason for row in rows if row.status != "served")
    assert (folder_of(file) / "report.html").is_file()


async def run_here(file: Path, beside=None) -> tuple[bool, Path]:
    """Run in this process, ``beside`` next to it, given the controller's address."""
    config = configs.load(file, RunConfig)
    found = inputs.read(config)
    folder = file.parent / "run"
    folder.mkdir()
    shown = io.StringIO()
    display = Display(Console(file=shown, soft_wrap=True))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(run.run(config, found, folder, display))
        while "controller at " not in shown.getvalue() and not task.done():
            await asyncio.sleep(0.01)
        if beside:
            tasks.create_task(beside(shown.getvalue().split("controller at ")[1].split(";")[0]))
    return task.result(), folder


def run_where_one_model_fits(folder: Path, **changes) -> tuple[bool, Path]:
    """Run here, in slots of 0.15 s, on a cloud and an edge that holds either model, not both."""
    sizes = {"tiny": 40, "small": 70}  # of 100

    async def scenario():
        async with fake_node("edge", sizes) as edge, fake_node("cloud", sizes) as cloud:
            nodes = (f'attach = "{node.address}"' for node in (edge, cloud))
            file = write_run(folder, *nodes, sizes=sizes, slot_s=0.15, bandwidth_hz=5e6, **changes)
            return await run_here(file)

    return asyncio.run(scenario())


def test_the_most_asked_for_model_of_the_past_frames_is_held(tmp_path):
    is_complete, folder = run_where_one_model_fits(
        tmp_path, num_frames=5, slots_per_frame=4, num_users=4
    )

    assert is_complete
    rows, caches, _ = rows_of(folder)
    rows = in_time(rows)
    assert {row.status for row in rows} == {"served"}
    assert len(caches) == 5
    for cache in caches:
        asked = Counter(row.model_id for row in rows if row.frame < cache.frame)
        assert cache.models == max(("tiny", "small"), key=lambda name: asked[name])
        assert not cache.error
    held = {cache.frame: cache.models for cache in caches}
    misses = [row for row in rows if row.role == "cloud"]
    assert misses
    assert all(row.model_id != held[row.frame] for row in misses if row.slot == 3)  # loaded by then
    assert all(row.wait_s > 0 for row in rows)


@pytest.mark.parametrize(
    "policy",
    [*baselines.CACHINGS, *(f"{name}-exact" for name in baselines.CACHINGS), "static-genetic"],
)
def test_every_rule_decides_live_by_its_name(tmp_path, policy):
    is_complete, folder = run_where_one_model_fits(tmp_path, num_frames=2, policy=policy)

    assert is_complete
    rows, caches, _ = rows_of(folder)
    rows = in_time(rows)
    assert {row.status for row in rows} == {"served"}
    held = {cache.models for cache in caches}
    assert held == {""} if policy.startswith("cloud") else held <= {"tiny", "small"}
    assert {row.num_steps for row in rows} <= set(range(1, 6))


def test_nobody_is_sent_to_a_node_for_what_a_new_frame_evicts(tmp_path):
    _, folder = run_where_one_model_fits(tmp_path, num_frames=10, num_users=6, policy="random")

    rows, caches, _ = rows_of(folder)
    rows = in_time(rows)
    assert len({cache.models for cache in caches}) == 2
    assert {row.status for row in rows} == {"served"}
    quick = [row for row in rows if row.upload_s < 0.1]  # before the next frame
    assert {row.num_tries for row in quick} == {1}


def test_a_user_from_outside_is_served_like_any_other(tmp_path):
    answers = {}

    async def visit(address: str) -> None:
        user = User(address, DeadlinesConfig(), slot_s=0.2, on_image=lambda *_: None)
        async with user, ControllerClient(address) as controller:
            while not (await controller.run_status()).nodes[0].resident_models:
                await asyncio.sleep(0.02)
            for name, model_id in (("mine", "tiny"), ("unknown", "big")):
                answers[name] = await user.request(
                    Submission(
                        request_id=name,
                        user_id="visitor",
                        model_id=model_id,
                        prompt="a green ring",
                        seed=5,
                        upload_bytes=100,
                    )
                )

    async def scenario():
        async with fake_node("edge") as edge:
            file = write_run(
                tmp_path,
                f'attach = "{edge.address}"',
                sizes={"tiny": 40, "small": 40},
                num_users=0,
                num_frames=2,
                slots_per_frame=4,
                slot_s=0.2,
            )
            return await run_here(file, visit)

    is_complete, folder = asyncio.run(scenario())

    assert is_complete
    assert answers["mine"].fetched.data.startswith(b"\x89PNG")
    assert answers["unknown"].refusal == "no model 'big'; the nodes serve: tiny, small"
    rows, _, _ = rows_of(folder)
    assert [(row.request_id, row.status, row.is_hit) for row in rows] == [
        ("mine", "served", True),
        ("unknown", "rejected", False),
    ]
