"""The zoo's evaluation, on one small model and few prompts."""

import json
import subprocess
import sys

import pytest

from edge_node.zoo import evaluate

COMMAND = [sys.executable, "-m", "edge_node.zoo.evaluate"]


@pytest.mark.timeout(400)  # on a busy machine
def test_it_writes_tables_a_picture_and_a_record_of_what_it_measured(tmp_path):
    options = [
        "--world",
        "plain",
        "--model",
        "scene-nano",
        "--num-steps",
        "1",
        "4",
        "8",
        "--prompts",
        "12",
    ]

    done = subprocess.run(
        [*COMMAND, *options, "--out", str(tmp_path)], capture_output=True, text=True, check=True
    )

    found = json.loads((tmp_path / "evaluation.json").read_text())
    scores = found["scores"]
    assert [score["num_steps"] for score in scores] == [1, 4, 8]
    assert {score["num_images"] for score in scores} == {12}
    assert scores[0]["clip_score"]["mean"] < scores[-1]["clip_score"]["mean"]
    assert scores[0]["fid"] > scores[-1]["fid"]
    assert scores[0]["seconds"] < scores[-1]["seconds"]
    assert all(s["atoms"]["low"] <= s["atoms"]["mean"] <= s["atoms"]["high"] for s in scores)
    assert [(g["fewer_steps"], g["num_steps"]) for g in found["gains"]] == [(1, 4), (4, 8)]
    (summary,) = found["summaries"]
    assert (summary["model"], summary["sampler"]) == ("scene-nano", "DDIMScheduler")
    assert summary["best_atoms_frac"] == max(score["atoms"]["mean"] for score in scores)
    assert found["pareto"] == ["scene-nano"]
    assert found["weights_bytes"] <= 110e6
    assert found["instruments"]["atoms_frac"] >= 0.98
    assert found["manifest"]["git_sha"]
    table = (tmp_path / "evaluation.md").read_text()
    assert table in done.stdout
    assert "| scene-nano | 8 | 2 |" in table
    assert (tmp_path / "grid.png").stat().st_size > 10_000


def test_the_open_world_has_its_own_instruments_and_models(tmp_path):
    done = subprocess.run(
        [
            *COMMAND,
            *("--world", "open", "--prompts", "4", "--num-steps", "1", "2"),
            *("--out", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )

    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found["instruments"]["decoded_psnr_db"] >= 27
    assert {score["model"] for score in found["scores"]} == {*evaluate.MODELS["open"]}
    assert (tmp_path / "evaluation.md").read_text() in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--num-steps", "0"], "num-steps must be rising and >= 1, got (0,)"),
        (["--num-steps", "8", "4"], "num-steps must be rising and >= 1, got (8, 4)"),
        (["--prompts", "1"], "prompts must be >= 2, got 1"),
        (["--world", "other"], "other"),
        (["--model", "no-such"], "no no-such in"),
        (["--world", "open", "--model", "open-dit"], "no open-dit in"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(options, said, tmp_path, capsys):
    assert evaluate.main([*options, "--out", str(tmp_path)]) == 2

    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
