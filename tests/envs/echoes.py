"""Small Gymnasium environments, in a module that other processes import without JAX."""

import os

import gymnasium
import numpy as np


class Count(gymnasium.Env):
    """Shows how many steps it made, in one array that is its own if `own`; pays 1; never ends by itself."""

    observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, own=True, limit=100):
        self.place, self.own, self.limit, self.given = np.zeros(1, np.float32), own, limit, []

    def seen(self):
        return self.place if self.own else self.place.copy()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place[:] = 0
        return self.seen(), {"final_obs": self.place, "notes": np.zeros(2)}

    def step(self, action):
        self.given.append(action)
        self.place += 1
        kind = "of a kind" if self.place[0] == 1 else 2.0
        return self.seen(), 1.0, False, bool(self.place[0] >= self.limit), {"final_obs": self.place, "notes": kind}


PLAIN = {
    "box": gymnasium.spaces.Box(-1, 1, (2,), np.float32),
    "number": gymnasium.spaces.Discrete(3, start=1),
    "numbers": gymnasium.spaces.MultiDiscrete([2, 3]),
    "flags": gymnasium.spaces.MultiBinary(3),
    "image": gymnasium.spaces.Box(0, 255, (2, 2, 1), np.uint8),
}
INSIDE = gymnasium.spaces.Tuple([gymnasium.spaces.Box(0, 1, (1,), np.float64), gymnasium.spaces.Discrete(2)])
KINDS = {**PLAIN, "dict": gymnasium.spaces.Dict({**PLAIN, "number": gymnasium.spaces.Discrete(2), "a": INSIDE})}


def _sum(x):
    parts = x.values() if isinstance(x, dict) else x if isinstance(x, tuple) else ()
    return sum(map(_sum, parts)) if parts else float(np.sum(x))


class Echo(gymnasium.Env):
    """Shows and pays what its generator and its actions say, in any space; ends at random."""

    def __init__(self, kind):
        self.observation_space = self.action_space = KINDS[kind]

    def seen(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.seen(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        paid = _sum(action)
        return self.seen(), paid + self.np_random.random(), bool(self.np_random.random() < 0.3), False, {}


class Unlike(Echo):
    """Every second one has another space."""

    made = 0

    def __init__(self):
        Unlike.made += 1
        super().__init__(["box", "number"][Unlike.made % 2])


class Raising(Count):
    """Raises at its second step, or ends its process, where it isn't the caller's."""

    def __init__(self, ends):
        super().__init__()
        self.ends, self.process = ends, os.environ["THE_CALLER"]

    def step(self, action):
        if self.place[0] == 1 and str(os.getpid()) != self.process:
            if self.ends:
                os._exit(7)
            raise KeyError("no such place")
        return super().step(action)


class OnlyHere(Count):
    """Can be made by the caller alone."""

    def __init__(self):
        if str(os.getpid()) != os.environ["THE_CALLER"]:
            raise OSError("not here")
        super().__init__()
