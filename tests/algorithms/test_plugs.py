"""A thing in the wrong place is one line: what it is, what was expected, and the call that mends it."""

import functools

import optax
import pytest

from pgjax import Algorithm, advantages, algorithms, estimators, losses, optimizers
from pgjax import envs as envs_module
from pgjax import policies as policies_module
from pgjax.algorithms.plugs import check_plugs
from pgjax.sweeps.plan import plan

ENV = "PolicyProbe-pgjax"
ESTIMATOR = estimators.surrogate(losses.policy_gradient)


def mine(now, batch, *, beta: float = 1.0):
    return -beta * now.log_prob * batch.advantage, {}


def before_the_star(now, batch, beta=1.0):
    return -beta * now.log_prob * batch.advantage, {}


def four(trajectory, now, *, discount: float = 0.9):
    return now.value, now.value, now.value, now.value


@pytest.mark.parametrize(
    ("plugs", "message"),
    [
        ((advantages.gae, mine, optimizers.adam), "estimator 'mine' takes .now, batch., its place gives .key, policy"),
        ((advantages.gae, estimators.surrogate, optimizers.adam), "estimator 'surrogate' takes .loss, reduce."),
        (
            (advantages.gae, ESTIMATOR, optax.adam(1e-3)),
            "optimizer must be a function .* got Gradient.* use optimizers",
        ),
        (
            (advantages.gae, ESTIMATOR, optax.adam),
            "optimizer 'adam' takes .learning_rate, .* gives ..; use optimizers",
        ),
        (("gae", ESTIMATOR, optimizers.adam), "advantage must be a function of .trajectory, now. .* got 'gae'; write"),
        (
            (mine, ESTIMATOR, optimizers.adam),
            "advantage 'mine' takes .now, batch., its place gives .trajectory, now.; wr",
        ),
        ((four, ESTIMATOR, optimizers.adam), "advantage 'four' returned 4 results, expected .advantage, target."),
    ],
)
def test_a_plug_in_the_wrong_place_is_one_line(plugs, message):
    with pytest.raises(TypeError, match=f"^{message}") as caught:
        plan(Algorithm(*plugs), ENV, updates=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            before_the_star,
            r"loss 'before_the_star': 'beta' stands before the \*; .* write \(now, batch, \*, beta=...\)",
        ),
        (
            ESTIMATOR,
            r"loss 'policy_gradient' takes \(key, policy, params, batch\), its place gives \(now, batch\); write",
        ),
        (3, r"loss must be a function of \(now, batch\) and hyperparameters, got int; write"),
        (advantages.gae, r"loss 'gae' takes \(trajectory, now\), its place gives \(now, batch\); write"),
        (lambda now, batch: (now.value, {}, 1), r"loss '<lambda>' returned tuple, expected \(one loss per step, dict"),
    ],
)
def test_what_is_no_loss_is_one_line(loss, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        plan("a2c", ENV, updates=1, loss=loss)


def test_a_policy_in_place_of_a_factory_is_one_line():
    policy = policies_module.make(envs_module.make(ENV))
    with pytest.raises(TypeError, match="^policy must be a function .*; use lambda env, config: policy$"):
        plan("a2c", ENV, updates=1, policy=policy)


def test_whatever_can_be_called_so_is_taken():
    class Called:
        def __call__(self, now, batch, *, beta: float = 1.0):
            return mine(now, batch, beta=beta)

    check_plugs(Algorithm(lambda *both: both, lambda *four, beta=1.0: four, functools.partial(optax.adam, 1e-3, 0.9)))
    assert plan("a2c", ENV, updates=1, loss=Called(), settings={"beta": [1.0, 2.0]}).axes == {"beta": [1.0, 2.0]}
    for row in algorithms.ROSTER.values():
        check_plugs(row.algorithm)
