"""Generate the stubs from the .proto files, or check that the committed ones are not stale.

``python -m protos.compile`` writes them; ``python -m protos.compile --check`` compares bytes with a
fresh generation in a temporary folder and fails, naming each stale file.
"""

import argparse
import filecmp
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

from protos.config import packages


def generate(target: Path) -> list[Path]:
    """Write the stubs of every .proto file under ``target``; return their paths relative to it."""
    root = packages()
    sources = sorted(path.relative_to(root) for path in (root / "protos").glob("*.proto"))
    well_known = resources.files("grpc_tools") / "_proto"
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    status = protoc.main(["protoc", f"-I{root}", f"-I{well_known}", *outputs, *map(str, sources)])
    if status != 0:
        raise RuntimeError(f"protoc ended with status {status}")
    return sorted(path.relative_to(target) for path in (target / "protos").glob("*_pb2*.py*"))


def stale_stubs() -> list[Path]:
    """Return the committed stubs that differ from a fresh generation."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "protos").mkdir()
        names = [str(path) for path in generate(Path(folder))]
        _, changed, missing = filecmp.cmpfiles(packages(), folder, names, shallow=False)
        return [Path(name) for name in (*changed, *missing)]


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    if not parser.parse_args().check:
        generate(packages())
        return 0
    stale = stale_stubs()
    for path in stale:
        sys.stderr.write(f"{path} is stale: run `make protos`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
