"""Closed forms of gradients, written from the papers with plain numbers: what losses are tested against.

An oracle takes the episodes, a list of Steps each, and hyperparameters; it says of each step what the gradient of the
paper's objective is, and which branch of its minima and maxima the step is on.
"""

import math
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """One step that counts, in float64."""

    ratio: float  # of the policy to that which acted
    advantage: float
    pi: np.ndarray  # [A] the policy
    old: np.ndarray  # [A] the policy when the batch was collected
    target: float
    value: float
    recent: float = 1.0  # ratio of the policy to that when the batch was collected


class Push(NamedTuple):
    """The gradient of a step's objective: `score` times grad log pi(a), `logits` [A], and of the value."""

    branch: str
    score: float
    logits: np.ndarray | float = 0.0
    value: float = 0.0


def each(oracle):
    """The same for all steps of all episodes, of an oracle that sees one."""
    return lambda episodes, **hypers: [[oracle(step, **hypers) for step in episode] for episode in episodes]


def by_episode(oracle):
    """The same for all episodes, of an oracle that sees one."""
    return lambda episodes, **hypers: [oracle(episode, **hypers) for episode in episodes]


def ppo(ratio, advantage, low, high):
    """Schulman et al. 2017, eq. 7."""
    if advantage > 0:
        return ("up, clipped", 0.0) if ratio > 1 + high else ("up", ratio * advantage)
    return ("down, clipped", 0.0) if ratio < 1 - low else ("down", ratio * advantage)


@each
def dual_clip(step, clip_eps, c):
    if step.advantage < 0 and step.ratio > c:
        return Push("bounded", 0.0)
    return Push(*ppo(step.ratio, step.advantage, clip_eps, clip_eps))


@each
def clip_higher(step, eps_low, eps_high):
    return Push(*ppo(step.ratio, step.advantage, eps_low, eps_high))


@each
def ppo_rb(step, clip_eps, alpha):
    branch, score = ppo(step.ratio, step.advantage, clip_eps, clip_eps)
    return Push(branch, -alpha * step.ratio * step.advantage if "clipped" in branch else score)


def from_old(step):
    """The gradient of KL(old || pi) to the logits."""
    return step.pi - step.old


def to_old(step):
    """The gradient of KL(pi || old) to the logits."""
    log = np.log(step.pi / step.old)
    return step.pi * (log - step.pi @ log)


@each
def truly_ppo(step, delta, alpha):
    score = step.ratio * step.advantage
    kl = step.old @ np.log(step.old / step.pi)
    if kl < delta:
        return Push("near", score)
    if score < step.advantage:
        return Push("far, worse", score)
    return Push("far, better", score, -alpha * from_old(step))


@each
def spo(step, clip_eps):
    pull = abs(step.advantage) / clip_eps * (step.ratio - 1) * step.ratio
    score = step.ratio * step.advantage - pull
    return Push(f"{'up' if step.advantage > 0 else 'down'}, {'on' if score * step.advantage > 0 else 'back'}", score)


@each
def mdpo(step, step_size):
    return Push("up" if step.advantage > 0 else "down", step.ratio * step.advantage, -to_old(step) / step_size)


@each
def mdpo_sampled(step, step_size):
    score = step.ratio * step.advantage - step.ratio * math.log(step.ratio) / step_size
    return Push("up" if step.advantage > 0 else "down", score)


def pmpo(episodes, alpha, beta):
    steps = [step for episode in episodes for step in episode]
    good = sum(step.advantage >= 0 for step in steps)

    @each
    def one(step):
        if step.advantage >= 0:
            return Push("good", alpha * len(steps) / good, -beta * from_old(step))
        return Push("bad", -(1 - alpha) * len(steps) / (len(steps) - good), -beta * from_old(step))

    return one(episodes)


@each
def p3o(step, tau, beta):
    s = 1 / (1 + math.exp(-tau * (step.ratio - 1)))
    score = 4 * s * (1 - s) * step.ratio * step.advantage
    return Push("up" if step.advantage > 0 else "down", score, -beta * from_old(step))


@each
def sapo(step, tau_pos, tau_neg):
    tau = tau_pos if step.advantage > 0 else tau_neg
    s = 1 / (1 + math.exp(-tau * (step.ratio - 1)))
    return Push("up" if step.advantage > 0 else "down", 4 * s * (1 - s) * step.ratio * step.advantage)


@each
def self_imitation(step, beta):
    better = step.target - step.value
    return Push("better", better, value=beta * better) if better > 0 else Push("worse", 0.0)


@each
def cispo(step, eps_low, eps_high):
    if step.ratio < 1 - eps_low:
        return Push("low", (1 - eps_low) * step.advantage)
    if step.ratio > 1 + eps_high:
        return Push("high", (1 + eps_high) * step.advantage)
    return Push("free", step.ratio * step.advantage)


@by_episode
def gspo(episode, eps_low, eps_high):
    s = math.prod(step.ratio for step in episode) ** (1 / len(episode))
    return [Push(*ppo(s, step.advantage, eps_low, eps_high)) for step in episode]


@by_episode
def gmpo(episode, clip_eps):
    free = [
        step.ratio < math.exp(clip_eps) if step.advantage > 0 else step.ratio > math.exp(-clip_eps) for step in episode
    ]
    edge = [math.exp(clip_eps) if step.advantage > 0 else math.exp(-clip_eps) for step in episode]
    kept = [step.ratio if f else e for step, f, e in zip(episode, free, edge, strict=True)]
    mean = math.prod(kept) ** (1 / len(kept))
    name = "up" if episode[0].advantage > 0 else "down"
    return [
        Push(name if f else f"{name}, clipped", mean * step.advantage if f else 0.0)
        for step, f in zip(episode, free, strict=True)
    ]


@by_episode
def topr(episode, bound):
    ratio = math.prod(step.ratio for step in episode)
    if episode[0].advantage > 0:
        return [Push("imitated", step.advantage) for step in episode]
    name = "truncated" if ratio > bound else "tapered"
    return [Push(name, min(ratio, bound) * step.advantage) for step in episode]


@each
def decoupled_ppo(step, clip_eps):
    branch, score = ppo(step.recent, step.advantage, clip_eps, clip_eps)
    return Push(branch, step.ratio / step.recent * score)


@each
def entropy_target(step, clip_eps, alpha=0.01, **others):
    log = np.log(step.pi)
    return Push(*ppo(step.ratio, step.advantage, clip_eps, clip_eps), -alpha * step.pi * (log - step.pi @ log))


def mdpo_annealed(episodes, step_size, anneal_updates):
    return mdpo(episodes, step_size=step_size)  # in the first update


# Of the methods in experiments/: name -> its oracle, hyperparameters by which every branch is taken, and the branches.
PPO = {"up", "up, clipped", "down", "down, clipped"}
SIGNS = {"up", "down"}
ORACLES = {
    "dual_clip": (dual_clip, {"clip_eps": 0.2, "c": 1.5}, PPO | {"bounded"}),
    "ppo_rb": (ppo_rb, {"clip_eps": 0.2, "alpha": 0.3}, PPO),
    "truly_ppo": (truly_ppo, {"delta": 0.1, "alpha": 5.0}, {"near", "far, worse", "far, better"}),
    "mdpo": (mdpo, {"step_size": 0.7}, SIGNS),
    "mdpo_sampled": (mdpo_sampled, {"step_size": 0.7}, SIGNS),
    "pmpo": (pmpo, {"alpha": 0.7, "beta": 0.4}, {"good", "bad"}),
    "p3o": (p3o, {"tau": 3.0, "beta": 0.4}, SIGNS),
    "sapo": (sapo, {"tau_pos": 2.0, "tau_neg": 4.0}, SIGNS),
    "gmpo": (gmpo, {"clip_eps": 0.3}, PPO),
    "decoupled_ppo": (decoupled_ppo, {"clip_eps": 0.2}, PPO),
    "entropy_target": (
        entropy_target,
        {"target_entropy": 0.4, "alpha_rate": 0.1, "clip_eps": 0.2, "clip_high": 0.0, "kl_coef": 0.0},
        PPO,
    ),
    "mdpo_annealed": (mdpo_annealed, {"step_size": 0.7, "anneal_updates": 50.0}, SIGNS),
    "topr": (topr, {"bound": 0.8}, {"imitated", "truncated", "tapered"}),
}


def gradient(pushes, states, actions, pi, reduce):
    """Minus the gradient of the objective, of preferences [S, A] and values [S], for lists of episodes."""
    preference, value = np.zeros_like(pi), np.zeros(len(pi))
    total = sum(map(len, pushes))
    for episode, s_, a_ in zip(pushes, states, actions, strict=True):
        scale = {"step": total, "episode": len(pushes), "episode_mean": len(pushes) * len(episode)}[reduce]
        for push, s, a in zip(episode, s_, a_, strict=True):
            preference[s] -= (push.score * (np.eye(pi.shape[1])[a] - pi[s]) + push.logits) / scale
            value[s] -= push.value / scale
    return preference, value
