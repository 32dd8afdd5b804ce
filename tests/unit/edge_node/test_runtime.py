import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WATCHED = """
import os, runpy, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "TRANSFORMERS_VERBOSITY")
            print(*map(os.environ.get, names), flush=True)
            os._exit(0)

sys.meta_path.insert(0, Watch())
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def at_torchs_import(*program: str, **environment: str) -> str:
    """Return what a program has in its environment when it first imports torch."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *program],
        cwd=ROOT,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.parametrize(
    "program",
    [("edge_node", "serve"), ("profiling.bench", "loading"), ("profiling.bench", "serving")],
)
def test_openmp_is_set_up_before_torch_is_imported(program):
    assert at_torchs_import(*program) == "ACTIVE 30000 error"


def test_what_the_environment_says_stays():
    assert at_torchs_import("edge_node", "serve", GOMP_SPINCOUNT="7") == "ACTIVE 7 error"


def test_importing_changes_no_environment():
    code = "import os; b = dict(os.environ); import edge_node.node; assert b == dict(os.environ)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=True)
