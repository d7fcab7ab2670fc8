"""The networks of learners with replay: action values Q(s, a), and actors with squashed actions.

They use the towers of `networks`. Where observations are discrete, a network is a row of numbers for each of them.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pgjax.config import Config
from pgjax.envs import observations
from pgjax.envs.spaces import is_box, is_discrete
from pgjax.policies import networks, registry, tables, torsos
from pgjax.policies.choices import legal_only, mixed
from pgjax.policies.distributions import Categorical
from pgjax.policies.eyes import Eye
from pgjax.policies.orthogonal import orthogonal
from pgjax.policies.squashed import SquashedGaussian
from pgjax.types import Array, Env, Policy, PyTree

Bound = tuple[float, ...]


LOG_STD = (-20.0, 2.0)  # the bounds in the program of Haarnoja et al. 2018


class Trunk(nnx.Module):
    """Observations [..., *obs], and `beside` more numbers [..., beside], to features [..., width]."""

    def __init__(self, env: Env, config: Config, beside: int = 0, *, rngs: nnx.Rngs):
        kind = registry.chosen(env, config)
        if kind not in ("mlp", "cnn", "table"):
            raise ValueError(f"network must be one of auto, mlp, cnn, table for a learner with replay; got {kind!r}")
        if kind == "table":
            tables.states(kind, env)
            config = dataclasses.replace(config, hidden=())
        elif not config.hidden:
            raise ValueError("hidden=() leaves a network no layer; give one width or more, or network='table'")
        self.eye = networks.convolving(env, "cnn", rngs) if kind == "cnn" else Eye(env.observation_space, rngs=rngs)
        inputs = self.eye.width + beside
        self.torso = torsos.Torso(inputs, config, rngs=rngs)
        self.width = (inputs, *config.hidden)[-1]

    def __call__(self, obs: PyTree, *beside: Array) -> Array:
        return self.torso(jnp.concatenate([self.eye(obs), *beside], axis=-1))


class Critic(nnx.Module):
    """Q(s, .) [..., A] of finitely many actions, from the observation; or Q(s, a) [...] from both."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.box = box(env)
        self.trunk = Trunk(env, config, 0 if self.box is None else len(self.box[0]), rngs=rngs)
        outputs = env.action_space.n if self.box is None else 1
        self.output = nnx.Linear(self.trunk.width, outputs, kernel_init=orthogonal(1.0), rngs=rngs)

    def __call__(self, obs: PyTree, action: Array | None = None) -> Array:
        if self.box is None:
            return self.output(self.trunk(obs))
        if action is None:
            raise ValueError("action=None: over a Box of actions the critic is Q(s, a); give the action")
        low, high = like(action, self.box)
        return self.output(self.trunk(obs, 2 * (action - low) / (high - low) - 1))[..., 0]


class Twins(nnx.Module):
    """Two critics with different first weights, [2, ...]: the smaller value overestimates less."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.both = nnx.List([Critic(env, config, rngs=rngs) for _ in range(2)])

    def __call__(self, obs: PyTree, action: Array | None = None) -> Array:
        return jnp.stack([critic(obs, action) for critic in self.both])


class Actor(nnx.Module):
    """A Categorical, or a SquashedGaussian whose standard deviation depends on the observation too."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.box = box(env)
        outputs = env.action_space.n if self.box is None else 2 * len(self.box[0])
        self.trunk = Trunk(env, config, rngs=rngs)
        self.output = nnx.Linear(self.trunk.width, outputs, kernel_init=orthogonal(0.01), rngs=rngs)

    def __call__(self, obs: PyTree) -> Categorical | SquashedGaussian:
        x = self.output(self.trunk(obs))
        if self.box is None:
            return Categorical(x)
        mean, log_std = jnp.split(x, 2, axis=-1)
        return SquashedGaussian(mean, jnp.clip(log_std, *LOG_STD), *like(mean, self.box))


class Greedy(nnx.Module):
    """The greedy distribution of action values, and these values: `policies.from_nnx` makes it a Policy.

    Its actions are legal, where observations say which are; the values are of all.
    """

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.legal = observations.legal(env.observation_space, env.action_space)
        self.q = Critic(env, config, rngs=rngs)

    def __call__(self, obs: PyTree) -> tuple[Categorical, Array]:
        q = self.q(obs)
        allowed = Categorical(q) if self.legal is None else legal_only(Categorical(q), self.legal(obs))
        return Categorical(jnp.log(jax.nn.one_hot(allowed.mode(), q.shape[-1]))), q


def box(env: Env) -> tuple[Bound, Bound] | None:
    """(low, high), D numbers each, of a Box of actions; None for finitely many actions.

    Raises:
      ValueError: for a Box without bounds or with more than one axis, and for actions that are neither.
    """
    space = env.action_space
    if is_discrete(space):
        return None
    if not is_box(space):
        raise ValueError(f"a learner with replay needs a Discrete or a Box of actions, got {space!r}; use ppo or a2c")
    low, high = (np.broadcast_to(np.asarray(x, np.float32), space.shape) for x in (space.low, space.high))
    if len(space.shape) != 1 or not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
        raise ValueError(f"a squashed Gaussian needs a Box of actions with one axis and finite bounds, got {space!r}")
    return tuple(low.tolist()), tuple(high.tolist())


def like(x: Array, bounds: tuple[Bound, Bound]) -> tuple[Array, Array]:
    """The bounds, D numbers each, broadcast to the shape [..., D] of x."""
    low, high = (jnp.broadcast_to(jnp.asarray(bound, x.dtype), x.shape) for bound in bounds)
    return low, high


class Exploring(NamedTuple):
    """Draws a uniform action with probability `share`, else one of `dist`; for acting only."""

    dist: Any  # a Categorical, or over a box
    low: Array | None  # [..., D] of a Box of actions; None for a Categorical
    high: Array | None
    share: Array  # []
    legal: Array | None = None  # [..., A]: which actions of a Categorical are legal; None where all are

    def sample(self, key: Array) -> Array:
        """[...] or [..., D]"""
        if self.low is None or self.high is None:
            return self._mixed().sample(key)
        key_which, key_uniform, key_dist = jax.random.split(key, 3)
        uniform = jax.random.uniform(key_uniform, self.low.shape, self.low.dtype, self.low, self.high)
        which = jax.random.uniform(key_which, (*self.low.shape[:-1], 1)) < self.share
        return jnp.where(which, uniform, self.dist.sample(key_dist))

    def log_prob(self, action: Array) -> Array:
        """[...]"""
        if self.low is None or self.high is None:
            return self._mixed().log_prob(action)
        uniform = -jnp.sum(jnp.log(self.high - self.low), axis=-1)
        return jnp.logaddexp(jnp.log(self.share) + uniform, jnp.log1p(-self.share) + self.dist.log_prob(action))

    def mode(self) -> Array:
        """[...] or [..., D]: the mode of `dist`."""
        return self.dist.mode()

    def _mixed(self) -> Categorical:
        return mixed(self.dist, self.share, self.legal)


def exploring_actor(env: Env, policy: Policy, params: PyTree, share: Array | float) -> tuple[Policy, PyTree]:
    """A policy for acting only, which draws a share of its actions uniformly; and its parameters."""
    bounds, legal = box(env), observations.legal(env.observation_space, env.action_space)

    def act(both, memory, obs):
        params, share = both
        dist, memory = policy.act(params, memory, obs)
        low, high = (None, None) if bounds is None else like(dist.mode(), bounds)
        return Exploring(dist, low, high, share, None if legal is None else legal(obs)), memory

    return policy._replace(act=act), (params, share)


class DeterministicActor(nnx.Module):
    """One action [..., D] for each observation: low + (high - low) (1 + tanh x) / 2, x the network's output."""

    def __init__(self, env: Env, config: Config, *, rngs: nnx.Rngs):
        self.trunk = Trunk(env, config, rngs=rngs)
        self.box = bounded(env)
        self.output = nnx.Linear(self.trunk.width, len(self.box[0]), kernel_init=orthogonal(0.01), rngs=rngs)

    def __call__(self, obs: PyTree) -> Array:
        x = jnp.tanh(self.output(self.trunk(obs)))
        low, high = like(x, self.box)
        return low + (high - low) * (1 + x) / 2


def bounded(env: Env) -> tuple[Bound, Bound]:
    """`box` of an environment whose actions must be one.

    Raises:
      ValueError: for finitely many actions, and for a Box without bounds or with more than one axis.
    """
    found = box(env)
    if found is None:
        raise ValueError(f"a deterministic actor needs a Box of actions, got {env.action_space!r}; use sac or dqn")
    return found
