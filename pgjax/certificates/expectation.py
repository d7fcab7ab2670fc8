"""The exact mean and covariance of an estimator's update, by every batch of episodes there is."""

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import oracle
from pgjax.certificates.worlds import World, softmax_policy
from pgjax.declarations import Role
from pgjax.hyperparameters import bind, by_role
from pgjax.types import Array, Policy, PyTree, Trajectory
from pgjax.variance.estimators.custom import Plugs, estimate

MOST = 20_000  # batches of one size in one world
REFUSED = (ValueError, TypeError, AttributeError, KeyError, IndexError, ZeroDivisionError, NotImplementedError)


class Episodes(NamedTuple):
    """Every episode of a world, padded to the same number N for worlds of the same shapes; float64."""

    trajectory: Trajectory  # [T, N]; log_prob and reference are filled where the policies are known
    chance: np.ndarray  # [N] the environment's part of the probability: of the start and of all transitions
    start: np.ndarray  # [N] int: the first state
    features: np.ndarray  # [S, A, P]
    network: np.ndarray  # [] 1. or 0.
    tables: tuple[np.ndarray, np.ndarray, np.ndarray]  # transition, reward and terminal
    critic: np.ndarray  # [T + 1, S] of a critic that has learned nothing
    reference: np.ndarray  # [P] the parameters of the reference policy


class Batches(NamedTuple):
    """Every batch of K episodes but for their order."""

    chosen: np.ndarray  # [M, K]
    orders: np.ndarray  # [M] the number of orders; 0 pads
    alike: np.ndarray  # [M] P(start)^(1 - K) where all K begin in the same state that is drawn once, else 1


class Moments(NamedTuple):
    """Of the update, which ascends: minus the estimator's gradient. One row for each point."""

    mean: np.ndarray  # [n, P]
    trace: np.ndarray  # [n] of the covariance


def count(world: World) -> int:
    """The number of episodes of a world; ValueError where there are more than `oracle.trajectories` makes."""
    return oracle.trajectories(world.mdp, _uniform(world))[1].size


def _uniform(world: World) -> np.ndarray:
    return np.full(world.mdp.reward.shape, 1 / world.mdp.reward.shape[1])


def episodes(world: World, size: int, pad: int) -> Episodes:
    """All episodes of a world, `pad` of them with those of probability 0, and `size` parameters."""
    states, actions = world.mdp.reward.shape
    with jax.enable_x64(True):
        found, probability = oracle.trajectories(world.mdp, _uniform(world))
    wide = lambda x: np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "f" else np.asarray(x)  # noqa: E731
    found = jax.tree.map(wide, found)
    found = found._replace(reward=np.where(found.mask > 0, world.mdp.reward[found.obs, found.action], 0.0))
    chance = probability * float(actions) ** found.mask.sum(axis=0)
    more = pad - len(chance)
    found = jax.tree.map(lambda x: np.concatenate([x, np.repeat(x[:, :1], more, axis=1)], axis=1), found)
    mixed = np.zeros((states, actions, size))
    mixed[..., : world.size] = world.features
    reference = np.zeros(size)
    reference[: world.size] = np.random.default_rng([3, *world.name.encode()]).normal(size=world.size)
    tables = (world.mdp.transition, world.mdp.reward, np.asarray(world.mdp.terminal))
    return Episodes(
        trajectory=found,
        chance=np.concatenate([chance, np.zeros(more)]),
        start=found.obs[0],
        features=mixed,
        network=np.asarray(world.network, np.float64),
        tables=tables,
        critic=world.critic(),
        reference=reference,
    )


def batches(world: World, count: int, size: int, grouped: bool, ordered: bool = False) -> Batches | None:
    """Every batch of `size` of the first `count` episodes; None where there are more than MOST of them.

    Args:
      grouped: whether the episodes of a batch begin alike, as those of one prompt do.
      ordered: every order too, for what it matters to.
    """
    first = episodes(world, world.size, count).start
    starts = np.unique(first) if grouped else [None]
    members = [np.flatnonzero(first == s) if grouped else np.arange(count) for s in starts]
    if sum(len(m) ** size if ordered else math.comb(len(m) + size - 1, size) for m in members) > MOST:
        return None
    index, orders, alike = [], [], []
    for s, these in zip(starts, members, strict=True):
        every = itertools.product(these, repeat=size)
        for chosen in every if ordered else itertools.combinations_with_replacement(these, size):
            repeated = np.unique(chosen, return_counts=True)[1]
            index.append(chosen)
            same = math.factorial(size) / math.prod(math.factorial(n) for n in repeated)
            orders.append(1.0 if ordered else same)
            alike.append(world.mdp.start[s] ** (1.0 - size) if grouped else 1.0)
    return Batches(np.array(index), np.array(orders), np.array(alike))


def padded(found: Batches, most: int) -> Batches:
    """The same with batches that count nothing, so that one program serves several worlds."""
    more = most - len(found.orders)
    return Batches(
        np.concatenate([found.chosen, np.repeat(found.chosen[:1], more, axis=0)]),
        np.concatenate([found.orders, np.zeros(more)]),
        np.concatenate([found.alike, np.ones(more)]),
    )


Program = Callable[..., Any]


def program(plugs: Plugs) -> Program:
    """(theta [n, P], acting [n, P], seed [], exact [], discount [], Episodes, Batches) -> (mean [n, P], trace [n]).

    `acting` are the parameters of the policy that acts: theta on policy. `exact` says whether the critic is.
    """

    def at(point, seed, exact, discount, every, batches):
        theta, acting = point
        policy, rows = softmax_policy(every.features, every.network), every.trajectory
        worth = _worth(every, policy, {"actor": theta}, discount)
        params = {"actor": theta, "value": jnp.where(exact, worth, every.critic)}
        by = lambda actor: policy.evaluate({**params, "actor": actor}, rows).log_prob  # noqa: E731
        rows = rows._replace(log_prob=by(acting), reference=by(every.reference))
        probability = every.chance * jnp.exp(jnp.sum(rows.mask * rows.log_prob, axis=0))
        play = functools.partial(_play, every, policy, params)

        def one(index):
            group = jax.tree.map(lambda x: x[:, index], rows)
            key, plug = jax.random.key(seed), _bound(plugs, discount)
            found, metrics = estimate(plug, key, policy, params, group, play)
            # A loss that is NaN may have a finite gradient.
            return jnp.where(jnp.isfinite(metrics.get("loss", 0.0)), found["actor"], jnp.nan)

        update = jax.vmap(one)(batches.chosen)
        weight = batches.orders * batches.alike * jnp.prod(probability[batches.chosen], axis=1)
        mean = weight @ update
        return mean, weight @ jnp.sum((update - mean[None]) ** 2, axis=1)

    def every_point(theta, acting, *given):
        return jax.lax.map(lambda point: at(point, *given), (theta, acting))

    return jax.jit(every_point)


def _bound(plugs: Plugs, discount: Array) -> Plugs:
    """The same with this discount, where the advantage has one."""
    name = by_role(plugs.advantage).get(Role.DISCOUNT)
    return plugs if name is None else plugs._replace(advantage=bind(plugs.advantage, **{name: discount}))


def _worth(every: Episodes, policy: Policy, params: PyTree, discount: Array | float, greedy: bool = False) -> Array:
    """The exact value [T + 1, S] of each state at each time, under the policy or under its likeliest actions."""
    transition, reward, terminal = every.tables
    dist, _ = policy.act(params, (), jnp.arange(len(terminal)))
    pi = jax.nn.one_hot(dist.mode(), reward.shape[1]) if greedy else jnp.exp(dist.log_probs())
    worth = [jnp.zeros(len(terminal))]
    for _ in range(len(every.trajectory.mask)):
        ahead = jnp.sum(pi * (reward + discount * transition @ worth[-1]), axis=1)
        worth.append(jnp.where(terminal, 0.0, ahead))
    return jnp.stack(worth[::-1])


def _play(
    every: Episodes,
    policy: Policy,
    params: PyTree,
    rows: Trajectory,
    *,
    greedy: bool = False,
    samples: int = 1,
    discount: Array | float = 1.0,
) -> Array:
    """The `play` of an advantage that plays: what follows is worth its mean, without the noise of single episodes."""
    return _worth(every, policy, params, discount, greedy)[rows.time, rows.obs]
