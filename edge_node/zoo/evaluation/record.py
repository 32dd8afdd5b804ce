"""What an evaluation found, as it is written to evaluation.json."""

from dataclasses import dataclass

from edge_node.zoo.evaluation.measures import Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One model at one step count."""

    model: str
    num_steps: int
    guidance_scale: float
    atoms: Estimate
    """Share of a caption's atoms that hold."""
    exact_frac: float
    """Share of the images in which all of them hold."""
    clip_score: Estimate
    fid: float
    """On the judge's features, against 1,000 rendered held-out scenes of another seed."""
    seconds: float
    """Of one image by itself, median; diffusers' pipeline, text encoding and decoding included."""
    num_images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """What more steps buy, paired by prompt: one-sided p-values."""

    model: str
    num_steps: int
    fewer_steps: int
    atoms_p: float
    clip_p: float
    fid_p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """How a model's share of atoms rises with denoising steps."""

    model: str
    sampler: str
    """Class of its scheduler."""
    range_frac_at_4_steps: float | None
    """Of its own range, fewest steps to best; None where 4 steps were not measured."""
    steps_to_90_percent: int
    """Fewest measured steps that reach 90 % of its range."""
    best_atoms_frac: float


@dataclass(frozen=True, kw_only=True, slots=True)
class InstrumentChecks:
    """How well the instruments read held-out rendered scenes, and after the autoencoder."""

    judge: str
    retrieval_frac: float
    """How often the right caption of 64 wins."""
    atoms_frac: float
    """Of rendered scenes."""
    decoded_atoms_frac: float
    """After the autoencoder: what no denoiser can exceed."""
    decoded_psnr_db: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Everything that was measured."""

    world: str
    instruments: InstrumentChecks
    scores: tuple[Score, ...]
    gains: tuple[Gain, ...]
    summaries: tuple[Summary, ...]
    pareto: tuple[str, ...]
    """Models on the front of atoms against seconds, the fastest first."""
    spearman: float
    """Rank correlation of CLIP score and atoms over all images."""
    weights_bytes: int
    """Of all models in the weights' folder, other worlds' too."""
