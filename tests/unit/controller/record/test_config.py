import pytest

from controller.cell import workload
from controller.cell.scenario import ScenarioConfig
from controller.record.config import RunConfig
from edge_node.config import NodeConfig
from profiling import records
from protos import config as configs

SHIPPED = sorted((configs.packages() / "controller" / "configs").glob("live-*.toml"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_configuration_is_valid_and_names_files_that_exist(file):
    config = configs.load(file, RunConfig)
    assert workload.read_prompts(config.workload.prompts)
    assert all(configs.find(node.start, "edge_node/configs") for node in config.nodes)


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_the_nodes_that_a_shipped_run_starts_serve_what_its_profile_measured(file):
    config = configs.load(file, RunConfig)
    measured = {model.model_id for model in records.load(config.profile).models}
    for node in config.nodes:
        found = configs.load(configs.find(node.start, "edge_node/configs"), NodeConfig)
        assert {model.model_id for model in found.models} == measured


BASE = {
    "num_frames": 1,
    "slots_per_frame": 1,
    "slot_s": 1.0,
    "num_users": 1,
    "nodes": [{"attach": "127.0.0.1:1"}],
}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"slot_s": 0}, "slot_s must be > 0, got 0"),
        ({"num_frames": 0}, "num_frames must be > 0, got 0"),
        ({"num_users": -1}, "num_users must be >= 0, got -1"),
        ({"nodes": []}, "nodes must hold at least one"),
        ({"nodes": [{}]}, "needs start or attach"),
        ({"nodes": [{"start": "a", "attach": "b:1"}]}, "not both, got 'a' and 'b:1'"),
        (
            {"policy": "t2drl"},
            "needs a checkpoint and no other policy takes one, got 't2drl' and ''",
        ),
        ({"checkpoint": "a"}, "no other policy takes one, got 'most-popular' and 'a'"),
        ({"policy": "lru-best"}, "no policy 'lru-best'; there are random, most-popular, lru"),
        ({"radio": {"bandwidth_hz": float("inf")}}, "bandwidth_hz must be > 0, got inf"),
        ({"history_frames": 0}, "history_frames must be > 0, got 0"),
        ({"slot_s": "3"}, r"Expected `float`, got `str` - at `\$.slot_s`"),
        ({"slots": 3}, "unknown key 'slots'"),
        ({"radio": {"bandwith_hz": 1.0}}, "'radio.bandwith_hz'; did you mean 'bandwidth_hz'"),
        ({"radio": {"max_speed_mps": 0.1}}, "max_speed_mps must be >= min_speed_mps=0.5, got 0.1"),
        ({"allocation": {"min_num_steps": 30}}, r"must be 1\.\.max_num_steps=20, got 30"),
        ({"utility": {"quality_weight": 1.5}}, r"quality_weight must be 0\.\.1, got 1.5"),
        ({"workload": {"zipf_skews": [1.0]}}, "transitions must be 1 x 1"),
        (
            {"workload": {"zipf_skews": [1.0], "transitions": [[0.5]]}},
            r"probabilities that sum to 1, got \[0.5\]",
        ),
        ({"deadlines": {"grant_s": 0}}, "grant_s must be > 0, got 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(changes, complaint):
    with pytest.raises(configs.ConfigError, match=complaint):
        configs.parse(BASE | changes, RunConfig, "test")


def test_the_base_of_these_cases_is_fine():
    assert configs.parse(BASE, RunConfig, "test").num_slots == 1


@pytest.mark.parametrize(
    ("name", "whole"), [("lru", "lru-equal"), ("lru-exact", "lru-exact"), ("t2drl", "t2drl")]
)
def test_a_policys_whole_name_says_how_it_allocates(name, whole):
    changes = {"policy": name, "checkpoint": "run" if name == "t2drl" else ""}
    assert configs.parse(BASE | changes, RunConfig, "test").policy_name == whole


def test_a_run_and_its_cell_show_the_same_window_of_request_counts():
    run = configs.parse(BASE, RunConfig, "test")
    default = ScenarioConfig.__dataclass_fields__["history_frames"].default
    assert run.scenario(1, 100).history_frames == run.history_frames == default
