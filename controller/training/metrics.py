"""What a training run logs, and the writers that it goes to.

One row a frame, in ``metrics.jsonl`` and as TensorBoard scalars; the step is the number of frames
so far, each of all environments side by side. No row holds a time of day or a duration: the same
seed writes the same bytes. All keys:

    train/utility            mean utility of a request while exploring, all environments together
    train/hit_frac           requests served by an edge node
    train/quality            mean normalised quality
    train/num_steps          mean denoising steps of hits
    train/total_s            mean latency
    d3pg/critic_loss         TD loss, mean over the frame's updates
    d3pg/actor_value         what the critic thinks of the actor's actions, in normalised rewards
    d3pg/saturated_frac      raw actions beyond ±0.99: near the share of active users means stuck
    sb3/critic_loss      the same of an agent of Stable-Baselines3 in D3PG's place
    ddqn/td_loss             Huber loss, mean over the frame's updates
    ddqn/q_mean              value of the actions taken, in normalised rewards
    ddqn/target_mean         mean target; its gap to q_mean is the mean TD error
    ddqn/epsilon             chance of a random cache at the next decision
    scale/user_mean          mean of D3PG's rewards so far; taken off them
    scale/user_std           their standard deviation; they are divided by it
    scale/frame_mean         mean of DDQN's rewards so far; taken off them
    scale/frame_std          their standard deviation; they are divided by it
    evaluation/utility       mean utility without exploration, on an episode kept for this
    evaluation/hit_frac      its hits
    evaluation/score         its normalised score: the floor's is 0, the oracle's 1
    evaluation/allocation_score  the same with the oracle's caches; equal allocation's is 0

Keys that a frame has no value for are left out: no update yet, no hit, no evaluation.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from controller.cell.simulator import Outcomes

Metrics = dict[str, float]


class JsonLines:
    """One JSON object a line, ``frame`` first."""

    def __init__(self, file: Path, num_kept: int = 0) -> None:
        """Go on after the first ``num_kept`` rows of a file; what follows them is dropped."""
        self._stream = file.open("a+b")
        self._stream.seek(0)
        for _ in range(num_kept):
            self._stream.readline()
        self._stream.truncate()

    def write(self, frame: int, values: Mapping[str, float]) -> None:
        """Add one frame's row; it is in the file when this returns."""
        self._stream.write(json.dumps({"frame": frame, **values}).encode() + b"\n")
        self._stream.flush()

    def close(self) -> None:
        """Write what is left."""
        self._stream.close()


class TensorBoard:
    """Scalars as TensorBoard reads them."""

    def __init__(self, folder: Path, num_kept: int = 0) -> None:
        """Go on after the first ``num_kept`` frames; what the folder holds of others is hidden."""
        self._writer = SummaryWriter(str(folder), purge_step=num_kept + 1 if num_kept else None)

    def write(self, frame: int, values: Mapping[str, float]) -> None:
        """Add one frame's scalars."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, frame)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def means(rows: Iterable[Metrics]) -> Metrics:
    """Return the mean of each metric over the rows that are not empty; nothing where all are.

    >>> means([{}, {"d3pg/critic_loss": 1.0}, {"d3pg/critic_loss": 2.0}])
    {'d3pg/critic_loss': 1.5}
    """
    kept = [row for row in rows if row]
    return {name: sum(row[name] for row in kept) / len(kept) for name in (kept or [{}])[0]}


def of_frame(slots: Sequence[Outcomes]) -> Metrics:
    """Return what became of a frame's requests."""
    asks = max(sum(int(slot.asks.sum()) for slot in slots), 1)
    hits = sum(int(slot.is_hit.sum()) for slot in slots)
    found = {
        f"train/{name}": sum(float(getattr(slot, name).sum()) for slot in slots) / asks
        for name in ("utility", "quality", "total_s")
    }
    found["train/hit_frac"] = hits / asks
    if hits:
        steps = sum(int((slot.num_steps * slot.is_hit).sum()) for slot in slots)
        found["train/num_steps"] = steps / hits
    return found
