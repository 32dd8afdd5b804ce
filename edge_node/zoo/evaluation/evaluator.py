"""Measures the models of a world, all on the same held-out prompts."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline
from scipy import stats

from edge_node.zoo import judge
from edge_node.zoo.evaluation import measures
from edge_node.zoo.evaluation.images import generate, load, own_guidance_scale
from edge_node.zoo.evaluation.record import Evaluation, Gain, InstrumentChecks, Score, Summary
from edge_node.zoo.training import autoencoder, contrast
from edge_node.zoo.worlds.interface import IMAGE_PX, Scene, World
from protos.progress import StatusLine, time_left
from protos.seeds import stream

GRID_PROMPTS = 4
_TIMED = 3
_CHECKED = 1000


@dataclass(frozen=True, slots=True)
class _Found:
    """What a model's images at one step count show: [n], [n] and features [n, d]."""

    num_steps: int
    atoms: np.ndarray
    clip: np.ndarray
    features: np.ndarray


class Evaluator:
    """Measures the models of a world on the same prompts."""

    def __init__(self, world: World[Any], weights: Path, num_prompts: int, seed: int) -> None:
        self._world, self._weights, self._seed = world, weights, seed
        self._judge = judge.load_judge(weights / f"{world.prefix}judge")
        self._features = self._judge.fid_module()
        self._asked: list[Scene] = world.distinct(stream(seed, "prompts"), num_prompts, "held-out")
        self._captions = [scene.caption for scene in self._asked]
        rng = stream(seed, "reference")
        real = world.draw(rng, _CHECKED, "held-out")
        self._real = measures.Reference(self._fid_features(world.render(real, rng, IMAGE_PX)))
        self._rng = stream(seed, "resampling")
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        """Atoms and CLIP score of all images so far, [n] each."""
        self.grids: dict[str, np.ndarray] = {}
        """Of each model, the first prompts' images [steps, prompts, h, w, 3]."""

    def evaluate(self, models: Sequence[str], step_counts: Sequence[int]) -> Evaluation:
        """Return everything that is measured of the models."""
        instruments = self.instruments()
        scores, gains, summaries = [], [], []
        for model in models:
            found, gained, summary = self.measure(model, step_counts)
            scores += found
            gains += gained
            summaries.append(summary)
        front = measures.pareto([(s.model, s.seconds, s.atoms.mean) for s in scores])
        return Evaluation(
            world=self._world.name,
            instruments=instruments,
            scores=tuple(scores),
            gains=tuple(gains),
            summaries=tuple(summaries),
            pareto=tuple(dict.fromkeys(name for name, _, _ in front)),
            spearman=self._spearman(),
            weights_bytes=sum(f.stat().st_size for f in self._weights.rglob("*.safetensors")),
        )

    def instruments(self) -> InstrumentChecks:
        """Return how well judge and check read held-out rendered scenes."""
        folder = self._weights / f"{self._world.prefix}autoencoder"
        vae = AutoencoderTiny.from_pretrained(folder, dtype=torch.float32)
        rng = stream(self._seed, "rendered")
        scenes = self._world.draw(rng, _CHECKED, "held-out")
        images = self._world.render(scenes, rng, IMAGE_PX)
        decoded = autoencoder.reconstruct(vae, images)
        error = np.square(images.astype(np.float64) - decoded).mean(axis=(1, 2, 3))
        return InstrumentChecks(
            judge=self._judge.scorer_name,
            retrieval_frac=contrast.retrieval_frac(self._judge, self._world, rng),
            atoms_frac=float(self._atoms(images, scenes).mean()),
            decoded_atoms_frac=float(self._atoms(decoded, scenes).mean()),
            decoded_psnr_db=float((10 * np.log10(255**2 / error)).mean()),
        )

    def measure(
        self, model: str, step_counts: Sequence[int]
    ) -> tuple[list[Score], list[Gain], Summary]:
        """Return a model's scores at each step count, and what more steps gain."""
        pipeline = load(self._weights / model)
        status, began_s = StatusLine(), time.perf_counter()
        scores, gains, columns = [], [], []
        last: _Found | None = None
        total, done = sum(step_counts), 0
        for num_steps in step_counts:
            images = generate(pipeline, self._captions, num_steps, self._seed)
            columns.append(images[:GRID_PROMPTS])
            atoms = self._atoms(images, self._asked)
            clip = self._judge.clip_score(images, self._captions)
            self._pairs.append((atoms, clip))
            found = _Found(num_steps, atoms, clip, self._fid_features(images))
            scores.append(self._score(pipeline, model, found))
            if last:
                gains.append(self._gain(model, found, last))
            last = found
            done += num_steps
            left_s = (time.perf_counter() - began_s) * (total - done) / done
            progress = f"{model} at {num_steps} steps: {scores[-1].atoms.mean:.1%} of atoms"
            status.show(f"{progress}  {time_left(left_s)}", is_due=True)
        self.grids[model] = np.stack(columns)
        return scores, gains, _summary(model, type(pipeline.scheduler).__name__, scores)

    def _score(self, pipeline: DiffusionPipeline, model: str, found: _Found) -> Score:
        return Score(
            model=model,
            num_steps=found.num_steps,
            guidance_scale=own_guidance_scale(pipeline),
            atoms=measures.estimate(found.atoms, self._rng),
            exact_frac=float((found.atoms == 1).mean()),
            clip_score=measures.estimate(found.clip, self._rng),
            fid=self._real.distance(found.features),
            seconds=self._seconds(pipeline, found.num_steps),
            num_images=len(found.atoms),
        )

    def _gain(self, model: str, more: _Found, fewer: _Found) -> Gain:
        return Gain(
            model=model,
            num_steps=more.num_steps,
            fewer_steps=fewer.num_steps,
            atoms_p=measures.better_p(more.atoms, fewer.atoms, self._rng),
            clip_p=measures.better_p(more.clip, fewer.clip, self._rng),
            fid_p=self._real.nearer_p(more.features, fewer.features, self._rng),
        )

    def _seconds(self, pipeline: DiffusionPipeline, num_steps: int) -> float:
        taken_s = []
        for caption in self._captions[:_TIMED]:
            began_s = time.perf_counter()
            generate(pipeline, [caption], num_steps, self._seed)
            taken_s.append(time.perf_counter() - began_s)
        return float(np.median(taken_s))

    def _atoms(self, images: np.ndarray, scenes: Sequence[Scene]) -> np.ndarray:
        pairs = zip(images, scenes, strict=True)
        return np.array([self._world.held_frac(image, scene) for image, scene in pairs])

    @torch.no_grad()
    def _fid_features(self, images: np.ndarray) -> np.ndarray:
        parts = torch.split(torch.from_numpy(images).permute(0, 3, 1, 2), 256)
        return torch.cat([self._features(part) for part in parts]).double().numpy()

    def _spearman(self) -> float:
        atoms, clip = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
        return float(stats.spearmanr(atoms, clip).statistic)


def _summary(model: str, sampler: str, scores: Sequence[Score]) -> Summary:
    quality = {score.num_steps: score.atoms.mean for score in scores}
    return Summary(
        model=model,
        sampler=sampler,
        range_frac_at_4_steps=measures.share_of_range(quality, 4) if 4 in quality else None,
        steps_to_90_percent=measures.steps_to_share(quality, 0.9),
        best_atoms_frac=max(quality.values()),
    )
