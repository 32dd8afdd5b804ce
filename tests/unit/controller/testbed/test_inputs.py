import dataclasses

import pytest

from controller.cell.config import AllocationConfig, WorkloadConfig
from controller.record.config import NodeSpec, RunConfig
from controller.testbed import inputs
from profiling import records
from protos.config import ConfigError
from protos.messages import ModelInfo
from tests.unit.controller.profiles import model, profile


def info(model_id: str, max_num_steps: int = 100) -> ModelInfo:
    return ModelInfo(
        model_id=model_id,
        is_resident=False,
        resident_bytes=None,
        disk_bytes=None,
        load_s=None,
        num_leases=0,
        max_num_steps=max_num_steps,
        default_num_steps=20,
        default_guidance_scale=3.0,
        width_px=64,
        height_px=64,
    )


@pytest.fixture
def config(tmp_path) -> RunConfig:
    records.save(profile(model("a")), tmp_path / "profile.json")
    (tmp_path / "prompts.txt").write_text("a red circle\n")
    return RunConfig(
        num_frames=1,
        slots_per_frame=1,
        slot_s=1.0,
        num_users=1,
        profile=str(tmp_path / "profile.json"),
        nodes=(NodeSpec(attach="127.0.0.1:1"),),
        workload=WorkloadConfig(prompts=str(tmp_path / "prompts.txt")),
    )


def test_what_a_run_needs_is_read(config):
    found = inputs.read(config)
    assert found.prompts == ("a red circle",)
    assert [one.model_id for one in found.profile.models] == ["a"]
    assert found.secret != inputs.read(config).secret


def test_the_secret_of_a_file_is_used(config, tmp_path):
    (tmp_path / "secret").write_text("  shared \n")
    config = dataclasses.replace(config, ticket_secret_file=str(tmp_path / "secret"))
    assert inputs.read(config).secret == b"shared"


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "cannot read ticket_secret_file"), ("\n", "is empty")]
)
def test_a_secret_that_is_none_is_refused(config, tmp_path, text, complaint):
    if text is not None:
        (tmp_path / "secret").write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        inputs.read(dataclasses.replace(config, ticket_secret_file=str(tmp_path / "secret")))


def match(served, *models):
    config = RunConfig(
        num_frames=1,
        slots_per_frame=1,
        slot_s=1.0,
        num_users=1,
        nodes=(NodeSpec(attach="127.0.0.1:1"),),
        profile="p.json",
        allocation=AllocationConfig(max_num_steps=60),
    )
    return inputs.match(profile(*models), served, config)


def test_the_models_are_those_served_in_the_profiles_order():
    found = match([(info("b"),), (info("b"), info("a"))], model("a"), model("b"), model("c"))
    assert found.model_ids == ("a", "b")


def test_no_model_gets_more_steps_than_the_profile_and_every_node_allow():
    served = [(info("a", 30), info("b", 90)), (info("a", 40),)]
    found = match(served, model("a", max_num_steps=50), model("b", max_num_steps=50))
    assert found.max_num_steps.tolist() == [30, 50]


def test_a_profile_of_other_models_is_refused_and_both_sides_are_named():
    with pytest.raises(
        ConfigError, match=r"p\.json .* lacks x; it holds a, b; the nodes serve x, a"
    ):
        match([(info("x"), info("a"))], model("a"), model("b"))
