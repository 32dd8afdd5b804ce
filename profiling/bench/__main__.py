"""The benchmarks beside the profile.

    python -m profiling.bench serving     ways to serve one model, side by side
    python -m profiling.bench loading     loads against this machine's limits, and the soak test

Each lists its options with --help. Exit codes: 0 done, 2 bad usage.
"""

import importlib
import sys

from edge_node import runtime


def main() -> int:
    """Run the command line; return the exit code."""
    if len(sys.argv) < 2 or sys.argv[1] not in ("serving", "loading"):
        print(__doc__, file=sys.stderr)
        return 2
    runtime.prepare()
    name = f"profiling.bench.{sys.argv[1]}"
    return importlib.import_module(name).main(sys.argv[2:])  # torch, once it is prepared for


if __name__ == "__main__":
    sys.exit(main())
