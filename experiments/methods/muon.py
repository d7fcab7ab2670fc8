"""Muon: the momentum of each weight matrix, orthogonalised, so that no direction is favoured; Adam for all else.

O = U V^T of the momentum's singular value decomposition U S V^T, nearly, by five Newton-Schulz iterations. Jordan et
al. 2024, Muon: an optimizer for hidden layers in neural networks; the implementation is optax's.

    pgjax train ppo CartPole-v1 --optimizer experiments/methods/muon.py:muon --set momentum=0.9,0.95
"""

from optax import contrib

from pgjax.hyperparameters import Positive, Probability


def muon(*, learning_rate: Positive = 3e-3, momentum: Probability = 0.95):
    """Muon on matrices, Adam with the same learning rate on everything else."""
    return contrib.muon(learning_rate, beta=momentum)
