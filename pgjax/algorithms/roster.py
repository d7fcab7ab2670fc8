"""The roster: a name in; plugs, default hyperparameters, default Config and the paper out."""

import math

from pgjax.advantages.average_reward import differential, relative
from pgjax.advantages.monte_carlo import monte_carlo
from pgjax.advantages.temporal_difference import gae, n_step, q_lambda, td, v_trace
from pgjax.algorithms import dqn, language, ppg, pqn, sac, td3, trust_region
from pgjax.algorithms.entries import Entry
from pgjax.algorithms.phases import auxiliary
from pgjax.algorithms.recent import recent
from pgjax.algorithms.replay_options import INAPPLICABLE
from pgjax.config import Config
from pgjax.errors import unknown
from pgjax.estimators.kl_control import adaptive_kl, early_stopping
from pgjax.estimators.surrogate import surrogate
from pgjax.estimators.trust_region import trust_region_step
from pgjax.hyperparameters import bind
from pgjax.losses.actor_critic import actor_critic
from pgjax.losses.policy import awr, policy_gradient, ppo_clip, spo
from pgjax.losses.v_mpo import v_mpo
from pgjax.losses.value import action_value_error, q_error
from pgjax.optimizers import adam
from pgjax.types import Algorithm

__all__ = ["ROSTER", "Entry", "entry"]


ROSTER: dict[str, Entry] = {
    "reinforce": Entry(
        algorithm=Algorithm(
            advantage=monte_carlo,
            estimator=surrogate(actor_critic(policy_gradient), reduce="episode"),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=16, num_steps=0, rollout="episodes"),
        paper="Williams 1992, Simple statistical gradient-following algorithms",
        summary="Monte-Carlo returns of whole episodes; reward-to-go, gamma^t, normalisation and baseline are options",
        steps=4_000_000,
        lift=lambda loss: surrogate(actor_critic(loss), reduce="episode"),
    ),
    "vpg": Entry(
        algorithm=Algorithm(
            advantage=bind(gae, gae_lambda=0.97),
            estimator=bind(surrogate(actor_critic(policy_gradient)), normalize_advantage=True),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=16, num_steps=64),
        paper="Schulman et al. 2016, High-dimensional continuous control using generalized advantage estimation",
        summary="policy gradient with generalised advantage estimation",
    ),
    "actor_critic": Entry(
        algorithm=Algorithm(
            advantage=td,
            estimator=surrogate(actor_critic(policy_gradient)),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=16, num_steps=8),
        paper="Sutton & Barto 2018, Reinforcement learning, sec. 13.5",
        summary="one-step temporal-difference actor-critic",
    ),
    "a2c": Entry(
        algorithm=Algorithm(
            advantage=n_step,
            estimator=bind(surrogate(actor_critic(policy_gradient)), entropy_coef=0.01),
            optimizer=bind(adam, learning_rate=2e-3),
        ),
        config=Config(num_envs=16, num_steps=16),
        paper="Mnih et al. 2016, Asynchronous methods for deep reinforcement learning",
        steps=400_000,
        summary="n-step advantage actor-critic, synchronous",
    ),
    "ppo": Entry(
        algorithm=Algorithm(
            advantage=gae,
            estimator=bind(
                early_stopping(surrogate(actor_critic(ppo_clip))), normalize_advantage=True, entropy_coef=0.01
            ),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
        paper="Schulman et al. 2017, Proximal policy optimization algorithms",
        summary="clipped surrogate over several epochs; value clipping, KL penalty, early stop and annealing optional",
    ),
    "ppo_kl": Entry(
        algorithm=Algorithm(
            advantage=gae,
            estimator=bind(
                adaptive_kl(surrogate(actor_critic(ppo_clip))),
                clip_eps=math.inf,
                kl_coef=1.0,
                normalize_advantage=True,
                entropy_coef=0.01,
            ),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
        paper="Schulman et al. 2017, Proximal policy optimization algorithms, sec. 4",
        summary="no clipping: a penalty on the KL, whose coefficient adapts",
        lift=lambda loss: adaptive_kl(surrogate(actor_critic(loss))),
    ),
    "ppg": Entry(
        algorithm=Algorithm(
            advantage=gae,
            estimator=bind(surrogate(actor_critic(ppo_clip)), normalize_advantage=True, entropy_coef=0.01),
            optimizer=bind(adam, learning_rate=1e-3),
            updater=bind(auxiliary(surrogate(ppg.joint)), clone_coef=5.0),  # theirs is 1: here Adam's steps are longer
        ),
        config=Config(num_envs=8, num_steps=64, num_minibatches=4),
        paper="Cobbe et al. 2021, Phasic policy gradient",
        summary="PPO, and phases in which the actor's torso learns values while a KL keeps its policy",
        policy=ppg.make_policy,
        unused=ppg.UNUSED,
    ),
    "v_mpo": Entry(
        algorithm=Algorithm(
            advantage=gae,
            estimator=bind(surrogate(actor_critic(v_mpo)), normalize_advantage=True),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
        paper="Song et al. 2019, V-MPO: on-policy maximum a posteriori policy optimization",
        summary="the better half of the steps imitated by weight; temperature and KL bound by learned duals",
    ),
    "awr": Entry(
        algorithm=Algorithm(
            advantage=gae,
            estimator=bind(surrogate(actor_critic(awr)), normalize_advantage=True),
            optimizer=bind(adam, learning_rate=1e-3),
            updater=recent(),
        ),
        config=Config(num_envs=8, num_steps=64, num_epochs=2, num_minibatches=4),
        paper="Peng et al. 2019, Advantage-weighted regression: simple and scalable off-policy reinforcement learning",
        summary="actions of the latest batches imitated, each weighed by its exponentiated advantage",
    ),
    "spo": Entry(
        algorithm=Algorithm(
            advantage=gae,
            estimator=bind(surrogate(actor_critic(spo)), normalize_advantage=True, entropy_coef=0.01),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=8, num_steps=64, num_epochs=4, num_minibatches=4),
        paper="Xie et al. 2024, Simple policy optimization",
        summary="PPO with a parabola in the ratio in place of the clip, which pulls ratios outside back",
    ),
    **language.ROWS,
    "npg": Entry(
        algorithm=Algorithm(
            advantage=bind(gae, gae_lambda=0.97),
            estimator=bind(trust_region_step(), line_search=0, normalize_advantage=True),
            optimizer=bind(adam, learning_rate=3e-3),
            updater=trust_region.trust_region,
        ),
        config=Config(num_envs=16, num_steps=64, num_epochs=10, num_minibatches=4),
        paper="Kakade 2001, A natural policy gradient",
        summary="natural gradient, its step's length normalised (Rajeswaran et al. 2017); the critic fitted apart",
        lift=trust_region_step,
        unused=("shared", "update", "kernel"),
    ),
    "trpo": Entry(
        algorithm=Algorithm(
            advantage=bind(gae, gae_lambda=0.97),
            estimator=bind(trust_region_step(), normalize_advantage=True),
            optimizer=bind(adam, learning_rate=3e-3),
            updater=trust_region.trust_region,
        ),
        config=Config(num_envs=16, num_steps=64, num_epochs=10, num_minibatches=4),
        paper="Schulman et al. 2015, Trust region policy optimization",
        summary="natural gradient with a bound on the KL and a line search; the critic fitted apart",
        lift=trust_region_step,
        unused=("shared", "update", "kernel"),
    ),
    "sac": Entry(
        algorithm=Algorithm(
            advantage=td,
            estimator=bind(sac.sac, batch_size=128, gradient_steps=16),
            optimizer=bind(adam, learning_rate=1e-3, max_grad_norm=math.inf, eps=1e-8),
        ),
        config=Config(num_envs=4, num_steps=4, activation="relu"),
        paper="Haarnoja et al. 2018, Soft actor-critic algorithms and applications; Christodoulou 2019",
        steps=10_000,
        summary="replay, twin critics, entropy with its own temperature; a Box of actions, or finitely many",
        learner=sac.make_learner,
        lift=None,
        own_policy=True,
        unused=INAPPLICABLE,
    ),
    "dqn": Entry(
        algorithm=Algorithm(
            advantage=td,
            estimator=bind(dqn.dqn, batch_size=64, buffer_size=50_000, gradient_steps=8, tau=0.02),
            optimizer=bind(adam, learning_rate=1e-3, max_grad_norm=10.0, eps=1e-8),
        ),
        config=Config(num_envs=4, num_steps=4, hidden=(128, 128), activation="relu"),
        paper="Mnih et al. 2015, Human-level control through deep reinforcement learning; van Hasselt et al. 2016",
        steps=75_000,
        summary="deep Q-learning with replay, target network and double choice",
        learner=dqn.make_learner,
        lift=None,
        own_policy=True,
        unused=INAPPLICABLE,
    ),
    "td3": Entry(
        algorithm=Algorithm(
            advantage=td,
            estimator=bind(td3.td3, batch_size=128, gradient_steps=16, target_period=2),
            optimizer=bind(adam, learning_rate=1e-3, max_grad_norm=math.inf, eps=1e-8),
        ),
        config=Config(num_envs=4, num_steps=4, activation="relu"),
        paper="Fujimoto et al. 2018, Addressing function approximation error in actor-critic methods",
        steps=10_000,
        summary="replay, a deterministic actor that moves at every second step, twin critics; a Box of actions",
        learner=td3.make_learner,
        lift=None,
        own_policy=True,
        unused=INAPPLICABLE,
    ),
    "pqn": Entry(
        algorithm=Algorithm(
            advantage=q_lambda,
            estimator=surrogate(q_error),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(
            num_envs=16, num_steps=32, num_epochs=4, num_minibatches=4, epsilon=0.1, activation="relu", layer_norm=True
        ),
        paper="Gallici et al. 2024, Simplifying deep temporal difference learning",
        summary="Q(lambda) on policy, without replay and target network; epsilon-greedy actors",
        lift=surrogate,
        policy=pqn.make_policy,
        unused=pqn.UNUSED,
    ),
    "a3c": Entry(
        algorithm=Algorithm(
            advantage=n_step,
            estimator=bind(surrogate(actor_critic(policy_gradient)), entropy_coef=0.01),
            optimizer=bind(adam, learning_rate=7e-4),
        ),
        config=Config(num_envs=16, num_steps=16, lag=4),
        paper="Mnih et al. 2016, Asynchronous methods for deep reinforcement learning",
        steps=400_000,
        summary="asynchronous actors as a lag: the acting policy is 4 updates old, and nothing corrects for it",
    ),
    "impala": Entry(
        algorithm=Algorithm(
            advantage=v_trace,
            estimator=bind(surrogate(actor_critic(policy_gradient)), entropy_coef=0.01),
            optimizer=bind(adam, learning_rate=7e-4),
        ),
        config=Config(num_envs=16, num_steps=16, lag=4),
        paper="Espeholt et al. 2018, IMPALA: scalable distributed deep-RL",
        steps=400_000,
        summary="actors 4 updates old, corrected by V-trace",
    ),
    "differential_actor_critic": Entry(
        algorithm=Algorithm(
            advantage=differential,
            estimator=surrogate(actor_critic(policy_gradient)),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=16, num_steps=8),
        paper="Sutton & Barto 2018, Reinforcement learning, sec. 13.6",
        summary="average reward: temporal differences from a learned gain, no discount; the next start follows an end",
    ),
    "relative_actor_critic": Entry(
        algorithm=Algorithm(
            advantage=relative,
            estimator=surrogate(actor_critic(policy_gradient, action_value_error)),
            optimizer=bind(adam, learning_rate=1e-3),
        ),
        config=Config(num_envs=16, num_steps=8, critic="action_value"),
        paper="Sutton et al. 2000, Policy gradient methods with function approximation",
        summary="average reward: a critic of relative action values, its mean under the policy the baseline",
        lift=lambda loss: surrogate(actor_critic(loss, action_value_error)),
    ),
}


def entry(name: str) -> Entry:
    """The row of an algorithm, or a ValueError with the nearest name."""
    if name not in ROSTER:
        raise ValueError(unknown("no algorithm", name, ROSTER))
    return ROSTER[name]
