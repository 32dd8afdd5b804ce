"""Trained agents from a training run's folder: for arrays of environments, and for one live run.

Responsible for which folder fits which setting; others are refused by naming both sides. Not:
training.
"""

from dataclasses import replace
from pathlib import Path

import torch

from controller.cell.config import RadioConfig
from controller.cell.scenario import ScenarioConfig, read_models
from controller.training import run_folder as records
from controller.training.learned_policy import AllocationAgent, CachingAgent, LearnedPolicy
from protos.config import ConfigError
from protos.seeds import stream


def load(folder: Path, scenario: ScenarioConfig | None = None) -> LearnedPolicy:
    """Return the policy of a training run's latest checkpoint.

    ``scenario`` is where it is used; None: where it was trained.

    Raises:
        ConfigError: not a training run's folder, no checkpoint, damaged files; a scenario of other
            models, or of a number of users or nodes that the nets were not made for.
    """
    config, trained_on = records.read_config(folder), records.read_scenario(folder)
    used_on = scenario or trained_on
    table = read_models(used_on)
    _require_same("models", read_models(trained_on).model_ids, table.model_ids, folder)
    checkpoint = records.latest_checkpoint(folder)
    if checkpoint is None:
        raise ConfigError(f"{folder} holds no checkpoint yet")
    rng = stream(config.seed, "unused: a checkpoint brings its generators")
    caching = CachingAgent(config.learning.caching, used_on, table, rng)
    allocation = AllocationAgent(
        config.learning.allocation, used_on, rng, config.learning.allocation_agent
    )
    caching.agent.load(checkpoint / "caching")
    allocation.agent.load(checkpoint / "allocation")
    return LearnedPolicy(caching, allocation)


def for_run(
    folder: Path,
    *,
    model_ids: tuple[str, ...],
    num_nodes: int,
    history_frames: int,
    radio: RadioConfig,
    slot_s: float,
) -> LearnedPolicy:
    """Return the same policy for a run of its own cell and clock.

    Sets the number of torch's threads to 1, so that a decision waits for no core.

    Args:
        folder: of the training run; all else is of the run.
        model_ids: that it serves, in the order of its arrays.
        num_nodes: edge nodes.
        history_frames: whose request counts it shows.
        radio: its cell, which channel gains are read against.
        slot_s: length of its slots.

    Raises:
        ConfigError: as above; another number of edge nodes or of history frames than trained for.
    """
    trained_on = records.read_scenario(folder)
    _require_same("models", read_models(trained_on).model_ids, model_ids, folder)
    _require_same("edge nodes", trained_on.num_nodes, num_nodes, folder)
    _require_same("history_frames", trained_on.history_frames, history_frames, folder)
    torch.set_num_threads(1)
    return load(folder, replace(trained_on, radio=radio, slot_s=slot_s))


def _require_same(what: str, trained: object, used: object, folder: Path) -> None:
    if trained != used:
        raise ConfigError(f"{folder} was trained for the {what} {trained}, here they are {used}")
