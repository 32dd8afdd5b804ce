"""What differs between families of diffusion models: conditions, denoiser call, decoding.

Responsible for loading pipelines and for their adapters, each a thin one over the pipeline's own
components. Not: loop, samplers, guidance and batching, which know no family. Called in the device
thread only.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from torch import Tensor

from edge_node.catalog import Entry
from edge_node.engine.interface import Job
from edge_node.engine.onnx_runtime.graph import Graph, Input, Source
from edge_node.engine.onnx_runtime.nets import OnnxDecoder, OnnxDenoiser, OnnxNet

Condition: TypeAlias = dict[str, Tensor]
"""The inputs of the denoiser besides latent and timestep, of one sample: tensors [1, ...]."""

_MOST_COMPILED = 256
UNUSED_PART = "safety_checker"
"""A part of Stable Diffusion 1.x that takes 1.2 GB; images are not filtered here."""


def load(entry: Entry, dtype: torch.dtype, device: torch.device | str) -> Any:
    """Return a model's diffusers pipeline on a device, without the parts that are not used."""
    is_local = entry.folder is not None
    index = DiffusionPipeline.load_config(entry.location, local_files_only=is_local)
    # Parts that the index leaves empty must be named (SD3 without its third text encoder).
    unused = {
        name: None for name, part in index.items() if part == [None, None] or name == UNUSED_PART
    }
    pipeline = DiffusionPipeline.from_pretrained(
        entry.location,
        dtype=dtype,
        use_safetensors=True,
        variant=entry.config.variant or None,
        local_files_only=is_local,
        **unused,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def adapt(pipeline: Any) -> "StableDiffusion":
    """Return the family of a pipeline.

    Raises:
        ValueError: no adapter for its class.
    """
    name = type(pipeline).__name__
    if name not in _FAMILIES:
        raise ValueError(f"{name} is of no known family; there are {', '.join(_FAMILIES)}")
    return _FAMILIES[name](pipeline)


def generated(
    pipeline: Any, texts: Sequence[str], seeds: Sequence[int], **settings: Any
) -> NDArray[np.uint8]:
    """Return images [n, h, w, 3] of one call of a pipeline, each from a seed of its own.

    PixArt's would round sizes to what it was trained on, and clean captions: not here.
    """
    if _FAMILIES.get(type(pipeline).__name__) is PixArt:
        settings |= {"use_resolution_binning": False, "clean_caption": False}
    images = pipeline(
        list(texts),
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        output_type="np",
        **settings,
    ).images
    return np.rint(images * 255).astype(np.uint8)


def stacked(conditions: Sequence[Condition]) -> Condition:
    """Return several conditions as one batch."""
    return {name: torch.cat([one[name] for one in conditions]) for name in conditions[0]}


class StableDiffusion:
    """Stable Diffusion 1.x and 2.x, and consistency models distilled from them.

    encoded = family.encode(["a red circle", ""])
    conditions = family.conditions(job, encoded)
    out = family.denoise(latents, timesteps, stacked(conditions))
    images = family.decode(latents)
    """

    _added: tuple[str, ...] = ()
    """Conditions that the denoiser takes together, as ``added_cond_kwargs``."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline
        self._net_name = "transformer" if hasattr(pipeline, "transformer") else "unet"
        self._net = getattr(pipeline, self._net_name)
        self._torch_threads: dict[str, int] = {}
        self._guidance_width = self._net.config.get("time_cond_proj_dim")

    def compile(self) -> None:
        """Let torch compile the denoiser, at its first calls, for any batch size."""
        # Batches of one, of up to 15 and of more are compiled apart, and torch counts them for
        # all models of a family together; beyond its limit it would not compile.
        torch._dynamo.config.recompile_limit = _MOST_COMPILED
        self._net.compile(dynamic=True)

    def sources(self, job: Job, variant: str) -> dict[str, Source]:
        """Return what denoiser and decoder are exported from, with a request's shapes, by part."""
        (condition,) = self.conditions(job, self.encode([job.prompt]))
        inputs = tuple(
            Input(
                name=name,
                shape=tuple(value.shape[1:]),
                dtype=str(value.dtype).removeprefix("torch."),
                is_added=name in self._added,
            )
            for name, value in condition.items()
        )
        return {
            name: Source(
                folder=net.config["_name_or_path"],
                net=type(net).__name__,
                variant=variant,
                latent=self.latent_shape(job),
                **settings,
            )
            for name, net, settings in (
                (self._net_name, self._net, {"inputs": inputs}),
                ("vae", self.pipeline.vae, {"is_decoder": True}),
            )
        }

    def run_in_onnx(self, part: str, graph: Graph | None, num_threads: int) -> None:
        """Let an exported graph take a part's place; without one torch gets its threads for it."""
        if graph is None:
            self._torch_threads[part] = num_threads
            return
        net = getattr(self.pipeline, part)
        kind = OnnxDecoder if part == "vae" else OnnxDenoiser
        setattr(self.pipeline, part, kind(graph, net, num_threads))
        self._net = getattr(self.pipeline, self._net_name)

    @property
    def graphs(self) -> dict[str, Graph]:
        """The exported graphs that run in place of nets, by part."""
        parts = self.pipeline.components.items()
        return {name: net.graph for name, net in parts if isinstance(net, OnnxNet)}

    @property
    def runtime(self) -> str:
        """What the denoiser runs in: "torch" or "onnxruntime"."""
        return "onnxruntime" if self._net_name in self.graphs else "torch"

    @property
    def guides_itself(self) -> bool:
        """The denoiser takes the guidance scale as an input and needs no second sample."""
        return self._guidance_width is not None

    def encode(self, texts: Sequence[str]) -> list[Condition]:
        """Return what the denoiser reads of each text: hidden states and what comes with them."""
        encoded = self._encoded(list(texts))
        parts = zip(*(torch.split(tensor, 1) for tensor in encoded.values()), strict=True)
        return [dict(zip(encoded, own, strict=True)) for own in parts]

    def _encoded(self, texts: list[str]) -> Condition:
        hidden, _ = self.pipeline.encode_prompt(
            texts, self.pipeline.device, 1, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": hidden}

    def conditions(self, job: Job, encoded: Sequence[Condition]) -> list[Condition]:
        """Return the conditions of each sample that a request adds to a denoiser call.

        Args:
            job: the request.
            encoded: its texts: the negative prompt first where there is guidance, then the prompt.
        """
        if self._guidance_width is None:
            return list(encoded)
        like = encoded[0]["encoder_hidden_states"]
        scale = self.pipeline.get_guidance_scale_embedding(
            torch.tensor([job.guidance_scale - 1]), embedding_dim=self._guidance_width
        )
        return [one | {"timestep_cond": scale.to(like.device, like.dtype)} for one in encoded]

    def latent_shape(self, job: Job) -> tuple[int, int, int]:
        """Return [channels, height, width] of a latent."""
        factor = self.pipeline.vae_scale_factor
        return self._net.config.in_channels, job.height_px // factor, job.width_px // factor

    def denoise(self, latents: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """Return the denoiser's answers [n, ...] for samples of any requests."""
        inputs: dict[str, Any] = dict(condition)
        if self._added:
            inputs["added_cond_kwargs"] = {name: inputs.pop(name, None) for name in self._added}
        latents = latents.to(self._net.dtype)
        with self._threads_of(self._net_name):
            out: Tensor = self._net(latents, timestep=timesteps, **inputs, return_dict=False)[0]
        return out[:, : latents.shape[1]]  # PixArt also estimates the variance

    @contextlib.contextmanager
    def _threads_of(self, part: str) -> Iterator[None]:
        """Let torch compute in more threads for a part that ONNX Runtime cannot run."""
        if part not in self._torch_threads:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self._torch_threads[part])
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def decode(self, latents: Tensor) -> Tensor:
        """Return images [n, height, width, 3] of finished latents, uint8, where the latents are."""
        vae = self.pipeline.vae
        scaled = _unscaled(latents, vae.config).to(vae.dtype)
        with self._threads_of("vae"):
            images = vae.decode(scaled, return_dict=False)[0].float()
        unit = self.pipeline.image_processor.postprocess(images, output_type="pt")
        return (unit * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class StableDiffusionXL(StableDiffusion):
    """SDXL: two text encoders, whose second one pools, and sizes as conditions."""

    _added = ("text_embeds", "time_ids")

    def __init__(self, pipeline: Any) -> None:
        super().__init__(pipeline)
        if pipeline.vae.dtype == torch.float16 and pipeline.vae.config.get("force_upcast"):
            pipeline.vae.float()  # it overflows in float16

    def _encoded(self, texts: list[str]) -> Condition:
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            texts, device=self.pipeline.device, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": hidden, "text_embeds": pooled}

    def conditions(self, job: Job, encoded: Sequence[Condition]) -> list[Condition]:
        """Add original size, crop and target size; an empty negative prompt may be all zeros."""
        found = super().conditions(job, encoded)
        zeroes_empty = self.pipeline.config.get("force_zeros_for_empty_prompt")
        if len(found) == 2 and not job.negative_prompt and zeroes_empty:
            found[0] = {name: torch.zeros_like(value) for name, value in found[0].items()}
        like = found[0]["encoder_hidden_states"]
        sizes = (job.height_px, job.width_px, 0, 0, job.height_px, job.width_px)
        time_ids = torch.tensor([sizes], device=like.device, dtype=like.dtype)
        return [one | {"time_ids": time_ids} for one in found]


class StableDiffusion3(StableDiffusion):
    """SD3: a transformer that predicts the flow, and up to three text encoders."""

    def _encoded(self, texts: list[str]) -> Condition:
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            texts,
            prompt_2=None,
            prompt_3=None,
            device=self.pipeline.device,
            do_classifier_free_guidance=False,
        )
        return {"encoder_hidden_states": hidden, "pooled_projections": pooled}


class PixArt(StableDiffusion):
    """PixArt-alpha and -sigma: a transformer that reads T5's tokens, without padding."""

    _added = ("resolution", "aspect_ratio")

    def _encoded(self, texts: list[str]) -> Condition:
        hidden, is_own, _, _ = self.pipeline.encode_prompt(
            texts, device=self.pipeline.device, do_classifier_free_guidance=False
        )
        # As a bias, which the transformer would make of it at each call: a compiled one cannot.
        bias = (1 - is_own.to(hidden.dtype)).unsqueeze(1) * -10000.0
        return {"encoder_hidden_states": hidden, "encoder_attention_mask": bias}

    def conditions(self, job: Job, encoded: Sequence[Condition]) -> list[Condition]:
        """Add size and aspect ratio where the transformer takes them."""
        if not self._net.use_additional_conditions:
            return list(encoded)
        like = encoded[0]["encoder_hidden_states"]
        size = like.new_tensor([[job.height_px, job.width_px]])
        shape = {"resolution": size, "aspect_ratio": size[:, :1] / size[:, 1:]}
        return [one | shape for one in encoded]


def _unscaled(latents: Tensor, config: Any) -> Tensor:
    """Return latents as an autoencoder takes them, by the statistics in its configuration."""
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        return latents / config.scaling_factor + (config.get("shift_factor") or 0.0)
    centre, spread = (
        torch.tensor(values, device=latents.device).view(1, -1, 1, 1) for values in (mean, std)
    )
    return latents * spread / config.scaling_factor + centre


_FAMILIES: dict[str, type[StableDiffusion]] = {
    "StableDiffusionPipeline": StableDiffusion,
    "LatentConsistencyModelPipeline": StableDiffusion,
    "StableDiffusionXLPipeline": StableDiffusionXL,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "PixArtAlphaPipeline": PixArt,
    "PixArtSigmaPipeline": PixArt,
}
