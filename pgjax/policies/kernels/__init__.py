"""Networks in one kernel: `tower` is a multi-layer perceptron whose activations never reach the device's memory."""

from pgjax.policies.kernels.towers import plain, tower

__all__ = ["plain", "tower"]
