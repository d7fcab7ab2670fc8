"""Gradients of losses for language models, and of SPO: loops in float64 from the papers, over every branch of each."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest
from experience import episodes, experience, same

from pgjax import losses
from pgjax.envs.registry import make
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.policies import make as make_policy

KEY = jax.random.key(0)
# Name -> the loss, its reduction, the oracle with the same hyperparameters, and the branches.
CASES = {
    "clip-higher": (
        bind(losses.ppo_clip, clip_eps=0.1, clip_high=0.5),
        "step",
        (papers.clip_higher, {"eps_low": 0.1, "eps_high": 0.5}),
        papers.PPO,
    ),
    "symmetric": (
        bind(losses.ppo_clip, clip_eps=0.3),
        "step",
        (papers.clip_higher, {"eps_low": 0.3, "eps_high": 0.3}),
        papers.PPO,
    ),
    "cispo": (
        bind(losses.cispo, clip_low=0.4, clip_high=0.5),
        "step",
        (papers.cispo, {"eps_low": 0.4, "eps_high": 0.5}),
        {"low", "high", "free"},
    ),
    "cispo, no lower bound": (
        losses.cispo,
        "step",
        (papers.cispo, {"eps_low": np.inf, "eps_high": 1.0}),
        {"high", "free"},
    ),
    "gspo": (
        bind(losses.sequence_clip, clip_eps=0.55, clip_high=0.7),
        "episode_mean",
        (papers.gspo, {"eps_low": 0.55, "eps_high": 0.7}),
        papers.PPO,
    ),
    "spo": (
        bind(losses.spo, clip_eps=0.3),
        "step",
        (papers.spo, {"clip_eps": 0.3}),
        {"up, on", "up, back", "down, on", "down, back"},
    ),
}


@pytest.fixture(scope="module")
def policy():
    return make_policy(make("TabularMDP-pgjax"))


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_is_that_of_the_paper(policy, name):
    loss, reduce, (oracle, hypers), branches = CASES[name]
    params, batch = experience(policy, alike=reduce != "step")
    estimator = surrogate(loss, reduce)
    found, metrics = jax.jit(lambda params: estimator(KEY, policy, params, batch))(params)
    steps, states, actions = episodes(params, batch)
    pushes = oracle(steps, **hypers)
    assert {push.branch for episode in pushes for push in episode} == branches
    same(found, pushes, states, actions, params, reduce)
    if name in ("clip-higher", "cispo"):
        low, high = hypers["eps_low"], hypers["eps_high"]
        outside = [step.ratio < 1 - low or step.ratio > 1 + high for episode in steps for step in episode]
        np.testing.assert_allclose(metrics["clip_fraction"], np.mean(outside), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.ppo_clip, losses.sequence_clip])
@pytest.mark.parametrize("clip_eps", [0.2, np.inf])
def test_without_clip_high_the_bits_are_those_of_the_same_bound_on_both_sides(policy, loss, clip_eps):
    params, batch = experience(policy, alike=True)
    now = policy.evaluate(params, batch.trajectory)

    def symmetric(now, batch):
        ratio = jnp.exp(now.log_prob - batch.trajectory.log_prob)
        clipped = jnp.clip(ratio, 1 - clip_eps, 1 + clip_eps)
        return -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage)

    apply = jax.jit(lambda now, **hypers: loss(now, batch, clip_eps=jnp.float32(clip_eps), **hypers)[0])
    found = apply(now)
    np.testing.assert_array_equal(found, apply(now, clip_high=jnp.float32(0.0)))
    np.testing.assert_array_equal(found, apply(now, clip_high=jnp.float32(clip_eps)))
    if loss is losses.ppo_clip:
        np.testing.assert_array_equal(found, jax.jit(symmetric)(now, batch))


def test_at_ratio_1_cispo_and_spo_have_the_policy_gradient(policy):
    params, batch = experience(policy)
    log_prob = policy.evaluate(params, batch.trajectory).log_prob
    batch = batch._replace(trajectory=batch.trajectory._replace(log_prob=log_prob))
    gradients = [
        surrogate(loss)(KEY, policy, params, batch)[0]["preference"]
        for loss in (losses.policy_gradient, losses.cispo, losses.spo)
    ]
    for found in gradients[1:]:
        np.testing.assert_allclose(found, gradients[0], rtol=1e-4, atol=1e-6)
