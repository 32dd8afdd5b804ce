"""The results page says what the committed records say."""

import pytest

from controller import compare, study_report
from controller.config import ROOT
from controller.study import StudyConfig, cells
from protos import config as configs

POLICIES = ("random", "most-popular", "t2drl")
STUDIES = sorted(path for path in (ROOT / "controller" / "results").iterdir() if path.is_dir())


@pytest.mark.parametrize("results", STUDIES, ids=lambda path: path.name)
def test_the_results_page_shows_the_table_that_the_records_make(results):
    file = ROOT / "controller" / "configs" / "studies" / f"{results.name}.toml"
    study = configs.load(file, StudyConfig)

    table = study_report.table(study, cells(study), results)

    assert table == (results / study_report.TABLE).read_text()
    assert table.strip() in (ROOT / "docs" / "results.md").read_text()
    assert (results / study_report.FIGURE).is_file()


def test_the_results_page_shows_the_table_that_the_live_runs_make():
    runs = ROOT / "docs" / "live"
    names = [f"{policy}-s{seed}" for policy in POLICIES for seed in range(5)]
    assert sorted(names) == sorted(path.name for path in runs.iterdir())

    table = compare.table([compare.read(runs / name) for name in names])

    assert table in (ROOT / "docs" / "results.md").read_text()
