import dataclasses
import json
import subprocess
import sys

import pytest

from profiling import records
from protos.config import ConfigError


def test_a_saved_profile_is_read_back_whole(profile, tmp_path):
    records.save(profile, tmp_path / "profile.json")

    assert records.load(tmp_path / "profile.json") == profile
    assert [file.name for file in tmp_path.iterdir()] == ["profile.json"]


def test_a_profile_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        ConfigError,
        match=r"there is no file .*nowhere\.json; shipped with the program: zoo-cpu\.json",
    ):
        records.load(tmp_path / "nowhere.json")


def test_a_truncated_profile_is_refused(profile, tmp_path):
    path = tmp_path / "profile.json"
    records.save(profile, path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(ConfigError, match="is not a Profile: "):
        records.load(path)


def test_a_lacking_or_mistyped_field_is_named(profile, tmp_path):
    path = tmp_path / "profile.json"
    records.save(profile, path)
    plain = json.loads(path.read_text())
    plain["models"][0]["resident_bytes"] = "7 MB"
    path.write_text(json.dumps(plain))

    with pytest.raises(ConfigError, match=r"models\[0\]\.resident_bytes"):
        records.load(path)


def test_another_format_is_refused_with_both_names(profile, tmp_path):
    path = tmp_path / "profile.json"
    records.save(dataclasses.replace(profile, format="edge-profile/0"), path)

    with pytest.raises(ConfigError, match="'edge-profile/0'; this version reads 'edge-profile/1'"):
        records.load(path)


def test_a_model_that_was_not_measured_is_named_with_those_that_were(profile):
    assert profile.model("scene-base").model_id == "scene-base"
    with pytest.raises(ConfigError, match="no model 'sdxl'; it holds: scene-nano, scene-base"):
        profile.model("sdxl")


def test_reading_a_profile_loads_no_torch_and_no_serving_code():
    code = (
        "import sys, profiling.records, profiling.curves;"
        "heavy = {'torch', 'diffusers', 'transformers', 'edge_node'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
