"""The exact gradient and tables of a policy in an enumerable environment.

And a rehearsal: one measurement of shapes alone, so that mistakes are found before anything runs.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import rollout
from pgjax.advantages.baselines import Fitted
from pgjax.oracle import mdp as oracle_mdp
from pgjax.oracle.mdp import MDP, probabilities
from pgjax.types import Env, Policy, PyTree, Trajectory
from pgjax.variance.estimators.weights import Tables
from pgjax.variance.measurement import exact, measure, scores
from pgjax.variance.measurement.measure import Inputs, Setup


def example(env: Env, policy: Policy, params: PyTree) -> Trajectory:
    """Zeros like one step of one episode."""
    one = jax.eval_shape(lambda key: rollout.episodes(key, env, policy, params, 1, 1)[0], jax.random.key(0))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), one)


def exact_gradient(
    mdp: MDP | None,
    policy: Policy,
    params: PyTree,
    where: scores.Layout,
    given: Callable[[PyTree], PyTree] | None = None,
) -> tuple[np.ndarray | None, Tables | None]:
    """The gradient [P], float64: `given`'s, or that of J in an enumerable environment; and the exact values."""

    def chosen(tree):
        flat = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
        return np.concatenate([flat[i] for i in where.leaves])

    if given is not None:
        found = given(params)
        wanted, got = (jax.tree.map(np.shape, tree) for tree in (params, found))
        if wanted != got:
            raise ValueError(f"gradient must return a tree like params, {wanted}; got {got}")
        return chosen(found), None
    if mdp is None:
        return None, None
    values = oracle_mdp.values(mdp, probabilities(policy, params, len(mdp.start), mdp.legal))
    tables = Tables(jnp.asarray(values.value, jnp.float32), jnp.asarray(values.action_value, jnp.float32))
    return chosen(oracle_mdp.gradient(mdp, policy, params)[1]), tables


def world(mdp: MDP, env: Env, policy: Policy, params: PyTree, behaviour: PyTree, where: scores.Layout) -> exact.World:
    """The tables of an enumerable environment with both policies, the critic and the scores of the kept parameters."""
    states = len(mdp.start)
    columns = np.split(np.arange(sum(np.size(x) for x in jax.tree.leaves(params))), _ends(params))
    kept = np.concatenate([columns[i] for i in where.leaves])
    pi, acting = (probabilities(policy, p, states, mdp.legal) for p in (params, behaviour))
    rows = jax.tree.map(lambda x: jnp.zeros((1, states, *x.shape[2:]), x.dtype), example(env, policy, params))
    seen = jax.tree.map(lambda x: x[None], oracle_mdp.observed(states, mdp.legal))
    value = policy.evaluate(params, rows._replace(obs=seen)).value[0]
    return exact.World(
        mdp, pi, acting, np.asarray(value, np.float64), oracle_mdp.scores(policy, params, states, mdp.legal)[..., kept]
    )


def _ends(params: PyTree) -> np.ndarray:
    return np.cumsum([np.size(x) for x in jax.tree.leaves(params)])[:-1]


def rehearse(setup: Setup, params: PyTree, discount: float, num_states: int) -> None:
    """Trace one measurement of shapes alone, which checks the output of the user's estimators before anything runs."""
    horizon, states = setup.env.max_steps, num_states

    def whole(key):
        zeros = jnp.zeros(())
        fitted = Fitted(zeros, zeros, jnp.zeros(horizon), zeros, jnp.zeros(horizon), jnp.zeros(states))
        size = sum(setup.where.sizes)
        inputs = Inputs(
            params=params,
            behaviour=params,
            discount=jnp.float32(discount),
            fitted=dict.fromkeys(setup.estimators, fitted),
            tables=Tables(
                jnp.zeros((horizon + 1, states)), jnp.zeros((horizon, states, getattr(setup.env.action_space, "n", 1)))
            ),
            target=jnp.zeros((len(setup.estimators), size)),
            ascent=jnp.zeros(size),
            inverse_fisher=jnp.zeros((size, size)),
        )
        return measure.measure(setup, key, inputs, *measure.sample(setup, key, params))

    jax.eval_shape(whole, jax.random.key(0))
