"""The controller: decides which models edge nodes hold and what each request gets, live.

``python -m controller`` lists the verbs. Torch is loaded by the verbs that learn, and only there.
"""

import asyncio
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import tyro

from controller.cell import scenario as scenarios
from controller.cell.scenario import ScenarioConfig
from controller.policies import scores
from controller.record import compare, report
from controller.record.config import RunConfig
from controller.testbed import inputs, run
from controller.testbed.display import Display
from protos import command_line, logs, manifest
from protos import config as configs
from protos.command_line import Settings
from protos.config import ConfigError
from protos.errors import EdgeError


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Run the system live and write a report.

    Starts the nodes that the file names (or attaches to running ones), lets emulated users send
    real requests over an emulated radio cell, and leaves a folder: report.html, report.md,
    requests.sqlite (one row for each request), images/, config.json, manifest.json, events.log.

    $ python -m controller run                      the demo: most popular models cached
    $ python -m controller run --policy random      the floor to compare with
    $ python -m controller run --config my.toml --seed 7 --workload.request-probability 0.5
    """

    config: Path
    """TOML file: a path, or the name of a shipped one; its fields are the options below."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least level of the lines in events.log."""
    settings: Settings[RunConfig]
    """The file."""

    @classmethod
    def from_file(cls, config: Path = Path("live-demo.toml")) -> Self:
        """Read the file."""
        return cls(config=config, settings=configs.load(config, RunConfig, "controller/configs"))

    def __call__(self) -> int:
        """Return 1 where it was interrupted."""
        config = self.settings
        found = inputs.read(config)
        folder = manifest.run_folder(Path(config.output), self.config.stem, config.seed)
        logs.setup(self.log_level, folder / "events.log")
        run.describe(config, found, folder)
        display = Display()
        try:
            is_complete = asyncio.run(run.run(config, found, folder, display))
        except (ConfigError, EdgeError):
            display.say(f"nothing was run; logs: {folder}")
            raise
        display.say(f"report:  {report.write(folder)}\nrecords: {folder / 'requests.sqlite'}")
        return 0 if is_complete else 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Write report.html and report.md of a finished run again, from its records.

    $ python -m controller report runs/live-demo/RUN
    """

    folder: tyro.conf.Positional[Path | None] = None
    """Folder of the run."""

    def __call__(self) -> int:
        """Print where it is written."""
        if self.folder is None:
            raise ConfigError("report needs the folder of a run")
        print(f"report: {report.write(self.folder)}")
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Levers:
    """Print what each lever is worth in a scenario: the score without it, in a table.

    $ python -m controller levers --scenario tight-memory
    $ python -m controller levers --num-users 20
    """

    scenario: str
    """Name of a shipped scenario, or a TOML file; its fields are the options below."""
    settings: Settings[ScenarioConfig]
    """The file."""

    @classmethod
    def from_file(cls, scenario: str = "default") -> Self:
        """Read the scenario."""
        return cls(scenario=scenario, settings=scenarios.load(scenario))

    def __call__(self) -> int:
        """Simulate each rule without its lever."""
        print(scores.lever_report(self.settings, scenarios.read_models(self.settings)))
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """Recompute every stated figure from its record; exit code 1 where one does not hold.

    $ python -m controller claims
    """

    file: Path = Path("results/claims.toml")
    """The claims."""

    def __call__(self) -> int:
        """Return 1 where a claim does not hold."""
        check: Callable[[Path], int] = pkgutil.resolve_name("controller.studies.claims:check")
        return check(self.file)


VERBS: dict[str, tuple[type[command_line.Verb] | str, str]] = {
    "run": (Run, "a live run: nodes, users, requests, records, a report"),
    "report": (Report, "write the report of a run again"),
    "compare": (compare.Compare, "the policies of several runs, in a table"),
    "levers": (Levers, "what each lever is worth in a scenario, in a table"),
    "train": ("controller.training.train:Train", "learn T2DRL in the simulator"),
    "evaluate": ("controller.studies.evaluate:Evaluate", "a trained policy beside the baselines"),
    "sweep": ("controller.studies.sweep:Sweep", "a study: many training runs, a table, a figure"),
    "claims": (Claims, "recompute every figure that the docs state"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    about = "The controller decides which models edge nodes hold and what each request gets."
    return command_line.main("controller", about, VERBS, arguments)


if __name__ == "__main__":
    sys.exit(main())
