"""The policy that a run's configuration names.

Owns the choice, and that torch is loaded only for a policy that was learnt.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from controller.policies import policy
from controller.policies.policy import Policy
from controller.record.config import RunConfig


def of_run(
    config: RunConfig, models: Collection[str], num_nodes: int, rng: np.random.Generator
) -> Policy:
    """Return the policy of a run that serves these models on so many edge nodes.

    Raises:
        ConfigError: a checkpoint that is not there or of another setting; both sides are named.
    """
    if config.policy != "t2drl":
        return policy.build(config.policy, rng)
    from controller.training import checkpoints  # noqa: PLC0415 - torch is for those who learn

    return checkpoints.for_run(
        Path(config.checkpoint),
        models=models,
        num_nodes=num_nodes,
        radio=config.radio,
        slot_s=config.slot_s,
    )
