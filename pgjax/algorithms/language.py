"""The rows of the roster that weigh whole episodes without a critic, as language models are trained."""

import dataclasses

from pgjax.advantages.greedy import remax
from pgjax.advantages.groups import dynamic_sampling, group_relative, leave_one_out, opo
from pgjax.advantages.monte_carlo import monte_carlo
from pgjax.advantages.reference_kl import penalised
from pgjax.algorithms.entries import Entry
from pgjax.config import Config
from pgjax.estimators.selection import selected
from pgjax.estimators.surrogate import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses.policy import cispo, policy_gradient, ppo_clip
from pgjax.losses.reference_kl import anchored
from pgjax.losses.sequences import sequence_clip
from pgjax.optimizers import adam
from pgjax.types import Algorithm

# Language models are first pretrained on examples.
GROUPS = Config(num_envs=512, num_steps=0, num_minibatches=16, rollout="episodes", pretrain=-1)


# Adam's first steps are long, whatever the gradient, and could undo what the examples taught.
TAUGHT = bind(adam, learning_rate=3e-4, warmup_steps=160.0)

# One gradient step for each batch, on as many episodes as a minibatch of the others has.
ON_POLICY = dataclasses.replace(GROUPS, num_envs=32, num_minibatches=1)


ROWS: dict[str, Entry] = {
    "rloo": Entry(
        algorithm=Algorithm(
            advantage=penalised(leave_one_out),
            estimator=surrogate(ppo_clip, reduce="episode"),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="Kool et al. 2019, Buy 4 REINFORCE samples; Ahmadian et al. 2024, Back to basics",
        summary="several episodes from each start, the others' mean the baseline; KL to a reference in the reward",
        steps=920_000,
        lift=lambda loss: surrogate(loss, reduce="episode"),
    ),
    "opo": Entry(
        algorithm=Algorithm(
            advantage=opo,
            estimator=surrogate(policy_gradient, reduce="episode"),
            optimizer=TAUGHT,
        ),
        config=ON_POLICY,
        paper="Hao et al. 2025, On-policy RL with optimal reward baseline",
        summary="several episodes from each start, their mean weighed by length the baseline; one step for each batch",
        steps=920_000,
        lift=lambda loss: surrogate(loss, reduce="episode"),
    ),
    "remax": Entry(
        algorithm=Algorithm(
            advantage=penalised(remax),
            estimator=surrogate(policy_gradient, reduce="episode"),
            optimizer=TAUGHT,
        ),
        config=ON_POLICY,
        paper="Li et al. 2023, ReMax: a simple, effective, and efficient reinforcement learning method",
        summary="REINFORCE, the greedy episode from the same start the baseline; one step for each batch",
        steps=920_000,
        lift=lambda loss: surrogate(loss, reduce="episode"),
    ),
    "reinforce_pp": Entry(
        algorithm=Algorithm(
            advantage=bind(penalised(monte_carlo), discount=1.0, normalize=True, reference_penalty=0.01),
            estimator=surrogate(ppo_clip),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="Hu 2025, REINFORCE++: a simple and efficient approach for aligning large language models",
        summary="PPO's clip without a critic: returns less a KL to a reference, normalised over the batch",
        steps=920_000,
        lift=surrogate,
    ),
    "grpo": Entry(
        algorithm=Algorithm(
            advantage=group_relative,
            estimator=surrogate(anchored(ppo_clip), reduce="episode_mean"),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="Shao et al. 2024, DeepSeekMath",
        summary="several episodes from each start, over the spread of their returns; KL to a reference in the loss",
        steps=920_000,
        lift=lambda loss: surrogate(anchored(loss), reduce="episode_mean"),
    ),
    # A_i = R_i - mean_j R_j, summed over an episode's steps; their constant divisor is left to the learning rate.
    "dr_grpo": Entry(
        algorithm=Algorithm(
            advantage=bind(group_relative, divide=False),
            estimator=surrogate(ppo_clip, reduce="episode"),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="Liu et al. 2025, Understanding R1-zero-like training",
        summary="GRPO without its two biases: divided neither by the spread of the group nor by an episode's length",
        steps=920_000,
        lift=lambda loss: surrogate(loss, reduce="episode"),
    ),
    # Their penalty on answers that are too long is left out: a token environment ends them.
    "dapo": Entry(
        algorithm=Algorithm(
            advantage=dynamic_sampling,
            estimator=bind(selected(surrogate(ppo_clip)), clip_high=0.28),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="Yu et al. 2025, DAPO: an open-source LLM reinforcement learning system at scale, eq. 8",
        summary="GRPO with a higher upper clip and a mean over all steps of the groups whose returns differ",
        steps=920_000,
        lift=lambda loss: selected(surrogate(loss)),
    ),
    "cispo": Entry(
        algorithm=Algorithm(
            advantage=group_relative,
            estimator=surrogate(cispo),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="MiniMax 2025, MiniMax-M1: scaling test-time compute efficiently with lightning attention, eq. 4",
        summary="GRPO whose clipped ratio weighs the score of every step, so that none loses its gradient",
        steps=920_000,
        lift=surrogate,
    ),
    "gspo": Entry(
        algorithm=Algorithm(
            advantage=group_relative,
            estimator=bind(surrogate(sequence_clip, reduce="episode_mean"), clip_eps=3e-4, clip_high=4e-4),
            optimizer=TAUGHT,
        ),
        config=GROUPS,
        paper="Zheng et al. 2025, Group sequence policy optimization",
        summary="GRPO with one ratio for the whole episode, the geometric mean of its steps' ratios",
        steps=920_000,
        lift=lambda loss: surrogate(loss, reduce="episode_mean"),
    ),
}
