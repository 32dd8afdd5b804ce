"""Sampler tables against diffusers' schedulers, over whole trajectories with one denoiser."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from edge_node.config import SAMPLERS
from edge_node.engine import samplers

NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SHAPE = (1, 4, 3, 3)
CASES = [
    (name, prediction, spacing)
    for name in ("ddim", "euler", "euler_ancestral", "dpmpp_2m", "lcm")
    for prediction in ("epsilon", "v_prediction")
    for spacing in ("leading", "trailing", "linspace")
]
CASES += [(name, "v_prediction", "pure noise") for name in ("ddim", "euler", "dpmpp_2m", "lcm")]
CASES += [("flow_euler", "flow", "-")]
THOROUGH = {("epsilon", "leading"), ("v_prediction", "pure noise"), ("flow", "-")}
"""Stable Diffusion's, the zoo's and SD3's own: these are tried with every step count."""


def own(prediction: str, spacing: str):
    if prediction == "flow":
        return FlowMatchEulerDiscreteScheduler(shift=3.0)
    return DDIMScheduler(
        **NOISE,
        prediction_type=prediction,
        timestep_spacing="trailing" if spacing == "pure noise" else spacing,
        rescale_betas_zero_snr=spacing == "pure noise",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def denoise(latents, timestep):
    """A bounded nonlinear net that mixes channels and knows the time."""
    return torch.tanh(0.8 * latents.roll(1, dims=1) + timestep / 1000) * 0.9


def by_diffusers(name: str, own_scheduler, num_steps: int):
    scheduler = samplers.make(name, own_scheduler)
    scheduler.set_timesteps(num_steps)
    generator = torch.Generator().manual_seed(num_steps)
    latents = torch.randn(SHAPE, generator=generator) * getattr(scheduler, "init_noise_sigma", 1.0)
    extra = {"generator": generator} if name in ("euler_ancestral", "lcm") else {}
    for timestep in scheduler.timesteps:
        inputs = latents
        if name != "flow_euler":
            inputs = scheduler.scale_model_input(latents, timestep)
        out = denoise(inputs, timestep)
        latents = scheduler.step(out, timestep, latents, **extra, return_dict=False)[0]
    return latents


def columns(coefficients: torch.Tensor):
    """Return coefficients [n, 7] as a step takes them."""
    return coefficients[..., None, None, None].unbind(1)


def by_table(table: samplers.SamplerTable, seed: int):
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(SHAPE, generator=generator) * table.init_scale
    clean = torch.zeros_like(latents)
    for step in range(table.num_steps):
        own = columns(table.coefficients[step : step + 1])
        out = denoise(latents * own[samplers.IN_SCALE], table.timesteps[step])
        noise = None
        if table.draws_noise[step]:
            noise = torch.randn(SHAPE, generator=generator)
        samplers.advance(latents, clean, out, noise, own)
    return latents


@pytest.mark.parametrize(("name", "prediction", "spacing"), CASES)
def test_a_table_ends_where_diffusers_ends(name, prediction, spacing):
    scheduler = own(prediction, spacing)
    is_common = (prediction, spacing) in THOROUGH
    longest = 50 if name == "lcm" else 100  # diffusers' LCM has no more
    for num_steps in range(1, longest + 1) if is_common else (1, 2, 3, 14, 15, 50):
        if num_steps == 61 and spacing in ("trailing", "pure noise"):
            continue  # diffusers takes 62 there; the next test
        expected = by_diffusers(name, scheduler, num_steps)
        found = by_table(samplers.sampler_table(name, scheduler, num_steps), num_steps)
        scale = max(1.0, expected.abs().max().item())
        # From pure noise diffusers' Euler starts at x = 4096 and subtracts what it has not added:
        # its float32 keeps three digits of the result.
        limit = 2e-3 if (name, spacing) == ("euler", "pure noise") else 1e-4
        assert (found - expected).abs().max() / scale <= limit, num_steps
        assert torch.isfinite(found).all()


@pytest.mark.parametrize("name", ["ddim", "euler", "dpmpp_2m"])
def test_a_step_too_many_by_rounding_is_left_out(name):
    scheduler = own("v_prediction", "trailing")
    theirs = samplers.make(name, scheduler)
    theirs.set_timesteps(61)
    assert len(theirs.timesteps) == 62  # np.arange(1000, 0, -1000 / 61) has 62 members
    assert theirs.timesteps[-1] == -1

    table = samplers.sampler_table(name, scheduler, 61)
    assert table.num_steps == 61
    assert torch.isfinite(table.coefficients).all()
    assert table.timesteps.min() >= 0


def test_requests_with_different_samplers_share_a_step():
    tables = [
        samplers.sampler_table("ddim", own("v_prediction", "trailing"), 7),
        samplers.sampler_table("euler", own("v_prediction", "trailing"), 20),
        samplers.sampler_table("dpmpp_2m", own("v_prediction", "trailing"), 9),
    ]
    coefficients = torch.stack(
        [table.coefficients[step] for table, step in zip(tables, (0, 11, 4), strict=True)]
    )
    tensors = torch.randn(4, 3, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    together, alone = tensors.clone(), tensors.clone()

    samplers.advance(*together, columns(coefficients))

    for i in range(3):
        samplers.advance(*alone[:, i : i + 1], columns(coefficients[i : i + 1]))
    torch.testing.assert_close(together, alone, atol=0, rtol=0)
    assert not torch.equal(together[:2], tensors[:2])


def test_the_estimate_of_each_prediction_type_recovers_the_clean_latent():
    x0, eps = np.array([0.3, -1.2]), np.array([0.7, 0.1])
    alpha, sigma = np.array([0.8, 0.6]), np.array([0.6, 0.8])
    x = alpha * x0 + sigma * eps
    outs = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0}
    for prediction, out in outs.items():
        skip, scale = samplers.estimate(prediction, alpha, sigma)
        np.testing.assert_allclose(skip * x + scale * out, x0, atol=1e-12)
    with pytest.raises(ValueError, match="got 'score'"):
        samplers.estimate("score", alpha, sigma)


def test_one_ddim_step_from_pure_noise_is_the_estimate():
    """By hand: one step goes from t = 999 to the final alpha_bar, that of t = 0."""
    scheduler = own("epsilon", "trailing")
    table = samplers.sampler_table("ddim", scheduler, 1)
    bar, final = (scheduler.alphas_cumprod[t].item() for t in (999, 0))
    x, eps = 1.5, 0.5
    x0 = (x - (1 - bar) ** 0.5 * eps) / bar**0.5
    expected = final**0.5 * x0 + (1 - final) ** 0.5 * eps

    found, clean, out = (torch.full((1, 1, 1, 1), value) for value in (x, 0.0, eps))
    samplers.advance(found, clean, out, None, columns(table.coefficients))
    assert clean.item() == pytest.approx(x0, rel=1e-5)
    assert found.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"clip_sample": True}, "ddim"),
        ({"thresholding": True}, "dpmpp_2m"),
    ],
)
def test_settings_that_change_the_step_are_refused_by_name(setting, name):
    scheduler = DDIMScheduler(**NOISE, **({"clip_sample": False} | setting))
    with pytest.raises(ValueError, match=f"{next(iter(setting))} = True is not supported"):
        samplers.sampler_table(name, scheduler, 4)


def test_the_names_in_the_configuration_are_exactly_the_samplers():
    assert (*samplers._SAMPLERS,) == SAMPLERS


def test_unknown_and_unfit_samplers_are_refused():
    with pytest.raises(ValueError, match=r"must be one of ddim, .*, got 'heun'"):
        samplers.make("heun", own("epsilon", "leading"))
    with pytest.raises(ValueError, match="got scheduler 'ddim'"):
        samplers.make("ddim", own("flow", "-"))
    with pytest.raises(ValueError, match="got scheduler 'flow_euler'"):
        samplers.make("flow_euler", own("epsilon", "leading"))
