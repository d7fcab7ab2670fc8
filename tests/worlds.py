"""A small world of which every trajectory is known, and every row of the grid: what the laboratory's tests share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

from pgjax import advantages, oracle
from pgjax.advantages.baselines import Fitted
from pgjax.envs.registry import make
from pgjax.policies import make as make_policy
from pgjax.types import Env, Step
from pgjax.variance import ESTIMATORS, ScoreFunction, statement
from pgjax.variance.estimators.weights import Tables, critic, weights

GAMMA = 0.9
STATES, ACTIONS, HORIZON = 3, 2, 3
# Any numbers will do for what a pilot would have fitted: they share no episode with the sample.
FITTED = dict(mean=0.3, steps=7.0, by_time=[0.5, -0.2, 0.1], optimal=0.4, optimal_time=[0.2, 0.6, -0.1])
FITTED["optimal_state"] = [0.3, -0.5, 0.0]
EXTRA = {
    "full_time": ScoreFunction(returns="full", baseline="time"),
    "full_value": ScoreFunction(returns="full", baseline="value"),
    "full_mean": ScoreFunction(returns="full", normalize="mean", batch=2),
    "number": ScoreFunction(baseline="constant", constant=-0.7),
    "exact_two_steps": ScoreFunction(returns="n_step", baseline="value", critic="exact", n=2),
    "lambda_time": ScoreFunction(returns="lambda", baseline="time", lambda_=0.4),
    "is_trajectory_full": ScoreFunction(returns="full", surrogate="is_trajectory", baseline="constant"),
    "is_trajectory_gae": ScoreFunction(returns="gae", critic="exact", surrogate="is_trajectory"),
    "is_decision_value": ScoreFunction(baseline="value", surrogate="is_decision"),
    "ratio_full": ScoreFunction(returns="full", surrogate="ratio", baseline="constant"),
    "kl_full": ScoreFunction(returns="full", surrogate="kl"),
    "no_gamma_t_exact": ScoreFunction(gamma_t=False, baseline="value", critic="exact"),
}
# Each baseline has a row, one that is new to the roster too.
BASELINES = {name: ScoreFunction(baseline=name) for name in advantages.BASELINES if name != "none"}
ROWS = {
    name: dataclasses.replace(row, batch=2) if row.depends_on_batch else row
    for name, row in {**BASELINES, **ESTIMATORS, **EXTRA}.items()
}


def maze():
    """A small tabular world with ends of both kinds: its programs compile quickly."""
    g = np.random.default_rng(0)
    return make(
        "TabularMDP-pgjax",
        transition=g.dirichlet(np.ones(4), size=(4, 2)),
        reward=g.normal(size=(4, 2)),
        start=np.array([0.5, 0.5, 0.0, 0.0]),
        terminal=np.array([False, False, False, True]),
        horizon=4,
    )


def softmax(theta):
    weights = np.exp(theta - theta.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


class World:
    """Two states and an end, reached after 1 to 3 steps or not at all; every trajectory, in float64."""

    def __init__(self, off_policy):
        g = np.random.default_rng(7)
        transition = g.dirichlet(np.ones(STATES), size=(STATES, ACTIONS))
        reward = g.normal(size=(STATES, ACTIONS))
        self.mdp = oracle.MDP(
            transition, reward, np.array([0.7, 0.3, 0.0]), np.array([False, False, True]), HORIZON, GAMMA
        )
        theta = g.normal(size=(STATES, ACTIONS))
        self.pi = softmax(theta)
        self.behaviour = softmax(theta + (g.normal(size=theta.shape) if off_policy else 0))
        self.value = g.normal(size=STATES)
        self.scores = np.zeros((STATES, ACTIONS, STATES, ACTIONS))
        for s in range(STATES):
            self.scores[s, :, s] = np.eye(ACTIONS) - self.pi[s]
        self.scores = self.scores.reshape(STATES, ACTIONS, -1)
        self.exact = oracle.values(self.mdp, self.pi)
        policy = make_policy(make("TabularMDP-pgjax", transition=transition, reward=reward, start=self.mdp.start))
        params = {"preference": theta, "value": self.value}
        self.j, gradient = oracle.gradient(self.mdp, policy, params)
        self.gradient = gradient["preference"].reshape(-1)
        self.trajectory, self.probability = oracle.trajectories(self.mdp, self.behaviour)

    def estimates(self, row, numbers=FITTED):
        """(each possible estimate [M, P], its probability [M]) by the package's own weights, in float64."""
        with jax.enable_x64(True):
            trajectory = self.trajectory
            s, a = trajectory.obs, trajectory.action
            probability = self.probability
            columns = np.arange(len(probability))
            if row.batch == 2:
                first, second = (x.reshape(-1) for x in np.meshgrid(columns, columns, indexing="ij"))
                columns = np.stack([first, second], axis=-1)
                probability = probability[first] * probability[second]
            else:
                columns = columns[:, None]
            wide = trajectory._replace(
                reward=self.mdp.reward[s, a] * trajectory.mask,
                log_prob=np.log(self.behaviour)[s, a],
                mask=trajectory.mask.astype(np.float64),
            )
            wide = jax.tree.map(lambda x: jnp.asarray(x)[:, columns], wide)
            fitted = Fitted(**{k: jnp.asarray(v) for k, v in numbers.items()})
            tables = Tables(jnp.asarray(self.exact.value), jnp.asarray(self.exact.action_value))

            def one(episodes):
                now = Now(
                    jnp.log(jnp.asarray(self.pi))[episodes.obs, episodes.action],
                    jnp.asarray(self.value)[episodes.obs],
                    jnp.asarray(self.value)[episodes.next_obs],
                )
                now = critic(row, episodes, now, tables)
                return weights(row, episodes, now, fitted, GAMMA)

            weight = np.asarray(jax.jit(jax.vmap(one, in_axes=1, out_axes=1))(wide))
        scores = self.scores
        if row.returns == "all_action":
            ahead = self.mdp.reward + GAMMA * self.mdp.transition @ np.where(self.mdp.terminal, 0, self.value)
            q = (
                self.exact.action_value
                if row.critic == "exact"
                else np.broadcast_to(ahead, self.exact.action_value.shape)
            )
            summed = np.einsum("sa,tsa,sap->tsp", self.pi, q, scores)
            phi = summed[np.asarray(wide.time), np.asarray(wide.obs)]
        else:
            phi = scores[np.asarray(wide.obs), np.asarray(wide.action)]
        return np.einsum("tmb,tmbp->mp", weight, phi) / columns.shape[1], probability

    def moments(self, row, numbers=FITTED):
        estimates, probability = self.estimates(row, numbers)
        mean = probability @ estimates
        return mean, probability @ (estimates - mean) ** 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Now:
    log_prob: jax.Array
    value: jax.Array
    next_value: jax.Array

    def _replace(self, **changes):
        return dataclasses.replace(self, **changes)


def correct(row, off_policy):
    """Whether the row states that it is unbiased here."""
    unbiased, why = statement(row)
    return unbiased and (not off_policy or not why.startswith("on policy"))


def stretched(middle, half):
    """A world of two actions, each best .2 half widths above the middle of its range; observations are noise."""
    middle, half = np.float32(middle), np.float32(half)

    def reset(key, params):
        return jnp.zeros(()), jax.random.normal(key, (3,))

    def step(key, params, state, action):
        obs = reset(key, params)[1]
        off = (jnp.clip(action, middle - half, middle + half) - middle) / half - 0.2
        return state, Step(obs, jnp.sum(obs) - jnp.sum(off**2), obs[0] > 1.0, (obs[0] < -1.0) & (obs[1] > 0))

    box = spaces.Box(middle - half, middle + half, (2,))
    return Env({}, reset, step, spaces.Box(-np.inf, np.inf, (3,)), box, max_steps=6)
