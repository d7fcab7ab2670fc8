"""Plugs and policies in place of an algorithm's own: what they bring, what stays, and what doesn't go together."""

import pytest

from pgjax import advantages, algorithms, estimators, losses, optimizers, plugs
from pgjax.algorithms.replacement import with_plugs
from pgjax.hyperparameters import bind, hyperparameters, name_of
from pgjax.sweeps import user_code
from pgjax.sweeps.plan import plan
from pgjax.types import Algorithm

ENV = "PolicyProbe-pgjax"
TINY = {"hidden": (4,), "num_envs": 2, "num_steps": 4}
PPO = estimators.surrogate(losses.actor_critic(losses.ppo_clip))


def made(algorithm="a2c", **options):
    return plan(algorithm, ENV, updates=1, settings=TINY, **options).groups[0]


def test_every_place_of_an_algorithm_is_an_option():
    assert set(user_code.PLUGS) == set(plugs.PLACES) == {"loss", *Algorithm._fields}


def test_a_plug_brings_its_own_defaults_and_the_others_stay():
    row = algorithms.entry("a2c")
    assert hyperparameters(row.algorithm.optimizer)["learning_rate"] == 2e-3
    found = with_plugs(row, advantage="td", optimizer=optimizers.sgd)
    assert found.algorithm == Algorithm(advantages.td, row.algorithm.estimator, optimizers.sgd)
    assert (found.config, found.steps) == (row.config, row.steps)
    assert with_plugs(row, estimator=PPO).algorithm == row.algorithm._replace(estimator=PPO)
    assert with_plugs(row, **dict.fromkeys(user_code.PLUGS)) == row


def test_a_loss_keeps_the_rows_values_of_what_it_does_not_bring():
    def loss(now, batch, *, entropy_weight: float = 0.3, clip_eps: float = 0.7):
        return now.log_prob, {}

    for given in (loss, bind(loss, clip_eps=0.7)):
        found = hyperparameters(with_plugs(algorithms.entry("ppo"), loss=given, advantage="td").algorithm.estimator)
        assert (found["normalize_advantage"], found["entropy_coef"], found["clip_eps"]) == (True, 0.01, 0.7)


def test_names_and_objects_make_the_same_plan():
    named, given = (
        made(advantage="td", optimizer="sgd", loss="ppo_clip"),
        made(advantage=advantages.td, optimizer=optimizers.sgd, loss=losses.ppo_clip),
    )
    assert named.algorithm.advantage is given.algorithm.advantage is advantages.td
    assert name_of(named.algorithm.estimator) == name_of(given.algorithm.estimator) == "ppo_clip"
    assert named.hypers == given.hypers and "clip_eps" in named.hypers[0].estimator


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"advantage": "tdd"}, "no advantage 'tdd'; did you mean 'td'"),
        ({"optimizer": "adamm"}, "no optimizer 'adamm'; did you mean 'adam'"),
        ({"loss": "ppo"}, "no loss 'ppo'; "),
        (
            {"estimator": "ppo"},
            r"estimator must be a function of \(key, policy, params, batch\).*, got 'ppo'; lift a loss",
        ),
        ({"loss": "ppo_clip", "estimator": PPO}, "give loss or estimator, not both: an estimator has its loss inside"),
        (
            {"advantage": losses.ppo_clip},
            r"advantage 'ppo_clip' takes \(now, batch\), its place gives \(trajectory, now\)",
        ),
        ({"optimizer": losses.ppo_clip}, r"optimizer 'ppo_clip' takes \(now, batch\), its place gives \(\)"),
        ({"estimator": advantages.td}, r"estimator 'td' takes \(trajectory, now\), its place gives \(key, policy"),
        ({"advantige": "td"}, "no argument 'advantige'; did you mean 'advantage'.; hyperparameters go into settings=."),
        ({"algorithm": "dqn", "loss": "ppo_clip"}, "loss: dqn has losses of its own; leave 'ppo_clip' out"),
        ({"algorithm": "dqn", "advantage": "gae"}, "advantage='gae' needs steps in order, replay has rows; use td"),
        ({"algorithm": "dqn", "estimator": PPO}, "estimator 'ppo_clip' has no hyperparameter"),
        (
            {"algorithm": "dqn", "policy": lambda env, config: None},
            "policy: 'dqn' makes its own networks; leave policy",
        ),
        ({"algorithm": "trpo", "estimator": PPO}, "a trust region needs trust_region_step"),
        ({"policy": 3}, r"policy must be a function \(env, config\) -> Policy, got 3"),
        ({"policy": lambda env: None}, r"policy '<lambda>' must be a function of \(env, config\): too many"),
        ({"policy": lambda env, config: 3}, "policy '<lambda>' must return a pgjax Policy, got int"),
        ({"policy": lambda env, config: env.foo}, "policy '<lambda>' raised AttributeError: 'Env' object has no"),
        ({"algorithm": losses.ppo_clip}, "algorithm must be a name, an Algorithm or an Entry, got <function ppo_clip"),
    ],
)
def test_what_does_not_go_together_is_one_line(options, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}") as caught:
        made(**options)
    assert "\n" not in str(caught.value)
