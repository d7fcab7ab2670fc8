"""Splits the variance of one step's term into the parts of trajectory, action and state, for rows of the grid.

Tucker et al. 2018 ("The mirage of action-dependent baselines in reinforcement learning", eq. 4) split the
covariance of one step's term y = w phi, phi = d log pi(a | s) / d theta, by the law of total variance. With h the
episode up to that step's state, the traces are

    trajectory  E[Var(w | h, a) |phi|^2]
    action      E[tr Var_a(E[w | h, a] phi | h)]
    state       tr Var(E_a[E[w | h, a] phi | h])

A step is drawn in proportion to how often it is visited: one uniform step of each episode, weighted by its length.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import rollout
from pgjax.advantages.baselines import Fitted
from pgjax.policies.traits import has_memory
from pgjax.types import Array, Env, Policy, PyTree, Trajectory
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.estimators.weights import Tables, critic, weights
from pgjax.variance.measurement import lookahead, scores

GROUPS = 16  # at most, of one call's states: each keeps a vector [P] for the jackknife


class Terms(NamedTuple):
    """The result of one call of `decompose` for one row, at N states in G equal groups; `merge` joins many."""

    length: Array  # [N] of the episode that the state is from
    trajectory: Array  # [N] estimate of E_a[Var(w | h, a) |phi|^2]
    action: Array  # [N] estimate of tr Var_a(E[w | h, a] phi)
    square: Array  # [N] estimate of |E_a[w phi]|^2
    norm: Array  # [N] |mean of w phi over the draws|^2
    vector: Array  # [G, P] sum over the group's states of length times the mean of w phi


def decompose(
    key: Array,
    rows: dict[str, ScoreFunction],
    env: Env,
    policy: Policy,
    params: PyTree,
    fitted: dict[str, Fitted],
    tables: Tables | None,
    discount: Array,
    layout: scores.Layout,
    states: int = 64,
    actions: int = 4,
) -> dict[str, Terms]:
    """Unbiased estimates for every row, at the same N = `states` states with M = `actions` actions from each.

    Each action is followed twice to the end of the episode: half the squared difference of the two weights
    estimates Var(w | h, a), and what it adds to the spread over actions is subtracted there (nested analysis of
    variance). Memory grows with T x 2NM observations and with M P N / G numbers for the scores.

    Raises:
      ValueError: for a row whose weight is not that of one episode's step, a policy with memory, fewer than 2
        states or actions.
    """
    check_branches(rows, policy, states, actions)
    key_episodes, key_pick, key_branch = jax.random.split(key, 3)
    seen, done = rollout.episodes(key_episodes, *lookahead.with_states(env, policy), params, states)
    trajectory, worlds = lookahead.split(seen._replace(memory=()))
    length = done.episode_length
    start = jax.random.randint(key_pick, (states,), 0, length.astype(jnp.int32))
    spliced = _branches(key_branch, env, policy, params, trajectory, worlds, start, actions)

    branch, when = jnp.arange(states * actions * 2), jnp.repeat(start, actions * 2)
    now, weight = policy.evaluate(params, spliced), []
    for name, row in rows.items():
        of_row = weights(row, spliced, critic(row, spliced, now, tables), fitted[name], discount)
        weight.append(of_row[when, branch].reshape(states, actions, 2))
    steps = jax.tree.map(lambda x: x[when[::2], branch[::2]], spliced)
    return dict(zip(rows, _terms(policy, params, steps, jnp.stack(weight), length, layout), strict=True))


def merge(results: list[dict[str, Terms]]) -> dict[str, dict[str, tuple[float, float]]]:
    """row -> {"trajectory", "action", "state", "total"} -> (value, standard error), of calls with different keys.

    |E[w phi]|^2 is taken over pairs of different states, so that the state term is not too large by its own
    noise. Standard errors are by the jackknife over groups of states. In float64.

    Raises:
      ValueError: for calls of different sizes, or a single group of states.
    """
    if len(sizes := {len(t.length) // len(t.vector) for found in results for t in found.values()}) != 1:
        raise ValueError(f"merge needs calls with groups of equal size, got {sorted(sizes)} states in a group")
    out = {}
    for name in results[0]:
        sums = [_group_sums(found[name]) for found in results]
        per_group = {k: np.concatenate([s[k] for s in sums]) for k in sums[0]}
        vector = per_group.pop("vector")
        groups = len(vector)
        if groups < 2:
            raise ValueError("merge needs 2 groups of states or more for a standard error; give more calls or states")
        total = {k: x.sum() for k, x in per_group.items()}
        mean = vector.sum(axis=0)
        whole = _ratios(total, mean @ mean)
        # |V - v_g|^2 from inner products: no second array [G, P].
        squares = mean @ mean - 2 * vector @ mean + np.einsum("gp,gp->g", vector, vector)
        left_out = _ratios({k: total[k] - x for k, x in per_group.items()}, squares)
        out[name] = {
            term: (float(whole[term]), float(np.sqrt((groups - 1) * np.var(left_out[term])))) for term in whole
        }
    return out


def check_branches(rows: dict[str, ScoreFunction], policy: Policy, states: int, actions: int) -> None:
    for name, row in rows.items():
        reasons = {
            "its weights depend on the other episodes of a batch": row.depends_on_batch,
            f"returns={row.returns!r} has no single action's weight": row.over_actions,
            "precondition='natural' mixes the parameters": row.precondition != "none",
            f"surrogate={row.surrogate!r} is for other parameters than those that act": row.surrogate != "score",
        }
        for reason in (reason for reason, holds in reasons.items() if holds):
            raise ValueError(f"estimator {name!r} has no variance decomposition: {reason}; leave it out")
    if has_memory(policy):
        raise ValueError("the variance decomposition needs a policy without memory; use a network other than 'gru'")
    if states < 2 or actions < 2:
        raise ValueError(f"the variance decomposition needs 2 states and 2 actions or more, got {states} and {actions}")


def _branches(
    key: Array,
    env: Env,
    policy: Policy,
    params: PyTree,
    trajectory: Trajectory,
    worlds: PyTree,
    start: Array,
    actions: int,
) -> Trajectory:
    """[T, N M 2]: each episode up to its row start[n], from there M new actions with two continuations each."""
    horizon, states = trajectory.reward.shape
    each = actions * 2
    batch = states * each
    here = (start, jnp.arange(states))

    def repeat(tree, times):
        return jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), tree)

    key_chosen, key_steps = jax.random.split(key)
    obs = jax.tree.map(lambda x: x[here], trajectory.obs)
    dist, _ = policy.act(params, policy.memory(states * actions), repeat(obs, actions))
    chosen, start = repeat(dist.sample(key_chosen), 2), repeat(start, each)

    def step(carry, inputs):
        (world, obs, time), alive = carry
        key, t, before = inputs
        key_action, key_env = jax.random.split(key)
        dist, _ = policy.act(params, policy.memory(batch), obs)
        action = rollout.where(t == start, chosen, dist.sample(key_action))
        keys = jax.random.split(key_env, batch)
        moved, seen = rollout.step_envs(keys, env, env.params, world, t, action)
        begun = t >= start
        on = begun & alive
        seen = seen._replace(
            reward=jnp.where(on, seen.reward, 0.0),
            terminated=seen.terminated & on,
            truncated=seen.truncated & on,
        )
        row = rollout.row(obs, time, action, dist.log_prob(action), seen, on.astype(jnp.float32))
        row = rollout.where(begun, row, repeat(before, each))
        carry = rollout.where(on, (moved, seen.obs, time + 1), (world, obs, time))
        return (carry, alive & ~(row.terminated | row.truncated)), row

    world = repeat(jax.tree.map(lambda x: x[here], worlds), each)
    first = ((world, repeat(obs, each), start), jnp.ones(batch, bool))
    inputs = (jax.random.split(key_steps, horizon), jnp.arange(horizon), trajectory)
    return jax.lax.scan(step, first, inputs)[1]


def _terms(
    policy: Policy, params: PyTree, steps: Trajectory, weight: Array, length: Array, layout: scores.Layout
) -> list[Terms]:
    """One for each of K rows, from the steps [N M] where the branches begin and the weights [K, N, M, 2]."""
    rows, states, actions = weight.shape[:3]
    groups = max(g for g in range(1, min(GROUPS, states) + 1) if states % g == 0)
    mean = jnp.mean(weight, axis=-1)
    scaled = jnp.moveaxis((length[None, :, None] * mean / actions).reshape(rows, groups, -1), 1, 0)

    def group(inputs):
        steps, scaled = inputs
        phi = scores.per_step(policy, params, jax.tree.map(lambda x: x[None], steps), layout)[0]
        vector = jnp.matmul(scaled, phi, precision="highest")
        phi = phi.reshape(-1, actions, phi.shape[-1])
        return jnp.einsum("nap,nbp->nab", phi, phi, precision="highest"), vector

    split = jax.tree.map(lambda x: x.reshape(groups, -1, *x.shape[1:]), steps)
    inner, vector = jax.lax.map(group, (split, scaled))
    # All norms come from the inner products of the scores: no gradient is held for each row.
    inner = inner.reshape(1, states, actions, actions)
    products = mean[..., :, None] * mean[..., None, :] * inner
    own = jnp.trace(products, axis1=-2, axis2=-1)
    everything = jnp.sum(products, axis=(-2, -1))
    difference = weight[..., 0] - weight[..., 1]
    noise = jnp.mean(difference**2 / 2 * jnp.diagonal(inner, axis1=-2, axis2=-1), axis=-1)
    # Different actions' noise is independent: their products have the mean |E_a[w phi]|^2.
    square = (everything - own) / (actions * (actions - 1))
    action = own / actions - square - noise / 2
    norm = everything / actions**2
    return [Terms(length, noise[k], action[k], square[k], norm[k], vector[:, k]) for k in range(rows)]


def _group_sums(terms: Terms) -> dict[str, np.ndarray]:
    """Sums over each group's states, [G], weighted by length; and the vectors [G, P]."""
    found = jax.tree.map(lambda x: np.asarray(x, np.float64), terms)
    per_state = {
        "count": np.ones_like(found.length),
        "length": found.length,
        "trajectory": found.length * found.trajectory,
        "action": found.length * found.action,
        "square": found.length * found.square,
        "norm": found.length**2 * found.norm,
    }
    groups = len(found.vector)
    return {k: x.reshape(groups, -1).sum(axis=1) for k, x in per_state.items()} | {"vector": found.vector}


def _ratios(sums: dict[str, np.ndarray], vector_square: np.ndarray) -> dict[str, np.ndarray]:
    """The terms of sums over states: [] or, with one group left out at a time, [G]."""
    count, length = sums["count"], sums["length"]
    trajectory, action = sums["trajectory"] / length, sums["action"] / length
    pairs = (vector_square - sums["norm"]) / (count * (count - 1))
    state = sums["square"] / length - pairs / (length / count) ** 2
    return {"trajectory": trajectory, "action": action, "state": state, "total": trajectory + action + state}
