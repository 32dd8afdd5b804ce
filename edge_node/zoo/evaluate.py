"""The command that measures the built-in zoo."""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from diffusers.utils import logging as diffusers_logging

from edge_node.catalog import ZOO
from edge_node.zoo.evaluation import report
from edge_node.zoo.evaluation.evaluator import Evaluator
from edge_node.zoo.worlds.builtin import WORLDS
from protos import command_line, logs, manifest
from protos.config import ConfigError

MODELS: dict[str, tuple[str, ...]] = {
    "plain": ("scene-base", "scene-small", "scene-nano", "scene-wide", "scene-turbo", "scene-dit"),
    "open": ("open-base",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluate:
    """Measure the built-in zoo: judge, check, every model of a world against denoising steps.

    $ python -m edge_node.zoo.evaluate                     the plain world, some minutes on 2 cores
    $ python -m edge_node.zoo.evaluate --prompts 32 --model scene-base --num-steps 1 4 16
    $ python -m edge_node.zoo.evaluate --world open --model open-base --weights runs/my-zoo

    Writes evaluation.json, evaluation.md and grid.png (the same prompts at every step count) and
    prints the tables. All prompts are held out: no model was trained on their combination of
    attributes.
    """

    world: Literal["plain", "open"] = "plain"
    """Whose models, judge and prompts."""
    model: tuple[str, ...] = ()
    """The models; all of the world where none is named."""
    num_steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50)
    """Step counts."""
    prompts: Annotated[int, tyro.conf.arg(metavar="N")] = 256
    """Held-out prompts."""
    seed: int = 101
    """Of prompts and start latents."""
    weights: Path | None = None
    """The folder of the zoo's models; the package's own by default."""
    out: Path = Path("runs/zoo-evaluation")
    """Where the figures and the pictures go."""

    def __post_init__(self) -> None:
        if min(self.num_steps, default=0) < 1 or [*self.num_steps] != sorted({*self.num_steps}):
            raise ValueError(f"num-steps must be rising and >= 1, got {self.num_steps}")
        if self.prompts < 2:
            raise ValueError(f"prompts must be >= 2, got {self.prompts}")

    def __call__(self) -> int:
        """Refuse models that are not there before anything is measured."""
        models, weights = self.model or MODELS[self.world], self.weights or ZOO
        prefix = WORLDS[self.world].prefix
        needed = [f"{prefix}autoencoder", f"{prefix}judge", *models]
        if missing := [name for name in needed if not (weights / name).is_dir()]:
            trained = f"python -m edge_node.zoo.train --model {' '.join(missing)}"
            raise ConfigError(f"no {', '.join(missing)} in {weights}; {trained}")
        logs.setup()
        diffusers_logging.set_verbosity_error()
        evaluator = Evaluator(WORLDS[self.world], weights, self.prompts, self.seed)
        evaluation = evaluator.evaluate(models, self.num_steps)
        written = report.tables(evaluation)
        self.out.mkdir(parents=True, exist_ok=True)
        report.draw_grid(evaluator.grids, self.num_steps, self.out / "grid.png")
        record = {"manifest": asdict(manifest.collect()), **asdict(evaluation)}
        (self.out / "evaluation.json").write_text(json.dumps(record, indent=1) + "\n")
        (self.out / "evaluation.md").write_text(written)
        sys.stdout.write(written + f"\n{self.out}/evaluation.md\n")
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    return command_line.run("python -m edge_node.zoo.evaluate", Evaluate, arguments)


if __name__ == "__main__":
    sys.exit(main())
