"""The committed results: records give the tables beside them, claims are what records give."""

from pathlib import Path

import pytest

from controller.record import compare
from controller.studies import claims, table
from controller.studies import study as studies
from controller.studies.results import BASELINES, StudyRecords
from protos.config import packages

RESULTS = packages() / "results"
FOLDER = RESULTS / "studies"
NAMES = [
    path.name.removesuffix(".jsonl.gz")
    for path in sorted(FOLDER.glob("*.jsonl.gz"))
    if path.name != BASELINES
]


@pytest.mark.parametrize("name", NAMES)
def test_a_studys_records_are_all_of_its_cells_and_give_the_table_beside_them(name):
    study = studies.load(Path(f"{name}.toml"))
    cells, records = studies.cells(study), StudyRecords(FOLDER, name)

    assert records.runs.keys() == {cell.key for cell in cells}
    assert records.baselines.keys() >= {cell.suite for cell in cells}
    assert table.table(study, cells, records) == (FOLDER / f"{name}.md").read_text()
    assert (FOLDER / f"{name}.png").is_file()


def test_every_figure_that_is_stated_is_what_its_record_gives(capsys):
    assert claims.check(RESULTS / "claims.toml") == 0, capsys.readouterr().out


def test_the_live_runs_are_kept_and_can_be_read():
    folders = sorted(path for path in (RESULTS / "live").iterdir() if path.is_dir())
    policies = [compare.read(folder).config.policy for folder in folders]
    assert policies == ["most-popular"] * 5 + ["random"] * 5 + ["t2drl"] * 5
