"""PPO with an entropy bonus whose weight is learned: it grows while the entropy is below its target.

PPO's loss - alpha H, and log alpha moves by -alpha_rate (mean H - target_entropy) at each gradient step. Haarnoja et
al. 2018, Soft actor-critic algorithms and applications, eq. 18, whose temperature this is; their policy loss is not.

    pgjax train ppo CartPole-v1 --loss experiments/methods/entropy_target.py:entropy_target \\
        --set entropy_coef=0 target_entropy=0.2,0.5
"""

import jax.numpy as jnp

from pgjax import Running, losses
from pgjax.hyperparameters import Finite, NonNegative, declare
from pgjax.numerics import masked


def _tempered(log_alpha, now, batch, *, target_entropy: Finite = 0.5, alpha_rate: NonNegative = 0.01, **hypers):
    per_step, metrics = losses.ppo_clip(now, batch, **hypers)
    alpha, above = jnp.exp(log_alpha), masked.mean(now.entropy, batch.trajectory.mask) - target_entropy
    return log_alpha - alpha_rate * above, (per_step - alpha * now.entropy, {**metrics, "alpha": alpha})


entropy_target = Running(init=lambda *_: jnp.log(0.01), apply=declare(_tempered, losses.ppo_clip))
