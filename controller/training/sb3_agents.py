"""Stable-Baselines3's DDPG, TD3 and SAC in D3PG's place: reference agents to compare ours with.

Responsible for the way from D3PG's calls, arrays and minibatches to theirs: they learn from the
same slots, in as many updates on minibatches of the same size, through the same amender, with
hidden layers of the same width. Users and rewards reach them as one vector and one sum, as a
Gymnasium environment shows them; their critics read raw actions; actor and critic learn from the
first update on, both at ``critic_learning_rate``. Of D3PG's settings they use that rate, its decay,
``discount``, ``tau``, ``exploration_std``, ``learning_starts`` and ``nets.hidden``. Not: the rest
of their library (loops, replay, files).

Source: DDPG, Lillicrap et al. 2016; TD3, Fujimoto et al. 2018; SAC, Haarnoja et al. 2018.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DDPG, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from controller.agents import checkpoint
from controller.agents.d3pg import D3pgConfig, rate_scale
from controller.agents.learner import Learner
from controller.agents.networks import ACTION_DIM, SlotSizes
from controller.cell.observations import FEATURE_HIGH, FEATURE_LOW, Features

_KINDS: dict[str, type[TD3] | type[SAC]] = {"sb3-ddpg": DDPG, "sb3-td3": TD3, "sb3-sac": SAC}


class Sb3Agent(Learner):
    """One of their agents with the calls of ``D3pg``."""

    def __init__(
        self, kind: str, config: D3pgConfig, sizes: SlotSizes, rng: np.random.Generator
    ) -> None:
        """Build an agent of the kind "sb3-ddpg", "sb3-td3" or "sb3-sac"."""
        super().__init__({"kind": kind, "config": config, "sizes": sizes}, rng)
        self._kind, self._config, self._sizes = kind, config, sizes
        self._randomness = torch.Generator().manual_seed(int(rng.integers(2**62))).get_state()
        with self._own_randomness():
            self._agent = _KINDS[kind](
                "MlpPolicy",
                _Spaces(sizes),
                learning_rate=lambda scale: config.critic_learning_rate * scale,
                buffer_size=1,  # never filled: update is given its minibatch
                tau=config.tau,
                gamma=config.discount,
                policy_kwargs={"net_arch": [config.nets.hidden] * 3},
                device="cpu",
            )
        self._agent.set_logger(Logger(folder=None, output_formats=[]))

    def act(
        self,
        user_features: NDArray[np.float32],
        user_mask: NDArray[np.bool_],
        context: NDArray[np.float32],
        *,
        explore: bool,
    ) -> NDArray[np.float32]:
        """Return raw actions [env, user, 2] in -1..1; 0 for inactive users (as ``D3pg.act``)."""
        shape = (*user_mask.shape, ACTION_DIM)
        if explore:
            self._num_decisions += 1
        if explore and self._num_decisions <= self._config.learning_starts:
            raw = self._rng.uniform(-1, 1, shape)
        else:
            flat = np.concatenate([user_features.reshape(len(user_features), -1), context], axis=1)
            with self._own_randomness():
                raw = self._agent.predict(flat, deterministic=not explore)[0].reshape(shape)
            if explore and self._kind != "sb3-sac":  # which draws its actions
                raw = raw + self._config.exploration_std * self._rng.standard_normal(shape)
        return np.asarray(raw.clip(-1.0, 1.0) * user_mask[:, :, None], np.float32)

    def update(self, minibatch: Mapping[str, Tensor]) -> dict[str, float]:
        """Learn from one minibatch with the fields of ``d3pg.replay_fields``."""
        now = _flat(minibatch, "")
        follows = minibatch.get("continues", torch.zeros(len(now), dtype=torch.bool))
        self._agent.replay_buffer = _Given(
            ReplayBufferSamples(
                observations=now,
                actions=minibatch["raw_action"].flatten(1),
                next_observations=_flat(minibatch, "next_") if follows.any() else now,
                dones=1.0 - follows.float().unsqueeze(1),
                rewards=minibatch["reward"].sum(1, keepdim=True) / self._sizes.num_users,
            )
        )
        scale = rate_scale(self._config, self._agent._n_updates)
        self._agent._current_progress_remaining = scale
        with self._own_randomness():
            self._agent.train(gradient_steps=1, batch_size=len(now))
        return {"sb3/critic_loss": self._agent.logger.name_to_value["train/critic_loss"]}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, moments, the number of updates and the generator's state by name."""
        parameters = checkpoint.flat(self._agent.get_parameters())
        found = {name: value for name, value in parameters.items() if isinstance(value, Tensor)}
        found["num_updates"] = torch.tensor(self._agent._n_updates)
        found["randomness"] = self._randomness
        return found | self._entropy()

    def _restore(self, tensors: Mapping[str, Tensor]) -> None:
        found = dict(tensors)
        self._randomness = found.pop("randomness")
        self._agent._n_updates = int(found.pop("num_updates"))
        for name, tensor in self._entropy().items():
            tensor.data.copy_(found.pop(name))
        self._agent.set_parameters(_with_tensors(self._agent.get_parameters(), found))

    def _entropy(self) -> dict[str, Tensor]:
        """SAC's learnt coefficient, which its parameters leave out."""
        coefficient = getattr(self._agent, "log_ent_coef", None)
        return {} if coefficient is None else {"log_ent_coef": coefficient}

    @contextlib.contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """Let their agent, which draws from torch's global generator, draw from one of its own."""
        outside = torch.get_rng_state()
        torch.set_rng_state(self._randomness)
        try:
            yield
        finally:
            self._randomness = torch.get_rng_state()
            torch.set_rng_state(outside)


class _Spaces(gymnasium.Env[Features, Features]):
    """What their agent knows of the slots: ``SlotEnvironment``'s spaces."""

    def __init__(self, sizes: SlotSizes) -> None:
        width = sizes.num_users * sizes.user_dim + sizes.context_dim
        self.observation_space = gymnasium.spaces.Box(FEATURE_LOW, FEATURE_HIGH, (width,))
        self.action_space = gymnasium.spaces.Box(-1, 1, (sizes.num_users * ACTION_DIM,))


class _Given(ReplayBuffer):
    """The replay that their agent samples: the minibatch that it is given."""

    def __init__(self, minibatch: ReplayBufferSamples) -> None:
        self._minibatch = minibatch

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:  # noqa: ARG002 - theirs
        return self._minibatch


def _flat(minibatch: Mapping[str, Tensor], prefix: str) -> Tensor:
    users, context = minibatch[f"{prefix}user_features"], minibatch[f"{prefix}context"]
    return torch.cat([users.flatten(1), context], dim=1)


def _with_tensors(tree: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return their parameters with others' tensors, which are named as ``checkpoint.flat`` does."""
    new: dict[str, Any] = {}
    for name, value in tree.items():
        start = f"{name}."
        own = {
            path.removeprefix(start): tensors[path] for path in tensors if path.startswith(start)
        }
        new[name] = own
        if "param_groups" in value:  # of an optimiser: "state.INDEX.KEY"
            state: dict[int, dict[str, Tensor]] = {}
            for path, tensor in own.items():
                _, index, key = path.split(".")
                state.setdefault(int(index), {})[key] = tensor
            new[name] = {**value, "state": state}
    return new
