"""What a run reads before it starts anything: profile, prompts, ticket secret.

Owns their checks, so that a wrong file is one clear error and nothing has begun.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from controller.cell.dynamics import ModelCurves, model_curves
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


def match(
    profile: Profile, served: Mapping[str, tuple[ModelInfo, ...]], where: str
) -> dict[str, ModelCurves]:
    """Return the curves of every model that the nodes serve.

    Args:
        profile: measured models.
        served: catalogs by node_id.
        where: the profile's file, for the message.

    Raises:
        ConfigError: the profile lacks one of them; the models of both sides are named.
    """
    limits: dict[str, int] = {}
    for models in served.values():
        for model in models:
            limit = limits.get(model.model_id, model.max_num_steps)
            limits[model.model_id] = min(limit, model.max_num_steps)
    known = [model.model_id for model in profile.models]
    missing = [model_id for model_id in limits if model_id not in known]
    if missing:
        raise ConfigError(
            f"the profile {where} was made from other models: it lacks {', '.join(missing)}; "
            f"it holds {', '.join(known)}; the nodes serve {', '.join(limits)}"
        )
    found = {model_id: model_curves(profile, model_id) for model_id in limits}
    return {
        model_id: replace(curves, max_num_steps=min(curves.max_num_steps, limits[model_id]))
        for model_id, curves in found.items()
    }
