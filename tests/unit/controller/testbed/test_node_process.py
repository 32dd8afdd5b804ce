"""Children that stand for an edge node: small scripts, so that no test waits for torch."""

import asyncio
import os
import sys

import psutil
import pytest

from controller.record.config import DeadlinesConfig
from controller.testbed.node_process import started_node
from protos.config import ConfigError
from protos.errors import NodeDownError

DEADLINES = DeadlinesConfig(start_s=10.0, stop_s=0.3)
LISTENS = "print('noise'); print('e-1 (edge) listening on 127.0.0.1:5')\n"
SLEEPS = "import time\nwhile True: time.sleep(0.05)\n"


def start(tmp_path, script: str, deadlines: DeadlinesConfig = DEADLINES):
    """Start a child that runs a script; return what it said of itself and whether it lives on."""
    (tmp_path / "node.toml").touch()

    async def scenario():
        async with started_node(
            str(tmp_path / "node.toml"),
            log_file=tmp_path / "node.log",
            deadlines=deadlines,
            num_threads=3,
            options=("--extra",),
            command=(sys.executable, "-c", f"import sys\n{script}"),
        ) as node:
            assert psutil.pid_exists(node.pid)
        return node, psutil.pid_exists(node.pid)

    return asyncio.run(scenario())


def test_a_child_is_found_by_what_it_announces_and_stopped_afterwards(tmp_path):
    node, lives = start(tmp_path, LISTENS + SLEEPS)
    assert (node.node_id, node.address, lives) == ("e-1", "127.0.0.1:5", False)
    assert node.pid != os.getpid()


def test_a_child_gets_its_configuration_a_free_port_and_the_options(tmp_path):
    start(tmp_path, "print(sys.argv, file=sys.stderr)\n" + LISTENS + SLEEPS)
    asked = (tmp_path / "node.log").read_text()
    assert f"'serve', '--config', '{tmp_path}/node.toml', '--address', '127.0.0.1:0'" in asked
    assert "'--extra'" in asked


@pytest.mark.parametrize(("told", "expected"), [(None, "3 PASSIVE"), ("5", "5 PASSIVE")])
def test_a_child_gets_its_share_of_threads_unless_the_user_says_otherwise(
    tmp_path, monkeypatch, told, expected
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if told:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    tell = "import os\nprint(*map(os.environ.get, ['OMP_NUM_THREADS', 'OMP_WAIT_POLICY']), file="
    start(tmp_path, tell + "sys.stderr)\n" + LISTENS + SLEEPS)
    assert (tmp_path / "node.log").read_text().strip() == expected


def test_a_child_that_ignores_sigterm_is_killed(tmp_path):
    deaf = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    _, lives = start(tmp_path, deaf + LISTENS + SLEEPS)
    assert not lives


@pytest.mark.parametrize(
    ("code", "error"), [(2, ConfigError), (1, NodeDownError)], ids=["refused", "failed"]
)
def test_a_child_that_ends_is_quoted(tmp_path, code, error):
    script = (
        f"print('one', file=sys.stderr); print('no such key', file=sys.stderr); sys.exit({code})"
    )
    with pytest.raises(error, match=f"ended with code {code}: no such key"):
        start(tmp_path, script)


def test_a_child_that_never_listens_is_given_up_and_stopped(tmp_path):
    before = set(psutil.Process().children())
    with pytest.raises(NodeDownError, match=r"did not listen within 0\.3 s"):
        start(tmp_path, SLEEPS, DeadlinesConfig(start_s=0.3, stop_s=0.3))
    assert set(psutil.Process().children()) == before


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    async def scenario():
        async with started_node(
            "no/such.toml", log_file=tmp_path / "node.log", deadlines=DEADLINES, num_threads=1
        ):
            pass

    with pytest.raises(ConfigError, match=r"code 2: edge_node: there is no file no/such\.toml"):
        asyncio.run(scenario())
