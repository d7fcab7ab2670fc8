"""A user's file: a loss, an environment and a network of one's own, put together and trained. CI checks its types.

python tests/typed/compose.py
"""

from typing import Annotated

import jax
import jax.numpy as jnp
from flax import nnx
from gymnax.environments import spaces

import pgjax
from pgjax import (
    Algorithm,
    Batch,
    Config,
    Env,
    Evaluation,
    Policy,
    Range,
    Step,
    advantages,
    estimators,
    losses,
    optimizers,
    policies,
)
from pgjax.policies.distributions import Categorical


@losses.by_step
def tempered(
    now: Evaluation, batch: Batch, *, tau: Annotated[float, Range(0, 10)] = 1.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """A policy gradient of advantages that are squashed by tanh at the scale tau; per step, [T, B] or [N]."""
    weight = tau * jnp.tanh(batch.advantage / tau)
    return -now.log_prob * weight, {"weight": weight}


def corridor(length: int = 5) -> Env:
    """Walk right until the end; every step costs 1."""

    def reset(key: jax.Array, params: jax.Array) -> tuple[jax.Array, jax.Array]:
        place = jnp.zeros((), jnp.int32)
        return place, observe(place)

    def observe(place: jax.Array) -> jax.Array:
        return jax.nn.one_hot(place, length)

    def step(key: jax.Array, params: jax.Array, state: jax.Array, action: jax.Array) -> tuple[jax.Array, Step]:
        place = jnp.clip(state + 2 * action - 1, 0, length - 1)
        ended = place == length - 1
        return place, Step(observe(place), -jnp.ones(()), terminated=ended, truncated=jnp.zeros((), bool))

    return Env(
        params={},
        reset=reset,
        step=step,
        observation_space=spaces.Box(0, 1, (length,)),
        action_space=spaces.Discrete(2),
        max_steps=50,
    )


class Linear(nnx.Module):
    """Preferences and a value, each linear in the observation."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.actor = nnx.Linear(5, 2, rngs=rngs)
        self.critic = nnx.Linear(5, 1, rngs=rngs)

    def __call__(self, obs: jax.Array) -> tuple[Categorical, jax.Array]:
        return Categorical(self.actor(obs)), self.critic(obs)[..., 0]


def network(env: Env, config: Config) -> Policy:
    return policies.from_nnx(lambda rngs: Linear(rngs))


def main() -> float:
    algorithm = Algorithm(
        advantage=pgjax.bind(advantages.gae, gae_lambda=0.9),
        estimator=estimators.surrogate(losses.actor_critic(tempered)),
        optimizer=optimizers.adam,
    )
    settings = {"tau": [0.5, 2.0], "num_envs": 4, "num_steps": 16}
    run = pgjax.run(algorithm, corridor, policy=network, seeds=2, updates=3, settings=settings)
    trained, policy, params = run.lane(seed=1, tau=2.0)
    _, obs = trained.reset(jax.random.key(0), trained.params)
    dist, _ = policy.act(params, policy.memory(1), obs[None])
    return float(dist.entropy()[0])


if __name__ == "__main__":
    print(main())
