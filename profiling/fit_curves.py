"""The command that measures what a denoising step buys and costs, and fits the curves to it.

Responsible for the command line alone; profiling/measure does the work.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run as a file: its folder must not stand where the project's should,
    _project = str(Path(__file__).resolve().parents[1])
    sys.path[0] = _project  # neither here nor in the processes that measure
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [_project, os.environ.get("PYTHONPATH")])
    )

from profiling.measure import session
from profiling.measure.processes import PhaseError
from protos import command_line


@dataclass(frozen=True, kw_only=True, slots=True)
class FitCurves:
    """Measure what a denoising step buys and costs, and fit the resource-quality curves.

    $ python profiling/fit_curves.py                          the built-in zoo: nothing to download
    $ python profiling/fit_curves.py --models scene-nano      only some of its models
    $ python profiling/fit_curves.py --config F.toml --out D  other models, see profiling/configs/
    $ python profiling/fit_curves.py --fresh                  forget earlier samples, measure anew

    Written into the output folder: report.html (open this one) and report.md with plots and image
    grids, profile.json (what the controller reads), samples.jsonl and images/ (every measurement),
    config.json, manifest.json, plan.json, runner.log (what the measuring processes said).

    Stop it with Ctrl-C and start it again: it goes on where it stopped.
    Exit codes: 0 done, 1 a measurement failed, 2 bad usage or configuration, 130 stopped.
    """

    config: Path = Path("zoo.toml")
    """TOML file with models, grid, scorers, budget: a path, or the name of a shipped one."""
    out: Path | None = None
    """Output folder; one that holds samples is continued; by default runs/profile-CONFIG."""
    models: tuple[str, ...] = ()
    """Only these models of the configuration."""
    budget_s: float | None = None
    """Aim at this many seconds in all; decides, once for an output folder, how many prompts every
    point gets; by default the configuration's."""
    fresh: bool = False
    """Remove the samples of earlier runs and begin anew."""

    def __call__(self) -> int:
        """Return 130 where it was stopped."""
        config = session.configure(self.config, self.models, self.budget_s)
        chosen = [model.model_id for model in config.models] if self.models else []
        out = self.out or Path("runs", "-".join(["profile", self.config.stem, *chosen]))
        try:
            report = session.run(config, out.resolve(), is_fresh=self.fresh)
        except PhaseError as error:
            print(f"fit_curves.py: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nstopped; run the same command again to go on", file=sys.stderr)
            return 130
        print(f"report:  {report}\nprofile: {report.parent / 'profile.json'}")
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run("fit_curves.py", FitCurves, arguments)


if __name__ == "__main__":
    sys.exit(main())
