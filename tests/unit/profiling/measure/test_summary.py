import dataclasses

import pytest

from profiling import samples
from profiling.measure import summary
from protos.config import ConfigError

KNEES = {"scene-nano": (2.0, 18.0, 8.0, 24.0), "scene-base": (1.0, 18.0, 16.0, 30.0)}


def fit_of(profile, model_id, metric):
    return next(f for f in profile.model(model_id).quality if f.metric == metric)


@pytest.mark.parametrize("model_id", KNEES)
def test_the_knees_behind_the_samples_lie_in_their_intervals(profile, model_id):
    fit = fit_of(profile, model_id, "clip_score")

    for estimate, true in zip((fit.a1, fit.a2, fit.a3, fit.a4), KNEES[model_id], strict=True):
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.low - 0.3 <= true <= estimate.high + 0.3
    assert fit.a2.high - fit.a2.low < 2  # the mean of 20 prompts that spread by 1


def test_the_affine_latency_behind_the_samples_is_found(profile):
    for model_id, step_s in {"scene-nano": 0.01, "scene-base": 0.03}.items():
        (fit,) = profile.model(model_id).latency

        assert fit.b1.value == pytest.approx(step_s, rel=0.02)
        assert fit.b2.value == pytest.approx(0.05, rel=0.05)
        assert fit.b1.low < fit.b1.value < fit.b1.high
        assert (fit.batch, fit.num_samples) == (1, 30)


def test_means_and_medians_are_those_of_the_samples(profile, measured):
    model = profile.model("scene-base")
    scores = [
        s.clip_score
        for s in measured
        if isinstance(s, samples.QualitySample) and (s.model, s.num_steps) == ("scene-base", 4)
    ]

    assert fit_of(profile, "scene-base", "clip_score").mean[2] == pytest.approx(sum(scores) / 20)
    assert (model.load_cold_s, model.load_warm_s, model.evict_s) == pytest.approx((3.0, 1.1, 0.2))
    assert model.image_bytes == pytest.approx(1009.5)
    assert model.exact_frac == pytest.approx((0.05, 0.1, 0.2, 0.4, 0.8, 1.0))
    assert model.energy_j == pytest.approx(2.0)
    assert fit_of(profile, "scene-base", "fid").mean == pytest.approx(
        [10 + 40 / steps for steps in (1, 2, 4, 8, 16, 32)]
    )


def test_quality_is_normalised_over_all_models(profile):
    means = [m for name in KNEES for m in fit_of(profile, name, "clip_score").mean]

    assert (profile.quality_worst, profile.quality_best) == (min(means), max(means))


def test_the_profile_names_its_scorers_and_their_verdict_on_real_images(profile):
    assert profile.clip_scorer == profile.fid_scorer == "zoo-judge-0123 (128 features, 64 px)"
    assert profile.fid_num_samples == 20
    assert (profile.real_clip_score, profile.real_fid) == (31.5, 4.5)


def test_the_same_samples_give_the_same_profile(choice, measured, manifest, profile):
    digests = dict.fromkeys(KNEES, "abcdef0123456789")

    assert summary.summarise(choice, measured, digests, manifest) == profile


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        (samples.LoadSample, "scene-nano are not complete"),
        (samples.LatencySample, "scene-nano are not complete"),
        (samples.QualitySample, "scene-nano are not complete"),
        (samples.RealSample, "real images"),
    ],
)
def test_incomplete_samples_are_refused(choice, measured, manifest, lost, complaint):
    kept = [sample for sample in measured if not isinstance(sample, lost)]

    with pytest.raises(ConfigError, match=complaint):
        summary.summarise(choice, kept, dict.fromkeys(KNEES, ""), manifest)


def test_a_lacking_fid_point_is_refused(choice, measured, manifest):
    kept = [s for s in measured if not (isinstance(s, samples.FidSample) and s.num_steps == 8)]

    with pytest.raises(ConfigError, match="FID of scene-nano is not complete"):
        summary.summarise(choice, kept, dict.fromkeys(KNEES, ""), manifest)


def test_without_real_images_the_profile_has_no_fid(choice, measured, manifest):
    choice = dataclasses.replace(choice, scorer=dataclasses.replace(choice.scorer, reference=""))
    kept = [s for s in measured if not isinstance(s, samples.FidSample | samples.RealSample)]
    kept.append(samples.RealSample(clip_scorer="a judge", fid_scorer="", num_samples=0))

    profile = summary.summarise(choice, kept, dict.fromkeys(KNEES, ""), manifest)

    assert (profile.fid_scorer, profile.fid_num_samples) == ("", 0)
    assert {fit.metric for fit in profile.models[0].quality} == {"clip_score", "total_variation"}
