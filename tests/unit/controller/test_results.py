"""The results page says what the committed records say."""

import pytest

from controller.record import compare
from controller.studies import table
from controller.studies.study import StudyConfig, cells
from protos import config as configs

ROOT = configs.packages()
POLICIES = ("random", "most-popular", "t2drl")
STUDIES = sorted(path for path in (ROOT / "results" / "studies").iterdir() if path.is_dir())


@pytest.mark.parametrize("results", STUDIES, ids=lambda path: path.name)
def test_the_results_page_shows_the_table_that_the_records_make(results):
    file = ROOT / "controller" / "configs" / "studies" / f"{results.name}.toml"
    study = configs.load(file, StudyConfig)

    text = table.table(study, cells(study), results)

    assert text == (results / table.TABLE).read_text()
    assert text.strip() in (ROOT / "docs" / "results.md").read_text()
    assert (results / table.FIGURE).is_file()


def test_the_results_page_shows_the_table_that_the_live_runs_make():
    runs = ROOT / "results" / "live"
    names = [f"{policy}-s{seed}" for policy in POLICIES for seed in range(5)]
    assert sorted(names) == sorted(path.name for path in runs.iterdir())

    table = compare.table([compare.read(runs / name) for name in names])

    assert table in (ROOT / "docs" / "results.md").read_text()
