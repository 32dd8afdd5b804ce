"""What tests of live runs share: small configurations, nodes in this process, the command line."""

import asyncio
import contextlib
import json
import os
import sys
from pathlib import Path

from edge_node.catalog import Catalog
from edge_node.node import Node
from edge_node.servicer import EdgeNodeServicer
from profiling import records
from protos import edge_node_pb2
from protos.edge_node_pb2_grpc import add_EdgeNodeServiceServicer_to_server
from protos.serving import listening
from tests import fakes
from tests.unit.controller.profiles import model, profile

ROOT = Path(__file__).resolve().parents[2]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
SIZES = {"tiny": 7_700_000, "small": 10_300_000}
"""Resident bytes of the test models at float32: an edge of 12 MB holds either."""
_SERVICE = edge_node_pb2.DESCRIPTOR.services_by_name["EdgeNodeService"].full_name


def write_run(folder: Path, *nodes: str, sizes=SIZES, bandwidth_hz=60e3, **changes) -> Path:
    """Write a small run's configuration, its prompts and a synthetic profile."""
    measured = (model(name, resident_bytes=size) for name, size in sizes.items())
    records.save(profile(*measured), folder / "profile.json")
    (folder / "prompts.txt").write_text("# two\na red circle\na blue square\n")
    values = {"num_frames": 3, "slots_per_frame": 2, "slot_s": 0.8, "num_users": 3} | changes
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    lines += [f'profile = "{folder}/profile.json"', f'output = "{folder}/runs"']
    lines += [f"[[nodes]]\n{node}" for node in nodes]
    lines += ["[workload]", f'prompts = "{folder}/prompts.txt"', "request_probability = 0.9"]
    lines += ["[allocation]", "max_num_steps = 5"]
    lines += ["[radio]", f"bandwidth_hz = {bandwidth_hz}", "uplink_bandwidth_hz = 60e3"]
    file = folder / "small-run.toml"
    file.write_text("\n".join(lines) + "\n")
    return file


def write_node(folder: Path, role: str, model_root: Path, capacity_bytes: int) -> str:
    """Write a node's configuration; return the line that starts it."""
    entries = "".join(
        f'[[models]]\nmodel_id = "{name}"\nsource = "folder:{name}"\n' for name in ("tiny", "small")
    )
    file = folder / f"{role}.toml"
    file.write_text(
        f'node_id = "{role}-0"\nrole = "{role}"\nmodel_roots = ["{model_root}"]\n'
        f"[cache]\ncapacity_bytes = {capacity_bytes}\n[engine]\nnum_threads = 1\n"
        f"[backhaul]\ndelay_s = 0.05\n{entries}"
    )
    return f'start = "{file}"'


@contextlib.asynccontextmanager
async def fake_node(role: str, sizes=None):
    """Serve a node of 100 bytes (a cloud: 200) over a fake engine, in this process."""
    sizes = sizes or {"tiny": 40, "small": 40}
    capacity_bytes = 200 if role == "cloud" else 100
    config = fakes.config(tuple(sizes), capacity_bytes, node_id=f"{role}-0", role=role)
    node = Node(config, Catalog(config.models), fakes.FakeEngine(sizes))
    await node.start()
    async with listening(
        "127.0.0.1:0",
        _SERVICE,
        lambda server: add_EdgeNodeServiceServicer_to_server(EdgeNodeServicer(node), server),
    ) as bound:
        yield bound


async def cli(*arguments: str) -> tuple[int, str]:
    """Run the controller beside this event loop; return its exit code and its last words."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "controller", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=ENV,
    )
    _, err = await asyncio.wait_for(child.communicate(), 60)
    return child.returncode, err.decode()
