"""`tower` is a multi-layer perceptron in one kernel, whose activations never reach the device's memory."""

from pgjax.policies.kernels.towers import plain, tower

__all__ = ["plain", "tower"]
