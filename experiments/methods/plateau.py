"""A learning rate that is divided where the loss has stopped falling.

Adam's steps times 2^-k, k the number of times that the mean loss of `steps` gradients had no new minimum for
`patience` of those means. He et al. 2016, Deep residual learning for image recognition, sec. 3.4; the implementation is
optax's. The loss of a policy isn't what it is to bring about: an example of an optimiser that is given the loss.

    pgjax train ppo CartPole-v1 --optimizer experiments/methods/plateau.py:plateau --set learning_rate=0.001,0.003
"""

from typing import Annotated

import optax
from optax import contrib

from pgjax import Range, optimizers
from pgjax.hyperparameters import Positive


def plateau(
    *,
    learning_rate: Positive = 1e-3,
    patience: Annotated[int, Range(1)] = 10,
    steps: Annotated[int, Range(1)] = 16,
):
    """Adam, its steps halved on a plateau of the loss."""
    scaled = contrib.reduce_on_plateau(factor=0.5, patience=patience, accumulation_size=steps)
    return optax.chain(optimizers.adam(learning_rate=learning_rate), scaled)
