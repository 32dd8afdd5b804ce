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
    spearman: float | None
    """Rank correlation of CLIP score and atoms over all images; None where there are none."""
