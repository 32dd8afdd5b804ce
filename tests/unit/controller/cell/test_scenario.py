import dataclasses
import tomllib

import pytest

from controller.cell import scenario as scenarios
from controller.cell.dynamics import model_curves
from controller.record.config import RunConfig
from profiling import records
from protos import config as configs
from protos.config import ConfigError
from tests.unit.controller import profiles
from tests.unit.controller.scenarios import MODELS, curves, scenario

SHIPPED = configs.packages() / scenarios.SHIPPED
NAMES = sorted(file.stem for file in SHIPPED.glob("*.toml"))


def test_the_scenarios_of_the_study_are_shipped():
    expected = {"default", "paper-scale", "tight-memory", "fast-drift", "many-models", "multi-node"}
    assert expected <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_reads_and_says_whether_its_models_are_synthetic(name):
    config = scenarios.load(name)
    table = scenarios.read_models(config)
    said = "synthetic" in (SHIPPED / f"{name}.toml").read_text()
    assert said == (not config.profile)
    if config.synthetic_models:
        assert len(table.model_ids) == len(config.synthetic_models)
    assert table.resident_bytes.sum() > config.capacity_bytes  # or there is nothing to decide


def test_the_shipped_scenarios_differ_as_their_names_say():
    config = {name: scenarios.load(name) for name in NAMES}
    default = config["default"]
    assert len(config["many-models"].synthetic_models) == 20
    assert config["multi-node"].num_nodes > 1
    assert config["tight-memory"].capacity_bytes < default.capacity_bytes
    drifts = [config[name].workload.drift_probability for name in ("default", "fast-drift")]
    assert drifts[0] < drifts[1]
    assert config["paper-scale"].num_users > default.num_users


def test_the_scenario_of_a_live_run_is_the_run_s_cell():
    simulated = scenarios.load("live-crowded")
    run = configs.load(configs.find("live-crowded.toml", "controller/configs"), RunConfig)
    files = [configs.find(node.start, "edge_node/configs") for node in run.nodes]
    nodes = [tomllib.loads(file.read_text()) for file in files]

    for name in (
        *("num_users", "slots_per_frame", "slot_s", "profile"),
        *("radio", "workload", "utility", "allocation"),
    ):
        assert getattr(simulated, name) == getattr(run, name), name
    edge, cloud = nodes
    cache = edge["cache"]
    assert simulated.capacity_bytes == cache["capacity_bytes"] - cache["reserve_bytes"]
    assert dataclasses.asdict(simulated.cloud) == cloud["backhaul"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"num_users": 0}, "num_users must be >= 1, got 0"),
        ({"slot_s": 0.0}, "slot_s must be > 0"),
        ({"synthetic_models": ()}, "needs a profile or synthetic_models"),
        ({"profile": "p.json"}, "needs a profile or synthetic_models"),
        ({"model_ids": ("a",)}, "model_ids chooses from a profile"),
        ({"synthetic_models": (*MODELS, curves("a"))}, "model_id must differ"),
        ({"synthetic_models": (curves("x", step_s=0.0),)}, "'x': step_s must be > 0"),
        ({"synthetic_models": (curves("x", curve=(5, 0, 4, 1)),)}, "'x': curve must be A1 <= A3"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(changes, complaint):
    with pytest.raises(ValueError, match=complaint):
        scenario(**changes)


def test_a_mistyped_key_is_named(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("num_user = 3\n")
    with pytest.raises(ConfigError, match="unknown key 'num_user'; did you mean 'num_users'"):
        scenarios.load(file)


def test_models_of_which_none_fits_are_refused_with_both_sizes():
    with pytest.raises(ConfigError, match=r"capacity_bytes is 39, .* 'c' has 40 bytes"):
        scenarios.read_models(scenario(capacity_bytes=39))


def test_a_model_that_takes_fewer_steps_than_the_fewest_is_refused():
    setting = scenario()
    bounds = dataclasses.replace(setting.allocation, min_num_steps=9)
    with pytest.raises(ConfigError, match="min_num_steps is 9, model 'c' takes at most 8"):
        scenarios.read_models(dataclasses.replace(setting, allocation=bounds))


def test_models_come_from_a_profile(tmp_path):
    profile = profiles.profile(profiles.model("x"), profiles.model("y", step_s=0.5))
    file = tmp_path / "profile.json"
    records.save(profile, file)
    measured = {"profile": str(file), "synthetic_models": (), "capacity_bytes": 2_000_000}

    table = scenarios.read_models(scenario(**measured, model_ids=("y",)))

    expected = model_curves(profile, "y")
    assert table.model_ids == ("y",)
    assert table.step_s.tolist() == [0.5]
    assert table.max_num_steps.tolist() == [20]  # of 50; the scenario gives no more
    assert table.quality[0].tolist() == [expected.quality(steps) for steps in range(21)]
    assert scenarios.read_models(scenario(**measured)).model_ids == ("x", "y")
    with pytest.raises(ConfigError, match="no model 'z'; it holds: x, y"):
        scenarios.read_models(scenario(**measured, model_ids=("z",)))
    records.save(profiles.profile(profiles.model("x", step_s=0.0)), file)
    with pytest.raises(ConfigError, match="'x': step_s must be > 0"):
        scenarios.read_models(scenario(**measured))
