"""A world on the host that takes its time, so that two cores serve eight workers: `benchmarks/cluster.py many`."""

import os
import time

import gymnasium
import numpy as np

from pgjax.envs import from_gymnasium

LIMIT = 10  # steps of an episode
PAUSE = float(os.environ.get("CLUSTER_PAUSE", "0.02"))  # seconds of a step


class Nap(gymnasium.Env):
    """Sleeps, and pays for the second of two actions."""

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(PAUSE)
        return np.zeros(1, np.float32), float(action), False, False, {}


def nap():
    return from_gymnasium(Nap, LIMIT)
