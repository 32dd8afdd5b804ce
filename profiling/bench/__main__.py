"""The benchmarks beside the profile: ``python -m profiling.bench`` lists them."""

import sys

from edge_node import runtime
from protos import command_line

VERBS = {
    "serving": ("profiling.bench.serving:Serving", "compare ways to serve one model"),
    "loading": ("profiling.bench.loading:Loading", "loads against this machine's limits; the soak"),
    "gpu": ("profiling.bench.gpu.run:Gpu", "full-size models on a GPU, in stages"),
    "check": ("profiling.bench.check:Check", "ratios against those committed for this machine"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    runtime.prepare()  # before a benchmark's module imports torch
    return command_line.main("profiling.bench", "Benchmarks beside the profile.", VERBS, arguments)


if __name__ == "__main__":
    sys.exit(main())
