"""REINFORCE++: PPO's clip without a critic; returns less a KL to the reference per token, normalised over the batch.

A_t = R - beta sum_{k >= t} log(pi(a_k) / pi_ref(a_k)), then mean 0 and deviation 1 over all tokens of the batch.
Hu 2025, REINFORCE++: a simple and efficient approach for aligning large language models.

    pgjax train experiments/methods/reinforce_pp.py:reinforce_pp copying --set reference_penalty=0.001,0.01
"""

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry
from pgjax.hyperparameters import bind

reinforce_pp = Entry(
    Algorithm(
        bind(advantages.penalised(advantages.monte_carlo), discount=1.0, normalize=True, reference_penalty=0.01),
        estimators.surrogate(losses.ppo_clip),
        bind(optimizers.adam, learning_rate=3e-4, warmup_steps=160.0),
    ),
    Config(num_envs=512, num_steps=0, num_minibatches=16, rollout="episodes", pretrain=-1),
)
