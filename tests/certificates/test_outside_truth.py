"""Figures published elsewhere, which `certify` gives exactly."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import oracle
from pgjax.advantages import group_relative, leave_one_out, monte_carlo, penalised
from pgjax.certificates import World, family
from pgjax.declarations import whole_episodes
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import anchored, policy_gradient
from pgjax.numerics.kl import KL, kl_estimate
from pgjax.optimizers import adam
from pgjax.types import Algorithm

pytestmark = pytest.mark.slow  # a family of programs for batches of eight


def stopping(rewards, p):
    """VariableHorizon: in each state in turn stop for its reward, or go on, at last to the last one's; P(stop) = p."""
    states = len(rewards) - 1
    transition = np.zeros((states + 1, 2, states + 1))
    transition[:, 0, -1] = transition[-1, :, -1] = 1
    transition[np.arange(states), 1, np.arange(states) + 1] = 1
    reward = np.zeros((states + 1, 2))
    reward[:-1, 0], reward[-2, 1] = rewards[:-1], rewards[-1]
    end = np.arange(states + 1) == states
    mdp = oracle.MDP(transition, reward, np.eye(states + 1)[0], end, states, 1.0)
    features = np.concatenate([np.eye(2 * states).reshape(states, 2, -1), np.zeros((1, 2, 2 * states))])
    theta = np.tile([math.log(p / (1 - p)), 0.0], states)
    return World("variable horizon", "stop for a reward or go on", mdp, features, thetas=theta[None])


@whole_episodes
def per_turn(trajectory, now):
    """G_t minus the mean of the others that act at t, 0 where none does."""
    mask = trajectory.mask
    to_go = jnp.cumsum((mask * trajectory.reward)[::-1], axis=0)[::-1]
    others = lambda x: jnp.sum(x, axis=1, keepdims=True) - x  # noqa: E731
    return to_go - others(mask * to_go) / jnp.maximum(others(mask), 1.0), now.value


def errors(world, batch):
    """(J's squared gradient, error of REINFORCE, of leave-one-out, of per-turn leave-one-out) for a batch."""
    whole = pgjax.certify(leave_one_out, worlds=[world], batch=[batch], discount=1.0).on_policy()[0]
    turn = pgjax.certify(per_turn, worlds=[world], batch=[batch], discount=1.0).on_policy()[0]
    assert whole.verdict.name == turn.verdict.name == "gradient of J"
    assert whole.error == pytest.approx(whole.leave_one_out, rel=1e-10)
    return np.sum(whole.gradient**2), whole.reinforce, whole.error, turn.error


@pytest.mark.parametrize(
    ("batch", "reinforce", "whole", "turn"),
    [(2, 2.6489, 2.9521276597, 3.0585106383), (4, 1.3245, 0.8722296099, 0.9913840869)],
)
def test_variable_horizon(batch, reinforce, whole, turn):
    found = errors(stopping([0, 2, 1, 3, 0], 0.5), batch)
    assert found[0] == pytest.approx(0.3671875, abs=1e-12)
    assert found[1] == pytest.approx(reinforce, abs=5e-5)
    assert found[2:] == pytest.approx((whole, turn), abs=1e-9)


def test_variable_horizon_as_published():
    found = errors(stopping([0, 2, 1, 3, 0, 2, 1, 3], 0.65), 4)
    assert found[0] == pytest.approx(0.3411031393, abs=1e-9)
    assert found[1] == pytest.approx(1.17544363549, abs=1e-9)  # by hand; 1.1754434856 is printed
    assert found[2:] == pytest.approx((0.752148293603, 0.784549437128), abs=1e-11)


def test_the_recovery_world():
    """hectopascal/agent-credit-bench: the credit of BAD, RECOVER, by every group of the uniform policy."""
    returns, probability = np.array([1.0, 1.0, 1.0, 0.0]), 0.25  # GOOD twice; BAD, RECOVER; BAD and no recovery
    mean = returns.mean()
    value = {"start": mean, "bad": 0.5}
    assert value["bad"] - value["start"] == -0.25 and 1 - value["bad"] == 0.5  # A(BAD), A(RECOVER)
    others = [sum(group) / 2 for group in np.stack(np.meshgrid(returns, returns), -1).reshape(-1, 2)]
    assert 1 - np.mean(others) == 0.25  # leave-one-out in groups of three
    assert np.mean(returns[2:]) - np.mean(others) == -0.25  # over all BAD samples
    assert (1 - mean) / returns.std() == pytest.approx(0.58, abs=5e-3)  # GRPO of the group that has each once
    assert probability * 4 == 1
    deltas = np.array([-0.25, 0.5])  # GAE with the exact critic: lambda 0 and 1
    one_step, whole = deltas, np.array([deltas.sum(), deltas[1]])
    assert list(one_step) == [-0.25, 0.5] and list(whole) == [0.25, 0.5]


@pytest.mark.parametrize(
    ("p", "weight"), [(0.01, 2.608862), (0.1, 2.327689), (0.25, 2.026116), (0.5, 1.855656), (0.5, None)]
)
def test_the_weight_that_grpo_gives_a_prompt(p, weight):
    theta = np.array([[math.log(p), math.log((1 - p) / 2), math.log((1 - p) / 2)]])
    world = family()["verifier"]._replace(name="prompt", thetas=theta)
    case = pgjax.certify(group_relative, worlds=[world], batch=[8], discount=1.0).on_policy()[0]
    factor = np.sum(case.update * case.gradient) / np.sum(case.gradient**2)
    np.testing.assert_allclose(case.update, factor * case.gradient, atol=1e-12)
    if weight is None:  # the sample's deviation in place of the population's
        assert factor * math.sqrt(7 / 8) == pytest.approx(1.735807, abs=1e-6)
    else:
        assert factor == pytest.approx(weight, abs=1e-6)


class TestTheAdvantageOfMixedGroups:
    """arXiv 2601.08521: given that a group is mixed, its mean is no unbiased estimate of the success p."""

    @pytest.mark.parametrize(
        ("size", "biases"), [(2, [0.45, 0.375, 0.25, 0.1]), (8, [0.098553, 0.065435, 0.0278, 0.006438])]
    )
    def test_bias_of_the_mean(self, size, biases):
        p = np.array([0.05, 0.125, 0.25, 0.4])
        right = np.arange(1, size)
        law = np.array([math.comb(size, k) for k in right]) * p[:, None] ** right * (1 - p[:, None]) ** (size - right)
        np.testing.assert_allclose((law @ (right / size)) / law.sum(axis=1) - p, biases, atol=6e-7)

    def test_the_corollary_holds_for_p_given_a_mixed_group(self):
        """P(A_hat < A), A_hat = r - p_hat and A = r - p: p_hat > p, for p below a bound, uniform before or after."""
        grid = (np.arange(20_000) + 0.5) / 20_000
        right = np.arange(1, 8)
        law = (
            np.array([math.comb(8, int(k)) for k in right])
            * grid[:, None] ** right
            * (1 - grid[:, None]) ** (8 - right)
        )
        given = law / law.sum(axis=1, keepdims=True)
        above = right / 8 > grid[:, None]
        for bound, after, before in ((0.5, 0.6409, 0.5799), (0.25, 0.7811, 0.7080)):
            below = grid < bound
            assert np.mean(np.sum(given * above, axis=1)[below]) == pytest.approx(after, abs=2e-4)
            assert np.sum((law * above)[below]) / np.sum(law[below]) == pytest.approx(before, abs=2e-4)

    def test_the_gradient_of_leave_one_out_is_unbiased_all_the_same(self):
        assert pgjax.certify(leave_one_out, worlds=["verifier"], batch=[2, 8], discount=1.0).verdict == "gradient of J"


def test_an_exact_value_baseline_can_raise_the_error():
    """As in rl-for-llms at its reference policy, where the error is 1.26 without and 1.49 with it.

    Here the right action is likely and its score short; without a baseline the rare wrong ones weigh nothing, with it
    V^2 times their long scores.
    """
    made = lambda **of: Algorithm(  # noqa: E731
        bind(monte_carlo, reward_to_go=False, **of), surrogate(policy_gradient, reduce="episode"), adam
    )
    found = {}
    for p in (0.3, 0.7):
        theta = np.array([[math.log(p), math.log((1 - p) / 2), math.log((1 - p) / 2)]])
        world = family()["verifier"]._replace(name="prompt", thetas=theta)
        certified = [
            pgjax.certify(made(**of), worlds=[world], batch=[2], discount=1.0) for of in ({}, {"baseline": "value"})
        ]
        assert certified[0].verdict == certified[1].with_exact_critic == "gradient of J"
        exact = next(case for case in certified[1].cases if case.critic == "exact")
        found[p] = exact.error / certified[0].on_policy()[0].error
        scores = 1 - 2 * np.array([p, (1 - p) / 2, (1 - p) / 2]) + p**2 + (1 - p) ** 2 / 2
        weights = np.array([p, (1 - p) / 2, (1 - p) / 2]) * scores
        mean = p**2 * scores[0]  # |grad J|^2
        without, given = weights[0], weights @ (np.array([1, 0, 0]) - p) ** 2
        assert found[p] == pytest.approx((given - mean) / (without - mean), rel=1e-10)
    assert found[0.7] > 4 > 1 > found[0.3]


@pytest.mark.parametrize(
    ("mu", "spreads", "bias"),
    [(0.1, (20, 1.4177446879, 1.4165745186), 0.0025), (1.0, (2, 1.7320508076, 1.6950301808), 0.25)],
)
def test_estimates_of_the_kl(mu, spreads, bias):
    """Schulman's note, x ~ N(0, 1), p = N(mu, 1): standard deviations over the KL, and the bias of k2."""
    x, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()
    kl = mu**2 / 2
    log_ratio = -((x - mu) ** 2) / 2 + x**2 / 2
    for kind, spread in zip(KL, spreads, strict=True):
        # kl_estimate works in float32 here; the closed forms are compared with it and integrated in float64.
        exact = {"k1": -log_ratio, "k2": log_ratio**2 / 2, "k3": np.expm1(log_ratio) - log_ratio}[kind]
        found = kl_estimate(jnp.zeros(80), jnp.asarray(log_ratio, jnp.float32), kind)
        np.testing.assert_allclose(found, exact, rtol=2e-5, atol=1e-5)
        mean = weight @ exact
        assert math.sqrt(weight @ (exact - mean) ** 2) / kl == pytest.approx(spread, rel=1e-9)
        assert mean / kl - 1 == pytest.approx(bias if kind == "k2" else 0, abs=1e-9)


def test_where_the_kl_goes():
    """The fixed points on one state: k1 in the reward and k2 in the loss vanish at pi*, k3 in the loss does not."""
    beta, reward = 0.5, np.array([1, 0, 0.4])
    world = family()["bandit"]
    reference = np.random.default_rng([3, *b"bandit"]).normal(size=3)
    best = reference + reward / beta  # pi* is proportional to reference exp(R / beta)
    there = world._replace(thetas=best[None])
    made = lambda advantage, loss: Algorithm(advantage, surrogate(loss, reduce="episode"), adam)  # noqa: E731
    with_kl = lambda kind: bind(anchored(policy_gradient), reference_coef=beta, reference_kl=kind)  # noqa: E731
    lengths = {
        "k1 in the reward": made(bind(penalised(leave_one_out), reference_penalty=beta), policy_gradient),
        "k2 in the loss": made(leave_one_out, with_kl("k2")),
        "k3 in the loss": made(leave_one_out, with_kl("k3")),
        "k1 in the loss": made(leave_one_out, with_kl("k1")),
    }
    for name, algorithm in lengths.items():
        case = pgjax.certify(algorithm, worlds=[there], batch=[2], discount=1.0).on_policy()[0]
        length = np.linalg.norm(case.update)
        assert length < 1e-12 if name in ("k1 in the reward", "k2 in the loss") else length > 1e-2, name
