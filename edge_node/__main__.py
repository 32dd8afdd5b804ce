r"""An edge node: serves diffusion models over gRPC under a byte budget.

    python -m edge_node serve                              the built-in zoo, on 127.0.0.1:50051
    python -m edge_node serve --config zoo-cloud.toml      the same program as the cloud
    python -m edge_node serve --config my.toml --address 0.0.0.0:50051 \
        --cache.capacity-bytes 8000000000                  any field of the file, overridden

A bare file name is looked up in edge_node/configs too. Every field of the file is an option of the
same name: `python -m edge_node serve --help` lists them with their units and values.
Exit codes: 0 drained after SIGTERM or Ctrl-C, 1 failed, 2 bad usage or configuration.
"""

import argparse
import sys
from pathlib import Path

from edge_node import runtime
from edge_node.config import NodeConfig
from protos import config as configs
from protos import logs
from protos.errors import EdgeError

_CONFIGS = Path(__file__).resolve().parent / "configs"


def main() -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m edge_node",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("verb", choices=["serve"], help="what to do", nargs="?")
    parser.add_argument("--config", type=Path, default=Path("zoo-edge.toml"), help="TOML file")
    parser.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    args, overrides = parser.parse_known_args()
    if args.verb is None or "--help" in overrides or "-h" in overrides:
        parser.print_help()
        if args.verb is None:
            return 0 if overrides else 2
    logs.setup(args.log_level)
    runtime.prepare()
    try:
        file = configs.find(args.config, _CONFIGS)
        config = configs.load(file, NodeConfig, overrides, "python -m edge_node serve")
        from edge_node import server  # noqa: PLC0415 - torch takes seconds, --help none

        server.run(config, file.parent)
    except configs.ConfigError as error:
        print(f"edge_node: {error}", file=sys.stderr)
        return 2
    except EdgeError as error:
        print(f"edge_node: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
