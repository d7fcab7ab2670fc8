"""Phasic policy gradient: its network and the loss of its auxiliary phases; its plugs are in the roster.

Cobbe et al. 2021, Phasic policy gradient, algorithm 1. Between the phases it is PPO. After every so many updates
(`algorithms.auxiliary`) the actor's torso learns values too, by a second head, while a KL keeps its policy as it is.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from pgjax.config import Config, check_unused
from pgjax.envs import observations
from pgjax.hyperparameters import NonNegative
from pgjax.losses.contract import by_step
from pgjax.policies import modules, networks, registry, tables
from pgjax.policies.orthogonal import orthogonal
from pgjax.types import Array, Batch, Env, Evaluation, Policy, PyTree


@by_step
def joint(now: Evaluation, batch: Batch, *, clone_coef: NonNegative = 1.0) -> tuple[Array, dict[str, Array]]:
    """L_joint + L_value, per step: (V_a - target)^2 / 2 + clone_coef KL(old || new) + (V - target)^2 / 2.

    V is the critic's value, V_a that of the second head on the actor's torso, `now.extra`. `old` is the policy as the
    phase began, `batch.then`.
    """
    error = (now.extra - batch.target) ** 2 + (now.value - batch.target) ** 2
    kl = batch.then.dist.kl(now.dist)
    return error / 2 + clone_coef * kl, {"kl": kl}


class _MLP(networks.MLP):
    """The two towers of MLP, and a second value on the actor's."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        super().__init__(env, config, rngs=rngs)
        self.second_head = nnx.Linear(config.hidden[-1], 1, kernel_init=orthogonal(1.0), rngs=rngs)

    def __call__(self, obs: PyTree) -> tuple[Any, Array, Array]:
        x = self.actor_torso(self.eye(obs))
        return self.actor_head(x), self.critic(obs), self.second_head(x)[..., 0]


class _CNN(_MLP, networks.CNN):
    """The same on images. Both towers see through the same convolutions, as CNN's do."""


class _Table(tables.Table):
    """A second value beside that of Table. Nothing is shared there, so the phases teach the critic alone."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        super().__init__(env, config, rngs=rngs)
        self.second = nnx.Param(jnp.zeros(self.value.shape))

    def __call__(self, obs: PyTree) -> tuple[Any, Array, Array]:  # type: ignore[override]
        return self.actor(obs), self.critic(obs), self.second[...][observations.at(obs, self.path)]


def make_policy(env: Env, config: Config = Config()) -> Policy:
    """The actor-critic that config names, with a second value head on the actor's torso, which is `extra`.

    Raises:
      ValueError: for another network than an MLP, a CNN or a table, and for a field of the config that means nothing
        to it.
    """
    kinds = {"mlp": _MLP, "cnn": _CNN, "table": _Table}
    kind = registry.chosen(env, config)
    if kind not in kinds:
        raise ValueError(f"network must be one of auto, {', '.join(kinds)} with ppg; got {kind!r}")
    check_unused(config, UNUSED, "with ppg")
    legal = observations.legal(env.observation_space, env.action_space)
    return modules.from_nnx(lambda rngs: kinds[kind](env, config, rngs=rngs), constants=False, apart=True, legal=legal)


UNUSED = {
    "critic": "its critic's values are of states; leave it out",
    "critics": "its critic is one; use critics=1",
    "shared": "actor and critic are apart, and the phases share; use shared=False",
    "kernel": "use kernel='xla'",
    "heads": "its network is no transformer; leave it out",
    "positions": "its network is no transformer; leave it out",
}
