"""The training loop that every net of the zoo shares: schedule, EMA, checkpoints, exact resume.

Every random draw of a step comes from ``stream(seed, "<purpose>-<step>")``, so a run
that was stopped and resumed draws exactly what an uninterrupted one draws.
Checkpoints are safetensors + JSON.
"""

import contextlib
import logging
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import accelerate
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from protos.config import read_json, write_json
from protos.progress import StatusLine, time_left
from protos.seeds import stream

logger = logging.getLogger(__name__)

RESTART_FRAC = 0.6
"""Peak learning rate of a cycle, as a share of the cycle's before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How long and how fast a net is trained."""

    num_updates: int
    """Gradient steps; the learning rate anneals to 0 at the last one."""
    batch: int
    """Samples in one update, over all processes."""
    learning_rate: float
    seed: int
    """Of the training data and of every draw in the loss."""
    restarts: tuple[int, ...] = ()
    """Updates at which the learning rate has annealed to 0 and starts anew, from a lower peak."""
    warmup_updates: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    """Ceiling; early on the average follows faster: (1 + update) / (10 + update)."""
    clip_norm: float = 1.0
    checkpoint_every: int = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingRecord:
    """How far a training run came."""

    num_updates: int = 0
    wall_s: float = 0.0
    losses: tuple[tuple[int, float], ...] = ()
    """(update, mean loss since the last entry)."""


Net = TypeVar("Net", bound=nn.Module)

LossAt = Callable[[nn.Module, np.random.Generator], Tensor]
"""Draws one batch with the generator and returns its scalar loss."""


def learning_rate_frac(update: int, recipe: Recipe) -> float:
    """Return the share of the peak learning rate: linear warm-up and a cosine to 0, in each cycle.

    Source: Loshchilov & Hutter 2017 (SGDR), each peak ``RESTART_FRAC`` of the one before.
    """
    begin = max((r for r in recipe.restarts if r <= update), default=0)
    end = min([recipe.num_updates, *(r for r in recipe.restarts if r > update)])
    warm = min(1.0, (update - begin + 1) / max(1, recipe.warmup_updates))
    peak = RESTART_FRAC ** sum(r <= update for r in recipe.restarts)
    return peak * warm * 0.5 * (1 + math.cos(math.pi * (update - begin) / (end - begin)))


def precision() -> Literal["bf16", "no"]:
    """Return what nets compute in while they are trained: bfloat16 where the device has it.

    Elsewhere it would be emulated, slowly. Weights stay in float32.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    known = torch.cpu.get_capabilities()
    return "bf16" if known.get("avx512_bf16") or known.get("amx_bf16") else "no"


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, nets are built from a seed: their weights come from torch's global generator."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        yield


def torch_generator(rng: np.random.Generator) -> torch.Generator:
    """Return a torch generator (CPU) seeded from a NumPy one."""
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def fit(
    net: Net,
    loss_at: LossAt,
    recipe: Recipe,
    folder: Path,
    *,
    begun: TrainingRecord | None = None,
    on_checkpoint: Callable[[nn.Module, TrainingRecord], None] | None = None,
    stop_after: int | None = None,
) -> tuple[Net, TrainingRecord]:
    """Train ``net`` and return its exponential moving average.

    Args:
        net: module to train; its parameters that require no gradient stay as they are.
        loss_at: loss of one batch.
        recipe: length and speed.
        folder: checkpoints; a run found there is continued.
        begun: what ``net`` has behind it, where there is no checkpoint.
        on_checkpoint: called with the average at each checkpoint (to export an early version).
        stop_after: end at this update although the recipe is longer; a later call continues.

    Raises:
        KeyboardInterrupt: Ctrl-C; the update that it met is finished and kept first.
    """
    accelerator = accelerate.Accelerator(mixed_precision=precision())
    _lay_out(net, torch.channels_last)  # convolutions are faster so
    trainable = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
    )
    average = {name: p.detach().clone() for name, p in net.named_parameters() if p.requires_grad}
    before = _restore(folder, net, optimizer, average) or begun or TrainingRecord()
    start = before.num_updates
    end = max(start, min(recipe.num_updates, stop_after or recipe.num_updates))
    model, optimizer = accelerator.prepare(net, optimizer)
    net = accelerator.unwrap_model(model)
    average = {name: value.to(accelerator.device) for name, value in average.items()}
    named = {name: p for name, p in net.named_parameters() if name in average}

    losses, window = list(before.losses), []
    began_s = time.perf_counter()
    status = StatusLine()

    def record(num_updates: int) -> TrainingRecord:
        wall_s = before.wall_s + time.perf_counter() - began_s
        return TrainingRecord(num_updates=num_updates, wall_s=wall_s, losses=tuple(losses))

    with _noted_interrupts() as interrupts:
        for update in range(start, end):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * learning_rate_frac(update, recipe)
            rng = stream(recipe.seed, f"update-{update}-{accelerator.process_index}")
            loss = loss_at(model, rng)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(trainable, recipe.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            _follow(average, named, min(recipe.ema_decay, (1 + update) / (10 + update)))
            window.append(loss.item())

            done = update + 1
            is_last = done == end or bool(interrupts)
            if done % 50 == 0 or is_last:
                losses.append((done, float(np.mean(window))))
                window = []
            if accelerator.is_main_process:
                left_s = (recipe.num_updates - done) * (time.perf_counter() - began_s)
                progress = f"{folder.name} {done}/{recipe.num_updates}  loss {loss.item():.4f}"
                status.show(f"{progress}  {time_left(left_s / (done - start))}", is_due=is_last)
                if done % recipe.checkpoint_every == 0 or is_last:
                    _save(folder, net, optimizer, average, record(done))
                    if on_checkpoint and done < recipe.num_updates:
                        with _averaged(net, named, average):
                            on_checkpoint(net, record(done))
            if interrupts:
                raise KeyboardInterrupt
    _fill(named, average)
    _lay_out(net, torch.contiguous_format)
    return net, record(end)


@contextlib.contextmanager
def _noted_interrupts() -> Iterator[list[int]]:
    """Give a list in which each Ctrl-C is noted, instead of raised in the midst of an update.

    Where it is ignored, as by what a shell runs in the background, it stays so.
    """
    noted: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _averaged(
    net: nn.Module, named: Mapping[str, nn.Parameter], average: Mapping[str, Tensor]
) -> Iterator[None]:
    """Within it, the net's weights are their average, laid out as they are saved."""
    trained = {name: p.detach().clone() for name, p in named.items()}
    _fill(named, average)
    _lay_out(net, torch.contiguous_format)
    try:
        yield
    finally:
        _lay_out(net, torch.channels_last)
        _fill(named, trained)


def _lay_out(net: nn.Module, memory_format: torch.memory_format) -> None:
    """Change how a net's weights lie in memory, not what they are."""
    net.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch's stubs lack it


@torch.no_grad()
def _follow(average: dict[str, Tensor], named: dict[str, nn.Parameter], decay: float) -> None:
    latest = [named[name].detach() for name in average]
    torch._foreach_lerp_(list(average.values()), latest, 1 - decay)


@torch.no_grad()
def _fill(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        targets[name].copy_(value)


def _save(
    folder: Path,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    trained: TrainingRecord,
) -> None:
    """Write a checkpoint beside the last one and swap it in, so that one is always whole."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    moments = {
        f"{index}.{key}": value
        for index, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    for name, tensors in {
        "net": net.state_dict(),
        "average": average,
        "optimizer": moments,
    }.items():
        # Copies: a T5's embedding stands there under two names, which safetensors refuses to share.
        copies = {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        save_file(copies, partial / f"{name}.safetensors")
    write_json(partial / "state.json", trained)
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _restore(
    folder: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> TrainingRecord | None:
    """Fill the arguments from a checkpoint, where there is one; return its record."""
    old = folder.with_name(f"{folder.name}.old")
    if not folder.exists() and old.exists():
        old.rename(folder)
    if not (folder / "state.json").exists():
        return None
    net.load_state_dict(load_file(folder / "net.safetensors"))
    _fill(average, load_file(folder / "average.safetensors"))
    layout = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(folder / "optimizer.safetensors").items():
        index, _, name = key.partition(".")
        format_ = (
            torch.channels_last if value.dim() == 4 else torch.contiguous_format
        )  # as the nets
        state.setdefault(int(index), {})[name] = value.contiguous(memory_format=format_)
    layout["state"] = state
    optimizer.load_state_dict(layout)
    record = read_json(folder / "state.json", TrainingRecord)
    logger.info("%s continues at update %d", folder.name, record.num_updates)
    return record
