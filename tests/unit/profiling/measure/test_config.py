import math

import pytest

from edge_node.config import ModelConfig
from profiling.measure import config
from protos import config as configs
from protos.config import ConfigError

SHIPPED = configs.packages() / "profiling" / "configs"


def named(model_id: str) -> ModelConfig:
    return ModelConfig(model_id=model_id, source="hub:a/b")


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path):
    found = configs.load(path, config.ProfileConfig)

    assert all(len(found.steps_of(model)) >= 4 for model in found.models)


def test_the_default_configuration_profiles_the_zoo_within_ten_minutes():
    found = configs.load(SHIPPED / "zoo.toml", config.ProfileConfig)

    assert [m.source for m in found.models] == [
        "builtin:scene-nano",
        "builtin:scene-small",
        "builtin:scene-base",
    ]
    assert found.grid.num_steps == (1, 2, 4, 8, 16, 32, 50)
    assert found.budget_s <= 540


def test_step_counts_above_a_models_most_are_left_out():
    model = ModelConfig(model_id="turbo", source="hub:a/b", default_num_steps=4, max_num_steps=8)
    found = config.ProfileConfig(models=(model,))

    assert found.steps_of(model) == (1, 2, 4, 8)


@pytest.mark.parametrize(
    ("kind", "fields", "complaint"),
    [
        ("run", {"models": (named("../up"),)}, "must be a plain name .*, got '../up'"),
        ("model", {"model_id": ""}, "model_id must not be empty"),
        ("model", {"source": "http:x"}, "source must begin with builtin:, folder: or hub:"),
        ("model", {"scheduler": "best"}, "one of ddim, .*, got 'best'"),
        ("model", {"default_guidance_scale": math.nan}, "guidance_scale must be 0..50, got nan"),
        ("model", {"width_px": 0}, "width_px must be > 0, got 0"),
        ("grid", {"num_steps": (1, 2, 4)}, "num_steps must be >= 4 rising step counts"),
        ("grid", {"num_steps": (4, 2, 1, 8)}, "num_steps must be >= 4 rising step counts"),
        ("grid", {"num_steps": (0, 2, 4, 8)}, "rising step counts >= 1, got"),
        ("grid", {"min_images": 64, "max_images": 32}, r"2 to max_images \(32\), got 64"),
        ("grid", {"latency_repeats": 0}, "latency_repeats must be > 0, got 0"),
        ("grid", {"batches": ()}, "batches must hold sizes >= 1"),
        ("scorer", {"clip": "inception-v3"}, "clip must begin with .*, got 'inception-v3'"),
        ("scorer", {"fid": "hub:a/b"}, "fid must begin with .*, got 'hub:a/b'"),
        ("scorer", {"world": "open"}, "the open world's judge is builtin:open-judge, got 'bu"),
        ("scorer", {"fid": "builtin:open-judge"}, "the plain world's judge is builtin:judge, got"),
        ("scorer", {"num_reference": 1}, "num_reference must be >= 2, got 1"),
        ("run", {"budget_s": float("inf")}, "budget_s must be > 0 and finite, got inf"),
        ("run", {"bootstrap": 3}, "bootstrap must be >= 20, got 3"),
        ("run", {"device": "gpu"}, "device must be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ("run", {"models": ()}, "models must be named and all different"),
    ],
)
def test_a_refused_value_is_named_with_its_limit(kind, fields, complaint):
    classes = {
        "model": (ModelConfig, {"model_id": "m", "source": "hub:a/b"}),
        "grid": (config.GridConfig, {}),
        "scorer": (config.ScorerConfig, {}),
        "run": (
            config.ProfileConfig,
            {"models": (named("m"),)},
        ),
    }
    cls, valid = classes[kind]

    with pytest.raises(ValueError, match=complaint):
        cls(**{**valid, **fields})


def test_a_model_with_too_few_step_counts_is_named():
    model = ModelConfig(model_id="turbo", source="hub:a/b", default_num_steps=4, max_num_steps=4)

    with pytest.raises(ValueError, match="turbo: max_num_steps 4 leaves fewer than 4"):
        config.ProfileConfig(models=(model,))


def test_a_misspelt_key_is_named_with_the_right_one(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('[grid]\nnum_step = [1]\n[[models]]\nmodel_id = "m"\nsource = "hub:a/b"\n')

    with pytest.raises(ConfigError, match=r"unknown key 'grid\.num_step'; did you mean 'num_"):
        configs.load(path, config.ProfileConfig)
