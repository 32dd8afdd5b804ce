"""Measure what a denoising step buys and costs, and fit the resource-quality curves.

    python profiling/fit_curves.py                          the built-in zoo: nothing to download
    python profiling/fit_curves.py --models scene-nano      only some of its models
    python profiling/fit_curves.py --config F.toml --out D  other models, see profiling/configs/
    python profiling/fit_curves.py --fresh                  forget earlier samples, measure anew

Written into the output folder: report.html (open this one) and report.md with plots and image
grids, profile.json (what the controller reads), samples.jsonl and images/ (every measurement),
config.json, manifest.json, plan.json, runner.log (what the measuring processes said).

Stop it with Ctrl-C and start it again: it goes on where it stopped.
Exit codes: 0 done, 1 a measurement failed, 2 bad usage or configuration, 130 stopped.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

_ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a file: its folder must not stand where the project's root should
    sys.path[0] = str(_ROOT)

from profiling.measure import session  # noqa: E402
from profiling.measure.processes import PhaseError  # noqa: E402
from protos import config as configs  # noqa: E402
from protos.config import ConfigError  # noqa: E402


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of the command line."""

    config: Path = Path("zoo.toml")
    """TOML file with models, grid, scorers, budget; a plain name is also looked for in
    profiling/configs."""
    out: Path | None = None
    """Output folder; one that holds samples is continued (default: runs/profile-CONFIG)."""
    models: tuple[str, ...] = ()
    """Profile only these models of the configuration."""
    budget_s: float | None = None
    """Aim at this many seconds in all; decides, once for an output folder, how many prompts every
    point gets (default: the configuration's)."""
    fresh: tyro.conf.FlagCreatePairsOff[bool] = False
    """Remove the samples of earlier runs and begin anew."""


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code (0 done, 1 failed, 2 bad usage or configuration)."""
    asked = tyro.cli(Options, prog="fit_curves.py", description=__doc__, args=argv)
    try:
        path = configs.find(asked.config, _ROOT / "profiling" / "configs")
        config = session.configure(path, asked.models, asked.budget_s)
        chosen = [model.model_id for model in config.models] if asked.models else []
        out = asked.out or _ROOT / "runs" / "-".join(["profile", path.stem, *chosen])
        report = session.run(config, out.resolve(), is_fresh=asked.fresh)
    except ConfigError as error:
        print(f"fit_curves.py: {error}", file=sys.stderr)
        return 2
    except PhaseError as error:
        print(f"fit_curves.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on", file=sys.stderr)
        return 130
    print(f"report:  {report}\nprofile: {report.parent / 'profile.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
