"""What is recorded of a study, by scenario and by point, for its table and its figure.

Owns reading, grouping and the interval over seeds. Refuses Markdown and pictures.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from controller.studies.study import (
    SCENARIO,
    BaselineRecord,
    Cell,
    CellRecord,
    Value,
    read,
    read_cell,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantResults:
    """Trainings that differ in their seeds alone."""

    name: str
    records: tuple[CellRecord, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ScenarioResults:
    """A scenario that anything is recorded of."""

    name: str
    trained: tuple[VariantResults, ...]
    baselines: BaselineRecord | None


def scenario_results(cells: Sequence[Cell], folder: Path) -> Iterator[ScenarioResults]:
    """Yield the scenarios that anything is recorded of, in the study's order."""
    for here in _grouped(cells, lambda cell: cell.baselines):
        trained = tuple(
            VariantResults(name=_point_name(alike), records=records(alike, folder))
            for alike in _grouped(here, lambda cell: cell.group)
        )
        recorded = tuple(one for one in trained if one.records)
        known = baselines(here[0], folder)
        if recorded or known:
            yield ScenarioResults(name=_place_name(here), trained=recorded, baselines=known)


def records(cells: Iterable[Cell], folder: Path) -> tuple[CellRecord, ...]:
    """Return the records that there are of some trainings, each once."""
    once = {cell.name: cell for cell in cells}.values()
    return tuple(record for cell in once if (record := read_cell(cell, folder)))


def baselines(cell: Cell, folder: Path) -> BaselineRecord | None:
    """Return the record of the baselines on a training's test episodes."""
    file = folder / f"{cell.baselines}.json"
    return read(file, BaselineRecord) if file.is_file() else None


def labelled(labels: Mapping[str, Value]) -> str:
    """Return a point's name, such as "actor mlp, hidden 64"."""
    return ", ".join(f"{key} {value}" for key, value in labels.items() if key != "scenario")


def _grouped(cells: Sequence[Cell], key: Callable[[Cell], str]) -> Iterator[list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    yield from groups.values()


def _point_name(alike: Sequence[Cell]) -> str:
    """Return what differs in all of them; nothing does where several keys have their own value."""
    names = {_name(cell) for cell in alike}
    return (names.pop() if len(names) == 1 else labelled(alike[0].labels)) or "unchanged"


def _name(cell: Cell) -> str:
    labels = dict(cell.labels)
    if cell.one_at_a_time and not cell.one_at_a_time[0].startswith(SCENARIO):
        labels[cell.one_at_a_time[0].rpartition(".")[2]] = cell.one_at_a_time[1]
    return labelled(labels)


def _place_name(here: Sequence[Cell]) -> str:
    """Return the scenario's name with what was changed in it; several changes to nothing: none."""
    names = {
        f"{cell.place}, {cell.one_at_a_time[0].rpartition('.')[2]} {cell.one_at_a_time[1]}"
        if cell.one_at_a_time and cell.one_at_a_time[0].startswith(SCENARIO)
        else cell.place
        for cell in here
    }
    return names.pop() if len(names) == 1 else here[0].place
