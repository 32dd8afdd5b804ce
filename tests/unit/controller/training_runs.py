"""Small training runs for tests: the synthetic scenario of scenarios.py, nets of a few units."""

import dataclasses
from pathlib import Path

from controller.agents.d3pg import D3pgConfig
from controller.agents.ddqn import DdqnConfig
from controller.agents.networks import NetConfig
from controller.cell.scenario import ScenarioConfig
from controller.cell.simulator import Simulator
from controller.training import train
from controller.training.run_folder import TrainConfig, begin
from controller.training.two_timescale import LearningConfig, TwoTimescale
from tests.unit.controller.scenarios import MANY, scenario, table

ENVS = 3


def learning(**changes) -> LearningConfig:
    values = {
        "caching": DdqnConfig(hidden=8, epsilon_decisions=20),
        "allocation": D3pgConfig(nets=NetConfig(hidden=8, chain_len=2), critic_warmup_updates=5),
        "caching_warmup_frames": 1,
        "caching_updates": 2,
        "caching_minibatch": 4,
        "allocation_minibatch": 4,
        "caching_replay": 40,
        "allocation_replay": 40,
    }
    return LearningConfig(**(values | changes))


def learner(seed: int = 0, config: LearningConfig | None = None, **changes) -> TwoTimescale:
    """Return a learner on the scenario with these changes."""
    return TwoTimescale(config or learning(), scenario(**changes), table(**changes), seed)


def simulator(seed: int = 0, **changes) -> Simulator:
    return Simulator(scenario(**changes), table(**changes), num_envs=ENVS, seed=seed)


def train_config(output: Path, **changes) -> TrainConfig:
    values = {
        "num_episodes": 4,
        "num_envs": ENVS,
        "checkpoint_every": 2,
        "evaluate_every": 2,
        "evaluation_envs": 2,
        "output": str(output),
        "learning": learning(),
    }
    return TrainConfig(**(values | changes))


def trained(
    output: Path, setting: ScenarioConfig | None = None, **changes
) -> tuple[TrainConfig, Path]:
    """Train; return the configuration and the folder."""
    config, setting = train_config(output, **changes), setting or scenario()
    folder = begin(config, setting, "test")
    train.train(config, setting, folder, train.Progress())
    return config, folder


def longer(config: TrainConfig, num_episodes: int) -> TrainConfig:
    return dataclasses.replace(config, num_episodes=num_episodes)


SETTINGS = {
    "diffusion": (learning(), scenario()),
    "mlp-discounted-2-nodes": (
        learning(
            allocation=D3pgConfig(
                nets=NetConfig(actor="mlp", architecture="mlp", hidden=8),
                discount=0.9,
                critic_warmup_updates=5,
                learning_starts=20,
            )
        ),
        scenario(num_nodes=2),
    ),
    "13-models": (learning(), scenario(synthetic_models=MANY)),
}
"""How and where runs learn, one of each kind."""
