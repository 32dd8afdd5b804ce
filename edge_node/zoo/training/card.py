"""Model cards: what a reader must know of a trained model, written from its training record."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.figure import Figure

from edge_node.zoo.training.loop import Recipe, TrainingRecord
from protos.config import read_json
from protos.manifest import Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """What a card says of one training run."""

    model: str
    what: str
    num_parameters: int
    recipe: Recipe
    data: str
    trained: TrainingRecord
    manifest: Manifest


def write(training: Training, folder: Path) -> None:
    """Write ``training.json``, ``loss.png`` and ``model_card.md`` into the model's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.json").write_text(json.dumps(asdict(training), indent=1) + "\n")
    _plot(training, folder / "loss.png")
    recipe, trained, manifest = training.recipe, training.trained, training.manifest
    starts = ", ".join(f"{update:,}" for update in recipe.restarts)
    restarts = f" (anew at {starts})" if starts else ""
    rows = {
        "What": training.what,
        "Parameters": f"{training.num_parameters:,}",
        "Data": training.data,
        "Seed": str(recipe.seed),
        "Updates": f"{trained.num_updates:,} of {recipe.num_updates:,}, batch {recipe.batch}",
        "Optimiser": f"AdamW, peak {recipe.learning_rate:g}, cosine to 0{restarts}, "
        f"EMA {recipe.ema_decay:g}",
        "Wall time": f"{trained.wall_s / 60:.0f} min",
        "Hardware": f"{manifest.num_cpus} x {manifest.cpu}; {manifest.device}",
        "Software": ", ".join(f"{k} {v}" for k, v in manifest.packages.items()),
        "Final loss": f"{trained.losses[-1][1]:.4f}" if trained.losses else "untrained",
        "Command": f"`python -m edge_node.zoo.train --model {training.model}`",
        "Use": "tests, demonstrations and studies of serving; it draws nothing but this world",
        "Licence": "Apache-2.0, weights and data",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    (folder / "model_card.md").write_text(
        f"# {training.model}\n\n| | |\n|---|---|\n{table}\n\n"
        "Quality is measured by `python -m edge_node.zoo.evaluate`; "
        "its figures stand in docs/results/zoo.md.\n\n"
        "![training loss](loss.png)\n"
    )


def trained(folder: Path) -> TrainingRecord | None:
    """Return how far the model in a folder was trained; None where there is none."""
    file = folder / "training.json"
    return read_json(file, Training).trained if file.exists() else None


def _plot(training: Training, file: Path) -> None:
    figure = Figure(figsize=(5, 2.4), layout="constrained")
    axes = figure.subplots()
    if training.trained.losses:
        axes.plot(*zip(*training.trained.losses, strict=True), linewidth=1)
    axes.set(xlabel="update", ylabel="loss", title=training.model, yscale="log")
    figure.savefig(file, dpi=80)
