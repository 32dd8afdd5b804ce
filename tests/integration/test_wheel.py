"""The project as a package: the wheel alone, unpacked, in a folder that is nobody's checkout."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from profiling import records
from protos.config import packages

pytestmark = pytest.mark.slow
PACKAGES = ("protos", "edge_node", "profiling", "controller")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the project: what a build leaves behind stays in the copy."""
    project = tmp_path_factory.mktemp("project")
    for name in PACKAGES:
        shutil.copytree(
            packages() / name, project / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(packages() / name, project)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", project / "dist", project)
    (file,) = (project / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that the wheel is installed into; it lies in a checkout of something else."""
    site = tmp_path_factory.mktemp("site")
    pip("install", "--no-deps", "--no-index", "--target", site, wheel)
    git = ["git", "-C", site, "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "another project"], check=True)
    (site / ".git").rename(site.parent / ".git")
    return site


@pytest.fixture
def start(installed, tmp_path):
    """Start an installed command elsewhere, with nothing of the checkout in reach."""

    def start(name: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, installed / "bin" / name, *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def end(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def test_the_wheel_holds_what_running_needs_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == set(PACKAGES)
    for name in PACKAGES:
        for file in (packages() / name).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".toml", ".json", ".txt", ".safetensors"):
                assert file.relative_to(packages()).as_posix() in names


RUN = """
num_frames = 1
slots_per_frame = 1
slot_s = 0.5
num_users = 2
[[nodes]]
start = "my-node.toml"
"""
NODE = """
[cache]
capacity_bytes = 40_000_000
[engine]
max_batch_size = 4
[[models]]
model_id = "scene-nano"
source = "builtin:scene-nano"
"""


def test_a_controller_and_its_node_run_in_the_folder_where_they_are_started(start, tmp_path):
    (tmp_path / "mine.toml").write_text(RUN)
    (tmp_path / "my-node.toml").write_text(NODE)
    code, out, err = end(start("edge-controller", "run", "--config", "mine.toml"))

    assert code == 0, err
    (folder,) = (tmp_path / "runs" / "mine").iterdir()
    assert f"report:  {folder.relative_to(tmp_path) / 'report.html'}" in out
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["git_sha"] == "unknown"
    assert records.load(folder / "profile.json").model("scene-nano")

    code, out, err = end(start("edge-controller", "compare", folder))
    assert code == 0, err
    assert "| most-popular-equal | 1 |" in out


def test_a_node_serves_the_built_in_zoo_until_sigterm(start):
    node = start("edge-node", "serve", "--address", "127.0.0.1:0")
    try:
        assert re.match(r"edge-0 \(edge\) listening on 127\.0\.0\.1:\d+\n", node.stdout.readline())
    finally:
        node.send_signal(signal.SIGTERM)
        code, _, err = end(node)
    assert code == 0, err


def test_profiling_finds_its_configuration_and_the_weights(start):
    code, _, err = end(start("edge-profile", "--config", "zoo.toml", "--budget-s", 20))

    assert code == 2
    assert "budget_s is 20, but for 3 models" in err


def test_the_shipped_profile_is_the_committed_measurement():
    shipped = packages() / "profiling" / "profiles" / "zoo-cpu.json"
    measured = packages() / "results" / "profiles" / "zoo-cpu" / "profile.json"
    assert shipped.read_bytes() == measured.read_bytes()
