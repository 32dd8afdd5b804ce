"""What a run reads before it starts anything: profile, prompts, ticket secret.

Responsible for their checks, so that a wrong file is one clear error and nothing has begun.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from controller.cell.dynamics import ModelTable, model_curves
from controller.cell.scenario import bounded_table
from controller.cell.workload import read_prompts
from controller.record.config import RunConfig
from profiling import records
from profiling.records import Profile
from protos.config import ConfigError
from protos.messages import ModelInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Everything read, nothing started."""

    profile: Profile
    prompts: tuple[str, ...]
    secret: bytes
    """That tickets are signed with."""


def read(config: RunConfig) -> Inputs:
    """Read the files that a configuration names.

    Raises:
        ConfigError: a file is missing, empty or of another format.
    """
    if config.checkpoint and not Path(config.checkpoint, "config.json").is_file():
        raise ConfigError(f"checkpoint {config.checkpoint} is not a training run's folder")
    return Inputs(
        profile=records.load(config.profile),
        prompts=read_prompts(config.workload.prompts),
        secret=_secret(config.ticket_secret_file),
    )


def _secret(name: str) -> bytes:
    if not name:
        return secrets.token_hex(32).encode()
    try:
        secret = Path(name).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"cannot read ticket_secret_file {name}: {error.strerror}") from error
    if not secret:
        raise ConfigError(f"ticket_secret_file {name} is empty")
    return secret


def match(profile: Profile, served: Iterable[Sequence[ModelInfo]], config: RunConfig) -> ModelTable:
    """Return every model that the nodes serve, in the profile's order.

    Args:
        profile: measured models.
        served: the catalog of each node.
        config: of the run.

    Raises:
        ConfigError: the profile lacks one of them; the models of both sides are named.
    """
    limits: dict[str, int] = {}
    for models in served:
        for model in models:
            limit = limits.get(model.model_id, model.max_num_steps)
            limits[model.model_id] = min(limit, model.max_num_steps)
    known = [model.model_id for model in profile.models]
    missing = [model_id for model_id in limits if model_id not in known]
    if missing:
        raise ConfigError(
            f"the profile {config.profile} was made from other models: it lacks "
            f"{', '.join(missing)}; it holds {', '.join(known)}; "
            f"the nodes serve {', '.join(limits)}"
        )
    found = [model_curves(profile, model_id) for model_id in known if model_id in limits]
    bounded = [
        replace(model, max_num_steps=min(model.max_num_steps, limits[model.model_id]))
        for model in found
    ]
    return bounded_table(bounded, config.allocation)
