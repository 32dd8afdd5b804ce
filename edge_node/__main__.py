"""An edge node: serves diffusion models over gRPC under a byte budget."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from edge_node import runtime
from edge_node.config import NodeConfig
from protos import command_line, logs
from protos import config as configs
from protos.command_line import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Serve:
    """Serve models until SIGTERM or Ctrl-C; then finish the running requests, and end.

    $ python -m edge_node serve                          the built-in zoo, on 127.0.0.1:50051
    $ python -m edge_node serve --config zoo-cloud.toml  the same program as the cloud
    $ python -m edge_node serve --config my.toml --cache.capacity-bytes 8000000000
    """

    config: Path
    """TOML file: a path, or the name of a shipped one; its fields are the options below."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level of the log's lines, on standard error."""
    settings: Settings[NodeConfig]
    """The file."""

    @classmethod
    def from_file(cls, config: Path = Path("zoo-edge.toml")) -> Self:
        """Read the file."""
        return cls(config=config, settings=configs.load(config, NodeConfig, "edge_node/configs"))

    def __call__(self) -> int:
        """Return when the node has drained."""
        logs.setup(self.log_level)
        runtime.prepare()
        from edge_node import server  # noqa: PLC0415 - torch takes seconds, --help none

        server.run(self.settings)
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    about = "An edge node serves diffusion models over gRPC under a byte budget."
    verbs = {"serve": (Serve, "serve models until SIGTERM or Ctrl-C")}
    return command_line.main("edge_node", about, verbs, arguments)


if __name__ == "__main__":
    sys.exit(main())
