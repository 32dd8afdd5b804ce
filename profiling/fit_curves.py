"""Measure what a denoising step buys and costs, and fit the resource-quality curves.

    python profiling/fit_curves.py                          the built-in zoo: nothing to download
    python profiling/fit_curves.py --models scene-nano      only some of its models
    python profiling/fit_curves.py --config F.toml --out D  other models, see profiling/configs/
    python profiling/fit_curves.py --fresh                  forget earlier samples, measure anew

Written into the output folder: samples.jsonl (every measurement), images/, profile.json (what the
controller reads), report.html and report.md with plots and an image grid, manifest.json, config.json.
Stop it with Ctrl-C and start it again: it goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a file: its folder must not stand where the project's root should
    sys.path[0] = str(_ROOT)

from profiling import session  # noqa: E402
from protos.config import ConfigError  # noqa: E402


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    found = argparse.ArgumentParser(
        prog="fit_curves.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "--config",
        type=Path,
        default=_ROOT / "profiling" / "configs" / "zoo.toml",
        help="TOML file with models, grid, scorers, budget (default: profiling/configs/zoo.toml)",
    )
    found.add_argument(
        "--out",
        type=Path,
        help="output folder; one that holds samples is continued (default: runs/profile-CONFIG)",
    )
    found.add_argument(
        "--models",
        nargs="+",
        metavar="MODEL",
        help="profile only these models of the configuration",
    )
    found.add_argument(
        "--budget-s",
        type=float,
        metavar="S",
        help="aim at this many seconds: sets the number of images (default: the configuration's)",
    )
    found.add_argument(
        "--fresh", action="store_true", help="remove the samples of earlier runs and begin anew"
    )
    return found


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code (0 done, 1 failed, 2 bad usage or configuration)."""
    asked = parser().parse_args(argv)
    try:
        config = session.configure(asked.config, asked.models, asked.budget_s)
        name = "-".join(["profile", asked.config.stem, *(asked.models or ())])
        out = asked.out or _ROOT / "runs" / name
        if asked.fresh:
            session.forget(out)
        report = session.run(config, out.resolve())
    except ConfigError as error:
        print(f"fit_curves.py: {error}", file=sys.stderr)
        return 2
    except session.PhaseError as error:
        print(f"fit_curves.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    print(f"report:  {report}\nprofile: {report.parent / 'profile.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
