import contextlib
from dataclasses import replace

import pytest

from controller.cell import scenario as scenarios
from controller.cell.scenario import read_models
from controller.training import run_folder as records
from profiling import records as profiles
from protos import config as configs
from tests.unit.controller.profiles import model, profile
from tests.unit.controller.scenarios import curves, scenario, table
from tests.unit.controller.training_runs import train_config

SHIPPED = sorted((configs.packages() / "controller" / "configs").glob("train-*.toml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_training_is_valid_and_its_scenario_exists(file):
    config = configs.load(file, records.TrainConfig)
    assert read_models(scenarios.load(config.scenario)).model_ids


def test_what_a_folder_says_is_what_was_told(tmp_path):
    config = train_config(tmp_path)
    folder = records.begin(config, scenario(), "test")

    assert records.read_config(folder) == config
    assert records.read_scenario(folder) == scenario()
    assert (folder / "manifest.json").is_file()
    assert records.latest_checkpoint(folder) is None


def test_a_folder_keeps_the_profile_that_it_was_trained_on(tmp_path):
    file = tmp_path / "profile.json"
    profiles.save(profile(model("a"), model("b", step_s=0.03)), file)
    setting = scenario(synthetic_models=(), profile=str(file), capacity_bytes=10**7)
    folder = records.begin(train_config(tmp_path), setting, "test")
    file.unlink()

    assert read_models(records.read_scenario(folder)).step_s.tolist() == [0.02, 0.03]


def test_the_identity_names_the_model_whose_numbers_differ(tmp_path):
    config = train_config(tmp_path)
    slower = (*scenario().synthetic_models[:2], curves("c", step_s=0.9))
    one = records.identity(config, scenario(), table())
    other = records.identity(
        config, scenario(synthetic_models=slower), table(synthetic_models=slower)
    )

    assert one["scenario"] == other["scenario"]
    assert [name for name in "abc" if one["models"][name] != other["models"][name]] == ["c"]


def test_the_identity_leaves_out_how_long_and_where_to(tmp_path):
    config = train_config(tmp_path)
    longer = replace(config, num_episodes=99, checkpoint_every=7, output="elsewhere")
    other = replace(config, seed=5)

    def identity(one):
        return records.identity(one, scenario(), table())

    assert identity(config) == identity(longer) != identity(other)


def test_a_checkpoint_replaces_the_one_before_once_it_is_whole(tmp_path):
    for episode in (2, 10):
        with records.new_checkpoint(tmp_path, episode) as part:
            (part / "file").write_text(str(episode))
    with contextlib.suppress(KeyboardInterrupt), records.new_checkpoint(tmp_path, 11) as torn:
        (torn / "file").write_text("torn")
        raise KeyboardInterrupt

    latest = records.latest_checkpoint(tmp_path)
    assert (latest / "file").read_text() == "10"
    assert [path.name for path in (tmp_path / "checkpoints").glob("episode-*")] == [latest.name]
    with records.new_checkpoint(tmp_path, 12) as part:
        assert not list(part.iterdir())


@pytest.mark.parametrize("content", [None, "{", '{"num_episodes": 1}', "[]"])
def test_another_folder_is_refused_by_name(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(configs.ConfigError, match=str(tmp_path)):
        records.read_config(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_envs": 0}, "num_envs must be > 0, got 0"),
        ({"evaluate_every": -1}, "evaluate_every must be >= 0, got -1"),
    ],
)
def test_a_wrong_value_is_refused_by_name(tmp_path, changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        train_config(tmp_path, **changes)
