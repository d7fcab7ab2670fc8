"""Networks of learners with replay in float64, and gradients by central differences: what their oracles share."""

import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces

LOW, HIGH = np.array([-2.0, 0.0]), np.array([2.0, 1.0])
BOX = spaces.Box(LOW.astype(np.float32), HIGH.astype(np.float32), (2,), jnp.float32)


def network(params, x):
    for layer in params.get("trunk", {"torso": {"layers": {}}})["torso"]["layers"].values():
        x = np.tanh(x @ layer["kernel"] + layer["bias"])
    return x @ params["output"]["kernel"] + params["output"]["bias"]


def both(twins, obs, action=None):
    """[2, N] for a Box of actions, which the critics see scaled to [-1, 1]; [2, N, A] for others."""
    if action is None:
        return np.stack([network(twins["both"][i], obs) for i in range(2)])
    x = np.concatenate([obs, 2 * (action - LOW) / (HIGH - LOW) - 1], -1)
    return np.stack([network(twins["both"][i], x)[:, 0] for i in range(2)])


def differences(function, params, step=1e-5):
    """The gradient of function(params), by central differences."""
    leaves, tree = jax.tree.flatten(params)
    out = []
    for i, leaf in enumerate(leaves):
        slope = np.zeros_like(leaf)
        for j in np.ndindex(leaf.shape):
            ends = []
            for sign in (1, -1):
                moved = [np.array(x) for x in leaves]
                moved[i][j] += sign * step
                ends.append(function(tree.unflatten(moved)))
            slope[j] = (ends[0] - ends[1]) / (2 * step)
        out.append(slope)
    return tree.unflatten(out)


def double(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def close(a, b, tolerance=2e-4):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


def shaken(tree, size):
    """Other numbers than the first weights, which are orthogonal and without biases."""
    leaves, structure = jax.tree.flatten(tree)
    g = np.random.default_rng(3)
    return structure.unflatten([x + jnp.asarray(size * g.normal(size=x.shape), jnp.float32) for x in leaves])
