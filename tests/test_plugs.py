"""A thing in the wrong place is one line: what it is, what was expected, and the call that mends it."""

import functools

import optax
import pytest
from flax import nnx

from pgjax import Algorithm, advantages, algorithms, estimators, losses, optimizers
from pgjax import envs as envs_module
from pgjax import policies as policies_module
from pgjax.plugs import check_plugs
from pgjax.sweeps.plan import plan

ENV = "PolicyProbe-pgjax"
ESTIMATOR = estimators.surrogate(losses.policy_gradient)


ONE = "loss '<lambda>'"


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
            "optimizer must be a function .* got a Gradient.* use optimizers",
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
        (3, r"loss must be a function of \(now, batch\) and hyperparameters, got an int; write"),
        (advantages.gae, r"loss 'gae' takes \(trajectory, now\), its place gives \(now, batch\); write"),
        (
            lambda now, batch: (now.value, {}, 1),
            rf"{ONE} returned \(an array .*, a dict, an int\), expected \(one",
        ),
        (
            lambda now, batch: now.value,
            rf"{ONE} returned an array \[.*\], expected \(one loss .*; return loss, ",
        ),
        (lambda now, batch: (now.value, [1]), rf"{ONE} returned \(an array .*, a list\), expected \(one loss per step"),
        (lambda now, batch: None, rf"{ONE} returned None, expected \(one loss per step"),
        (lambda now: (now.value, {}), rf"{ONE} takes \(now\), its place gives \(now, batch\); write it as def loss"),
    ],
)
def test_what_is_no_loss_is_one_line(loss, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        plan("a2c", ENV, updates=1, loss=loss)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda now: (now.value.mean(), {}), r"returned shape \(\), expected one loss per step.*; leave the mean to"),
        (lambda now: (now.value[..., None], {}), r"returned shape \(16, 16, 1\), expected one loss per step, \[T, B\]"),
        (lambda now: (now.value, {"m": now.value[:2]}), r": metric 'm' has shape .*, expected a .*; take its mean"),
        (lambda now: (now.value, {"m": None}), r": metric 'm' is None, expected a scalar or one value per step"),
    ],
)
def test_a_loss_of_the_wrong_numbers_is_one_line(returned, message):
    with pytest.raises(ValueError, match=f"^loss '[^']*' ?{message}"):
        plan("a2c", ENV, updates=1, loss=lambda now, batch: returned(now))


def test_a_hyperparameter_before_the_star_is_found_wherever_a_loss_is_given():
    for lift in (estimators.surrogate, losses.actor_critic, losses.with_entropy):
        with pytest.raises(TypeError, match=r"^loss 'before_the_star': 'beta' stands before the \*"):
            lift(before_the_star)
    with pytest.raises(TypeError, match="^loss must be a function of .now, batch. and hyperparameters, got None"):
        losses.actor_critic(mine, None)
    with pytest.raises(TypeError, match="^loss must be a function of .now, batch. .*, got an Evaluation; write it"):
        plan("a2c", ENV, updates=1, loss=losses.actor_critic)  # which was not called


def no_gradient(key, policy, params, batch):
    return params


def of_another_tree(key, policy, params, batch):
    return batch.advantage, {}


def wide(key, policy, params, batch):
    return params, {"m": batch.advantage}


def no_transformation(*, learning_rate: float = 1e-3):
    return 3


@pytest.mark.parametrize(
    ("estimator", "optimizer", "message"),
    [
        (no_gradient, optimizers.adam, "estimator 'no_gradient' returned a dict, expected .gradient, dict of metrics."),
        (of_another_tree, optimizers.adam, "estimator 'of_another_tree' returned a gradient whose tree or shapes"),
        (wide, optimizers.adam, "estimator 'wide': metric 'm' has shape .*, expected a scalar; take its mean"),
        (ESTIMATOR, no_transformation, "optimizer 'no_transformation' returned an int, expected an optax.* use optim"),
        (None, optimizers.adam, "estimator must be a function of .key, policy, .* got None; lift a loss by estimators"),
    ],
)
def test_what_an_estimator_or_an_optimizer_returns_is_said(estimator, optimizer, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        plan(Algorithm(advantages.gae, estimator, optimizer), ENV, updates=1)


def test_what_an_updater_returns_is_said():
    with pytest.raises(TypeError, match="^updater 'empty' returned .., expected an Updater; return algorithms.upd"):
        plan(Algorithm(advantages.gae, ESTIMATOR, optimizers.adam, empty), ENV, updates=1)


def empty(algorithm, config, by_column):
    return ()


def test_plugs_in_a_tuple_are_no_algorithm():
    with pytest.raises(TypeError, match=r"^algorithm must be a name, .* got \(a function, a function, .*; give Al"):
        plan((advantages.gae, ESTIMATOR, optimizers.adam), ENV, updates=1)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.layer = nnx.Linear(1, 2, rngs=rngs)

    def __call__(self, obs):
        return self.layer(obs)


def test_what_is_no_factory_of_a_policy_is_one_line():
    policy, net = policies_module.make(envs_module.make(ENV)), Net(nnx.Rngs(0))
    must = r"policy must be a function \(env, config\) -> Policy, got"
    for wrong, message in (
        (policy, f"{must} a Policy; use lambda env, config: policy$"),
        (Net, f"{must} <class '.*Net'>; give lambda env, config: policies.from_nnx"),
        (net, r"policy 'Net' must be a function of \(env, config\): .*; give lambda env, config: policies.from_nnx"),
        ("mlp", f"{must} 'mlp'; give lambda"),
        (lambda env: policy, r"policy '.*' must be a function of \(env, config\): too many .*; give lambda"),
        (
            lambda env, config: net,
            "policy '.*' must return a pgjax Policy, got Net; make one of a module by policies",
        ),
        (lambda env, config: policies_module.from_nnx(net), r"build must be a function of rngs .*, got a Net; give"),
        (lambda env, config: policies_module.from_nnx(Net), r"Net: expected \(distribution, value\), got an array \["),
    ):
        with pytest.raises(TypeError, match=f"^{message}"):
            plan("a2c", ENV, updates=1, policy=wrong)


def test_whatever_can_be_called_so_is_taken():
    class Called:
        def __call__(self, now, batch, *, beta: float = 1.0):
            return mine(now, batch, beta=beta)

    check_plugs(Algorithm(lambda *both: both, lambda *four, beta=1.0: four, functools.partial(optax.adam, 1e-3, 0.9)))
    assert plan("a2c", ENV, updates=1, loss=Called(), settings={"beta": [1.0, 2.0]}).axes == {"beta": [1.0, 2.0]}
    for row in algorithms.ROSTER.values():
        check_plugs(row.algorithm)
