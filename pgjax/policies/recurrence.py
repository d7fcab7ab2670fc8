"""`recurrent` and `linear_memory` make a `Policy` of a flax module with a memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from pgjax.policies.choices import legal_only
from pgjax.policies.modules import Build, Legal, checked, evaluation, functional
from pgjax.types import Array, Evaluation, Policy, PyTree, Trajectory


def recurrent(build: Build, width: int, constants: bool = True, legal: Legal | None = None) -> Policy:
    """A policy with a memory [B, width] that starts each episode at zero.

    Args:
      build: `nnx.Rngs -> module`; `module.remember(memory, obs) -> memory` adds one observation to the memory,
        `module.read(memory) -> (distribution, value)` acts on it.
      constants, legal: as in `from_nnx`.
    """
    init, merge = functional(build, constants)

    def act(params, memory, obs):
        module = merge(params)
        memory = module.remember(memory, obs)
        return _read(module, memory, obs, legal)[0], memory

    def evaluate(params, trajectory):
        module = merge(params)

        def step(memory, inputs):
            obs, next_obs, done = inputs
            memory = module.remember(memory, obs)
            foreseen = module.remember(memory, next_obs)
            return jnp.where(done[:, None], 0.0, memory), (memory, foreseen)

        done = trajectory.terminated | trajectory.truncated
        inputs = (trajectory.obs, trajectory.next_obs, done)
        seen, foreseen = jax.lax.scan(step, trajectory.memory, inputs)[1]
        return _evaluated(module, seen, foreseen, trajectory, legal)

    return Policy(init=init, memory=_blank(width), act=act, evaluate=evaluate)


def linear_memory(build: Build, width: int, constants: bool = True, legal: Legal | None = None) -> Policy:
    """A policy whose memory [B, width] is a linear recurrence, h_t = a_t h_{t-1} + b_t, and begins an episode at zero.

    Acting goes step by step; `evaluate` finds all h_t of a rollout by one parallel scan over time (Blelloch 1990), in
    which a_t = 0 where an episode begins. So it makes large products in place of T small ones.

    Args:
      build: `nnx.Rngs -> module`; `module.recurrence(obs) -> (a, b)`, each [..., width], neither of which sees the
        memory; `module.combine(a, h)` is their product, associative; `module.read(memory) -> (distribution, value)`.
      constants, legal: as in `from_nnx`.
    """
    init, merge = functional(build, constants)

    def act(params, memory, obs):
        module = merge(params)
        factor, term = module.recurrence(obs)
        memory = module.combine(factor, memory) + term
        return _read(module, memory, obs, legal)[0], memory

    def evaluate(params, trajectory):
        module = merge(params)
        factor, term = module.recurrence(trajectory.obs)
        done = trajectory.terminated | trajectory.truncated
        begins = jnp.concatenate([jnp.zeros_like(done[:1]), done[:-1]])
        factor = jnp.where(begins[..., None], 0.0, factor)
        term = term.at[0].add(module.combine(factor[0], trajectory.memory))

        def join(before, after):
            return module.combine(after[0], before[0]), module.combine(after[0], before[1]) + after[1]

        seen = jax.lax.associative_scan(join, (factor, term))[1]
        ahead, ahead_term = module.recurrence(trajectory.next_obs)
        foreseen = module.combine(ahead, seen) + ahead_term
        return _evaluated(module, seen, foreseen, trajectory, legal)

    return Policy(init=init, memory=_blank(width), act=act, evaluate=evaluate)


def _blank(width: int) -> Callable[[int], Array]:
    return lambda batch: jnp.zeros((batch, width))


def _read(module: Any, memory: Array, obs: PyTree, legal: Legal | None) -> tuple[Any, Any, PyTree]:
    """What the module says of a memory, of legal actions alone where the observation says which are."""
    dist, value, extra = checked(module.read(memory), type(module).__name__)
    return dist if legal is None else legal_only(dist, legal(obs)), value, extra


def _evaluated(module: Any, seen: Array, foreseen: Array, trajectory: Trajectory, legal: Legal | None) -> Evaluation:
    """Of the memories [T, B, width] after each observation, and after the next one."""
    now = _read(module, seen, trajectory.obs, legal)
    return evaluation(now, _read(module, foreseen, trajectory.next_obs, legal), trajectory)
