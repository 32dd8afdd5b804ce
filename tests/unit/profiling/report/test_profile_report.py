import base64
import dataclasses
import html
import io
import re

import pytest
from PIL import Image

from profiling import samples
from profiling.report import profile_report

STEPS = (1, 2, 4, 8, 16, 32)


@pytest.fixture(scope="module")
def written(profile, measured, tmp_path_factory):
    out = draw_images(tmp_path_factory.mktemp("report"))
    profile_report.write(profile, measured, out, "4 min 05 s")
    return out


@pytest.fixture
def image_folder(tmp_path):
    return draw_images(tmp_path)


def draw_images(folder):
    """Save one image for every quality sample; its colour tells steps and prompt."""
    for model in ("scene-nano", "scene-base"):
        for steps in STEPS:
            for index in range(20):
                file = samples.image_path(folder, model, steps, index)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), (8 * steps - 1, 10 * index, 0)).save(file)
    return folder


def pictures_of(page):
    found = re.findall(r'<img src="data:image/png;base64,([^"]*)" alt="([^"]*)"', page)
    return [(alt, Image.open(io.BytesIO(base64.b64decode(data)))) for data, alt in found]


def test_the_page_needs_no_other_file(written):
    page = (written / "report.html").read_text()

    assert "http" not in page
    assert set(re.findall(r'src="([^:"]*)', page)) == {"data"}
    assert len(pictures_of(page)) == 6  # three metrics, latency, two models


def test_the_grid_shows_the_same_prompts_at_every_step_count(written):
    page = (written / "report.html").read_text()
    grids = [picture for alt, picture in pictures_of(page) if "the prompts above" in alt]

    assert len(grids) == 2
    for grid in grids:
        assert grid.size == (24 + 6 * 96, 24 + 6 * 96)  # six step counts, six prompts, margins
        for column, steps in enumerate(STEPS):
            for row in range(6):
                centre = (24 + 96 * column + 48, 24 + 96 * row + 48)
                assert grid.getpixel(centre) == (8 * steps - 1, 10 * row, 0)  # see draw_images


def test_the_pictures_lie_beside_the_markdown(written):
    linked = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", (written / "report.md").read_text())

    assert len(linked) == 6
    for name in linked:
        with Image.open(written / name) as picture:
            assert min(picture.size) > 300


def test_both_pages_say_the_same(written):
    plain = (written / "report.md").read_text()
    page = html.unescape((written / "report.html").read_text())

    for line in plain.splitlines():
        cells = line.strip("| ").split(" | ") if line.startswith("|") else [line]
        for cell in cells:
            words = re.sub(r"\\([\W_])", r"\1", re.sub(r"^(#+|-|\d+\.) ", "", cell))
            if not words.startswith(("!", "---")):
                assert words in page


def test_measured_numbers_are_in_the_tables(profile, written):
    text = (written / "report.md").read_text()
    model = profile.model("scene-base")
    clip = next(fit for fit in model.quality if fit.metric == "clip_score")
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| sc")]

    assert ["scene-base", *(f"{mean:.2f}" for mean in clip.mean)] in rows
    assert ["scene-base", "5%", "10%", "20%", "40%", "80%", "100%"] in rows
    assert ["scene-base", "50.00", "30.00", "20.00", "15.00", "12.50", "11.25"] in rows
    assert ["scene-base", "7.0", "3.00", "1.10", "0.200", "1.0", "2"] in rows
    a3 = f"{clip.a3.value:.3g} [{clip.a3.low:.3g}, {clip.a3.high:.3g}]"
    assert any(row[0] == "scene-base, clip_score" and a3 in row for row in rows)


def test_scorers_sample_counts_and_floors_are_named(written):
    text = (written / "report.md").read_text()

    assert "by zoo-judge-0123 (128 features, 64 px); higher is better" in text
    assert "Real images of the same prompts get 31.50" in text
    assert "N = 20 images a point, features of zoo-judge-0123" in text
    assert "As many real images get 4.50" in text
    assert "Real images have 0.0123" in text
    assert "not comparable with published CLIP scores" in text
    assert "code: 0123456789ab\n" in text
    assert "scene-base: weights abcdef012345, guidance 3, 64x64 pixels" in text
    assert "this call took 4 min 05 s" in text


def test_what_the_curves_mean_is_said_in_words(written):
    text = (written / "report.md").read_text()

    said = re.search(
        r"scene-nano: the CLIP score rises from ([\d.]+) to ([\d.]+) up to ([\d.]+) steps and is"
        r" flat after: ([\d.]+) s of work score as high as the ([\d.]+) s of 32 steps\.",
        text,
    )

    assert said
    low, high, knee, at_knee, at_most = map(float, said.groups())
    assert high - low == pytest.approx(6, abs=0.2)
    assert knee == pytest.approx(8, abs=0.5)
    assert at_knee == pytest.approx(0.05 + 0.01 * 8, abs=0.02)
    assert at_most == pytest.approx(0.05 + 0.01 * 32, abs=0.02)


@pytest.mark.parametrize(
    ("knees", "words"),
    [
        ({"a2": 30.0, "a4": 20.0}, "more steps do not raise the CLIP score"),
        ({"a3": 32.0}, "the end of the grid: it may rise further"),
    ],
)
def test_curves_that_do_not_saturate_are_not_said_to(profile, measured, image_folder, knees, words):
    model = profile.models[0]
    changes = {
        name: dataclasses.replace(getattr(model.quality[0], name), value=value)
        for name, value in knees.items()
    }
    quality = (dataclasses.replace(model.quality[0], **changes), *model.quality[1:])
    changed = dataclasses.replace(model, quality=quality)
    profile = dataclasses.replace(profile, models=(changed, profile.models[1]))

    profile_report.write(profile, measured, image_folder, "1 s")

    assert f"scene-nano: {words}" in re.sub(
        r"the CLIP score rises from .* steps, the", "the", (image_folder / "report.md").read_text()
    )


def test_a_disturbed_machine_is_told(profile, measured, image_folder, written):
    model = profile.models[0]
    fit = model.latency[0]
    tails = (*fit.p90_s[:-1], 4 * fit.median_s[-1])
    changed = dataclasses.replace(model, latency=(dataclasses.replace(fit, p90_s=tails),))
    profile = dataclasses.replace(profile, models=(changed, profile.models[1]))

    profile_report.write(profile, measured, image_folder, "1 s")

    said = (image_folder / "report.md").read_text()
    assert "Warning: at 1 of 12 points the 90th percentile is more than 1.5 times" in said
    assert "at worst 4.0 times" in said
    assert "Warning" not in (written / "report.md").read_text()


def test_other_scorers_bring_no_words_about_the_judge(profile, measured, image_folder):
    profile = dataclasses.replace(profile, clip_scorer="CLIP clip-vit-base-patch32 (0123)")

    profile_report.write(profile, measured, image_folder, "1 s")

    assert "judge is a small CLIP" not in (image_folder / "report.md").read_text()
