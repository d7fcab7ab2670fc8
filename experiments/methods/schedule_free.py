"""Schedule-free Adam: no annealing of the learning rate, since what is evaluated is a mean of the iterates.

y = b x + (1 - b) z; z moves by Adam without momentum from the gradient at y, x is the mean of all z, b is `momentum`.
y acts and learns, x is evaluated and kept. Defazio et al. 2024, The road less scheduled; the implementation is optax's.

    pgjax train ppo CartPole-v1 --optimizer experiments/methods/schedule_free.py:schedule_free --set momentum=0.9,0.95
"""

from typing import Annotated

import optax
from optax import contrib

from pgjax import Range, optimizers
from pgjax.hyperparameters import Positive


def schedule_free(*, learning_rate: Positive = 3e-3, momentum: Annotated[float, Range(0.01, 1)] = 0.9):
    """Schedule-free Adam; its final parameters are the means."""
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(learning_rate, b1=0.0))
    init, update = contrib.schedule_free(adam, learning_rate, b1=momentum)
    return optimizers.Finishing(init, update, lambda params, state: contrib.schedule_free_eval_params(state, params))
