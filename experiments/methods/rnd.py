"""Random network distillation: a bonus where a network can't foretell yet what a random one says of the next state.

r_t + bonus |f(x) - g(x)|^2 / spread, x = next_obs normalised by its running moments and clipped to [-5, 5], g random
for ever, f learning by Adam to be like it, `spread` the running deviation of the errors. Burda et al. 2018, Exploration
by random network distillation; theirs divides by the spread of the bonus's return, and has a critic of its own for it.

    pgjax train ppo CartPole-v1 --advantage experiments/methods/rnd.py:rnd --set bonus=0,0.1
"""

import jax
import jax.numpy as jnp
import optax

from pgjax import Running, advantages
from pgjax.hyperparameters import NonNegative
from pgjax.numerics import masked, running_moments

_adam = optax.adam(1e-3)


def _embed(weights, x):
    return jnp.tanh(x @ weights[0]) @ weights[1]


def _seen(trajectory):
    obs = jnp.float32(trajectory.next_obs).reshape(*trajectory.mask.shape, -1)
    return jnp.where(trajectory.mask[..., None] > 0, obs, 0.0)


def _init(key, policy, params, batch):
    obs = _seen(batch.trajectory)[0, 0]
    f, g = (tuple(map(_draw, jax.random.split(k), ((obs.size, 32), (32, 16)))) for k in jax.random.split(key))
    return f, g, _adam.init(f), running_moments.empty(obs), running_moments.empty(0.0)


def _draw(key, shape):
    return jax.random.normal(key, shape) / shape[0] ** 0.5


def _rnd(state, trajectory, now, *, bonus: NonNegative = 0.1):
    (f, g, adam, moments, errors), mask = state, trajectory.mask
    obs = _seen(trajectory)
    moments = running_moments.update(moments, obs, mask)
    x = running_moments.normalize(moments, obs, 5.0)
    error = lambda f: jnp.sum((_embed(f, x) - _embed(g, x)) ** 2, axis=-1)  # noqa: E731
    errors = running_moments.update(errors, error(f), mask)
    step, adam = _adam.update(jax.grad(lambda f: masked.mean(error(f), mask))(f), adam)
    reward = trajectory.reward + bonus * error(f) / running_moments.std(errors)
    return (optax.apply_updates(f, step), g, adam, moments, errors), reward


rnd = advantages.shaped(
    advantages.gae, Running(_init, _rnd, metrics=lambda state: {"foretelling_error": state[4].mean})
)
