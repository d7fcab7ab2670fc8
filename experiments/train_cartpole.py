"""The pipeline written out from its pieces: PPO on CartPole, no driver.

python experiments/train_cartpole.py [--smoke]
"""

import sys

import jax
import jax.numpy as jnp

from pgjax import envs, hyperparameters, policies, rollout
from pgjax.advantages import gae
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import actor_critic, ppo_clip
from pgjax.optimizers import adam
from pgjax.training import loop
from pgjax.types import Algorithm


def main(smoke: bool = False):
    seeds, updates = (2, 4) if smoke else (16, 300)
    env = envs.make("CartPole-v1")
    config = Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4)
    policy = policies.make(env, config)
    estimator = bind(surrogate(actor_critic(ppo_clip)), normalize_advantage=True, entropy_coef=0.01)
    algorithm = Algorithm(advantage=gae, estimator=estimator, optimizer=adam)
    ppo = on_policy.make_learner(env, policy, algorithm, config)
    hypers = hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": 1e-3})

    def one_seed(key):
        key_train, key_evaluate = jax.random.split(key)
        state = loop.init(key_train, ppo, hypers)
        state, metrics = loop.train(key_train, ppo, state, hypers, updates)
        trained, params = ppo.policy(state.learner)
        final = rollout.evaluate(key_evaluate, env, trained, params, num_episodes=32)
        return metrics["episode_return"], final.episode_return

    keys = jax.random.split(jax.random.key(0), seeds)
    curve, final = jax.jit(jax.vmap(one_seed))(keys)
    every = max(1, updates // 10)
    for update in range(every - 1, updates, every):
        print(f"update {update + 1:4d}  return {jnp.nanmean(curve[:, update]):6.1f}")
    print(f"final return over {seeds} seeds: median {jnp.median(final.mean(1)):.1f}, worst {final.mean(1).min():.1f}")
    return final


if __name__ == "__main__":
    main("--smoke" in sys.argv)
