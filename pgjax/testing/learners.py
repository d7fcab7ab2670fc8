"""Conformance checks of learners."""

import jax
import jax.numpy as jnp

from pgjax.testing.common import close, require, same_kinds
from pgjax.training import failures
from pgjax.types import Hypers, Learner


def check_learner(made: Learner, hypers: Hypers, tolerance: float = 1e-3) -> None:
    """State of fixed shapes, scalar metrics, one trace, the same key the same result, vmap equal to a loop."""
    keys = jax.random.split(jax.random.key(0), 2)
    state = jax.jit(made.init)(keys[0], hypers)
    traces = []

    def step(key, state):
        traces.append(1)
        return made.step(key, state, hypers)

    compiled = jax.jit(step)
    following, metrics = compiled(keys[0], state)
    require(same_kinds(state, following), "step changes the state's shapes or types")
    for name, x in metrics.items():
        require(jnp.shape(x) == (), f"metric {name!r} has shape {jnp.shape(x)}, expected a scalar")
    compiled(keys[1], following)
    require(len(traces) == 1, f"step was traced {len(traces)} times for the same shapes")
    params = made.policy(following)[1]
    require(failures.all_finite(params), "the parameters are not finite after one step")
    require(close(made.policy(compiled(keys[0], state)[0])[1], params, 0.0), "the same key gave another result")
    states = jax.tree.map(lambda x: jnp.stack([x, x]), state)
    together = made.policy(jax.jit(jax.vmap(step))(keys, states)[0])[1]
    for i in range(2):
        alone = made.policy(compiled(keys[i], state)[0])[1]
        require(close(jax.tree.map(lambda x: x[i], together), alone, tolerance), "vmap and a loop differ")  # noqa: B023
