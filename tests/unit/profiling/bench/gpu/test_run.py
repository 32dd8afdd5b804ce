from edge_node.config import EngineConfig
from profiling.bench import __main__ as bench
from profiling.bench import tiny_shapes
from profiling.bench.gpu.run import EXPECTED_S, Folders


def test_full_size_models_are_refused_on_a_cpu(tmp_path, capsys):
    assert bench.main(["gpu", "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "full-size models need a GPU" in capsys.readouterr().err


def test_an_unknown_stage_is_refused_by_name(tmp_path, capsys):
    assert bench.main(["gpu", "--tiny", "--stages", "sd9-loads", "--out", str(tmp_path)]) == 2
    assert f"no ['sd9-loads']; there are {', '.join(EXPECTED_S)}" in capsys.readouterr().err


def test_the_disk_holds_one_model_at_a_time(tmp_path):
    folders = Folders(tmp_path, EngineConfig(device="cpu"))
    first, second, _ = tiny_shapes.ALL

    model = folders.model(first)
    before = sorted((tmp_path / "sd15").rglob("*.safetensors"))
    folders.model(first)
    assert model.source == f"folder:{tmp_path / 'sd15'}"
    assert sorted((tmp_path / "sd15").rglob("*.safetensors")) == before

    folders.model(second)
    assert [folder.name for folder in tmp_path.iterdir()] == ["sdxl"]
