"""Dr. GRPO: GRPO without its two biases, the division by the spread of the group and that by the answer's length.

A_i = R_i - mean_j R_j; the clipped surrogate is summed over an answer's tokens and averaged over answers. Liu et al.
2025, Understanding R1-zero-like training. Their constant divisor of the sum is left to the learning rate.

    pgjax train experiments/methods/dr_grpo.py:dr_grpo copying --set clip_eps=0.1,0.2
"""

from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry
from pgjax.hyperparameters import bind

dr_grpo = Entry(
    Algorithm(
        bind(advantages.group_relative, divide=False),
        estimators.surrogate(losses.ppo_clip, reduce="episode"),
        bind(optimizers.adam, learning_rate=3e-4, warmup_steps=160.0),
    ),
    Config(num_envs=512, num_steps=0, num_minibatches=16, rollout="episodes", pretrain=-1),
)
