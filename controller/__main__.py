"""The controller: decides which models edge nodes hold and what each request gets, live.

    python -m controller run                                   the demo: most popular models cached
    python -m controller run --config live-random.toml         the floor to compare with
    python -m controller run --config my.toml --seed 7 --slot-s 2 --workload.request-probability 0.5
    python -m controller report --run runs/live-demo/RUN       write a run's report again
    python -m controller compare runs/live-demo/*              policies of several runs, in a table
    python -m controller levers --scenario default             what each lever is worth there
    python -m controller train --scenario default --seed 3     learn T2DRL in the simulator
    python -m controller evaluate --checkpoint runs/RUN        its scores beside the baselines
    python -m controller sweep --quick                         a study: many trainings, one figure

A run starts the nodes that its configuration names (or attaches to running ones), lets emulated
users send real requests over an emulated radio cell, and leaves a folder: report.html, report.md,
requests.sqlite (one row for each request), images/, config.json, manifest.json, events.log.

A bare file name is looked up in controller/configs too. Every field of the file is an option of the
same name: `python -m controller run --help` lists them with their units and values.
Exit codes: 0 done, 1 failed or interrupted, 2 bad usage or configuration (a node that is not there,
a port in use, a profile of other models).
"""

import argparse
import asyncio
import sys
from pathlib import Path

from controller.cell import scenario
from controller.cell.config import ROOT
from controller.policies import scores
from controller.record import compare, report
from controller.record.config import RunConfig
from controller.testbed import inputs, run
from controller.testbed.display import Display
from protos import config as configs
from protos import logs, manifest
from protos.errors import EdgeError

_CONFIGS = Path(__file__).resolve().parent / "configs"


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if arguments and arguments[0] in ("train", "evaluate", "sweep"):
            return _learn(arguments[0], arguments[1:])
        if arguments and arguments[0] == "compare":
            return compare.command(arguments[1:])
        return _control(arguments)
    except configs.ConfigError as error:
        print(f"controller: {error}", file=sys.stderr)
        return 2
    except EdgeError as error:
        print(f"controller: {type(error).__name__}: {error}", file=sys.stderr)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("controller: interrupted", file=sys.stderr)
    return 1


def _learn(verb: str, arguments: list[str]) -> int:
    from controller.studies import evaluate, sweep  # noqa: PLC0415 - torch is for those who learn
    from controller.training import train  # noqa: PLC0415 - torch is for those who learn

    return {"train": train, "evaluate": evaluate, "sweep": sweep}[verb].command(arguments)


def _control(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m controller",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    verbs = ["run", "report", "compare", "levers", "train", "evaluate", "sweep"]
    parser.add_argument("verb", choices=verbs, help="what to do", nargs="?")
    parser.add_argument("--config", type=Path, default=Path("live-demo.toml"), help="TOML file")
    parser.add_argument("--run", type=Path, help="folder of a finished run, for report")
    parser.add_argument("--scenario", default="default", help="name or TOML file, for levers")
    parser.add_argument("--log-level", default="INFO", help="DEBUG, INFO, WARNING or ERROR")
    args, overrides = parser.parse_known_args(arguments)
    if args.verb is None or {"--help", "-h"} & set(overrides):
        parser.print_help()
        if args.verb is None:
            return 0 if overrides else 2
    if args.verb == "report":
        print(f"report: {report.write(args.run or _missing('--run FOLDER'))}")
        return 0
    if args.verb == "levers":
        setting = scenario.load(args.scenario, tuple(overrides))
        print(scores.lever_report(setting, scenario.read_models(setting)))
        return 0
    return _run(configs.find(args.config, _CONFIGS), overrides, args.log_level)


def _missing(option: str) -> Path:
    raise configs.ConfigError(f"report needs {option}")


def _run(file: Path, overrides: list[str], log_level: str) -> int:
    config = configs.load(file, RunConfig, overrides, "python -m controller run")
    found = inputs.read(config)
    folder = manifest.run_folder(ROOT / config.output, file.stem, config.seed)
    logs.setup(log_level, folder / "events.log")
    run.describe(config, found, folder)
    display = Display()
    try:
        is_complete = asyncio.run(run.run(config, found, folder, display))
    except (configs.ConfigError, EdgeError):
        display.say(f"nothing was run; logs: {folder}")
        raise
    display.say(f"report:  {report.write(folder)}\nrecords: {folder / 'requests.sqlite'}")
    return 0 if is_complete else 1


if __name__ == "__main__":
    sys.exit(main())
