"""The command's refusals: each names the thing, the limit and the value, and measures nothing."""

import pytest

from edge_node.zoo.training import contrast
from edge_node.zoo.worlds.builtin import PLAIN
from profiling import fit_curves

CONFIG = """
budget_s = 300
device = "cpu"
[grid]
num_steps = [1, 2, 3, 4]
min_images = 4
max_images = 8
[scorer]
clip = "judge:judge"
fid = "judge:judge"
num_reference = 16
[[models]]
model_id = "tiny"
source = "folder:tiny"
"""


@pytest.fixture
def folder(own_model_root, monkeypatch):
    monkeypatch.chdir(own_model_root)  # where relative paths start
    contrast.export(contrast.build(PLAIN), PLAIN, own_model_root / "judge")
    (own_model_root / "c.toml").write_text(CONFIG)
    return own_model_root


@pytest.fixture
def run(folder, capsys):
    """Run the command on c.toml, with words of it replaced; return (exit code, error text)."""

    def run(*arguments, replace=("", "")):
        (folder / "c.toml").write_text(CONFIG.replace(*replace))
        words = ["--config", str(folder / "c.toml"), "--out", str(folder / "out"), *arguments]
        return fit_curves.main(words), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("replace", "complaint"),
    [
        (("num_steps", "num_step"), "unknown key 'grid.num_step'; did you mean 'num_steps'?"),
        (("[1, 2, 3, 4]", "'all'"), "Expected `array`, got `str` - at `$.grid.num_steps`"),
        (("budget_s = 300", "budget_s = -1"), "budget_s must be > 0 and finite, got -1"),
        (("budget_s = 300", "budget_s = 20"), "budget_s is 20, but for 1 models"),
        (("folder:tiny", "folder:nowhere"), "nowhere is not a folder"),
        (("folder:tiny", "builtin:nowhere"), "the built-in zoo holds: "),
        (("folder:tiny", "builtin:../../secret"), "lies outside the model roots"),
        (('clip = "judge:judge"', 'clip = "judge:gone"'), "'CLIP scorer': "),
        (("num_reference", 'prompts = "gone.txt"\nnum_reference'), "no such file or folder"),
        (("num_reference", 'reference = "gone"\nnum_reference'), "scorer.reference: no such"),
    ],
)
def test_a_wrong_configuration_ends_with_2(run, folder, replace, complaint):
    code, said = run(replace=replace)

    assert code == 2
    assert complaint in said
    assert not (folder / "out" / "samples.jsonl").exists()


def test_an_unknown_model_is_named_with_the_known(run):
    code, said = run("--models", "tiny", "huge")

    assert code == 2
    assert "holds no model 'huge'; it holds: tiny" in said


def test_a_configuration_that_is_not_there_is_named_with_the_shipped(capsys):
    code = fit_curves.main(["--config", "nowhere.toml"])

    assert code == 2
    said = capsys.readouterr().err
    assert "there is no file nowhere.toml" in said
    assert "zoo.toml" in said


def test_truncated_weights_are_named_with_both_sizes(run, folder):
    weights = folder / "tiny" / "unet" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])

    code, said = run()

    assert code == 2
    assert f"{weights} is damaged: {len(whole)} bytes expected, {len(whole) - 10} found" in said


def test_a_truncated_judge_is_refused_too(run, folder):
    weights = folder / "judge" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])

    code, said = run()

    assert code == 2
    assert "'CLIP scorer'" in said
    assert "is damaged" in said


def test_too_few_prompts_are_named(run, folder):
    (folder / "prompts.txt").write_text("one\n\ntwo\nthree\n")

    code, said = run(replace=("num_reference", 'prompts = "prompts.txt"\nnum_reference'))

    assert code == 2
    assert "prompts.txt holds 3 prompts, grid.max_images is 8" in said


def test_too_few_real_images_are_named(run, folder):
    (folder / "real").mkdir()

    code, said = run(replace=("num_reference", 'reference = "real"\nnum_reference'))

    assert code == 2
    assert "real holds 0 images, num_reference is 16" in said


def test_an_output_folder_that_is_a_file_is_named(run, folder):
    (folder / "out").write_text("")

    code, said = run()

    assert code == 2
    assert f"cannot use the output folder {folder / 'out'}" in said


def test_samples_of_something_else_are_refused(run, folder):
    (folder / "out").mkdir()
    (folder / "out" / "samples.jsonl").write_text("something else\n")

    code, said = run()

    assert code == 2
    assert "samples.jsonl, line 1, is not a sample" in said
    assert (folder / "out" / "samples.jsonl").read_text() == "something else\n"


def test_fresh_leaves_alone_what_no_run_wrote(run, folder):
    (folder / "out" / "images").mkdir(parents=True)
    (folder / "out" / "images" / "holiday.png").write_text("mine")

    code, _ = run("--fresh", replace=("budget_s = 300", "budget_s = 20"))

    assert code == 2
    assert (folder / "out" / "images" / "holiday.png").exists()


def test_the_help_teaches(capsys):
    with pytest.raises(SystemExit) as ended:
        fit_curves.main(["--help"])

    assert ended.value.code == 0
    said = capsys.readouterr().out
    for word in ("--config", "--out", "--models", "--budget-s", "--fresh", "report.html", "Ctrl-C"):
        assert word in said
