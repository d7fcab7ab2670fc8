"""What a signature declares, and what a message says of a wrong name."""

import functools
import inspect

import pytest

from pgjax import errors, hyperparameters
from pgjax.types import RunningAdvantage


def loss(now, batch, *, clip_eps=0.2, clip=True):
    return now + batch + clip_eps, clip


def critic(now, batch, *, value_clip=1.0):
    return now * value_clip


def _running(state, trajectory, now, *, decay=0.5):
    return state, (trajectory * decay, now)


running = RunningAdvantage(init=lambda: 0, apply=_running)


def test_keyword_only_arguments_are_the_hyperparameters_in_order():
    assert list(hyperparameters.hyperparameters(loss).items()) == [("clip_eps", 0.2), ("clip", True)]


def test_positional_arguments_with_defaults_are_none():
    assert hyperparameters.hyperparameters(lambda now, batch=3: now) == {}


def test_a_hyperparameter_without_default_is_refused():
    def bad(now, *, beta):
        return now * beta

    with pytest.raises(TypeError, match=r"bad: keyword-only argument 'beta' has no default"):
        hyperparameters.hyperparameters(bad)


def test_bind_changes_defaults_and_keeps_the_rest():
    bound = hyperparameters.bind(loss, clip_eps=0.5)
    assert hyperparameters.hyperparameters(bound) == {"clip_eps": 0.5, "clip": True}
    assert bound(1, 2) == (3.5, True)
    assert bound(1, 2, clip_eps=1.0) == (4.0, True)
    assert hyperparameters.hyperparameters(loss)["clip_eps"] == 0.2


def test_bind_twice_keeps_both():
    bound = hyperparameters.bind(hyperparameters.bind(loss, clip_eps=0.5), clip=False)
    assert hyperparameters.hyperparameters(bound) == {"clip_eps": 0.5, "clip": False}
    assert hyperparameters.name_of(bound) == "loss"


def test_bind_of_nothing_is_the_plug_itself():
    assert hyperparameters.bind(loss) is loss


def test_bind_names_the_nearest_hyperparameter():
    with pytest.raises(ValueError, match=r"loss takes no hyperparameter 'clip_epz'; did you mean 'clip_eps'\?"):
        hyperparameters.bind(loss, clip_epz=0.1)


def test_a_running_advantage_is_bound_and_named_by_its_function():
    bound = hyperparameters.bind(running, decay=0.25)
    assert isinstance(bound, RunningAdvantage) and bound.init is running.init
    assert hyperparameters.hyperparameters(running) == {"decay": 0.5}
    assert hyperparameters.hyperparameters(bound) == {"decay": 0.25}
    assert bound.apply(0, 8, 1) == (0, (2.0, 1))
    assert hyperparameters.name_of(bound) == "_running"
    with pytest.raises(ValueError, match="_running takes no hyperparameter 'decey'; did you mean 'decay'"):
        hyperparameters.bind(running, decey=0.1)


def test_name_of_sees_through_partials_and_falls_back_to_the_type():
    class Loss:
        def __call__(self, now):
            return now

    assert hyperparameters.name_of(functools.partial(functools.partial(loss, clip=False), clip_eps=1.0)) == "loss"
    assert hyperparameters.name_of(Loss()) == "Loss"


def test_declare_merges_signatures():
    def both(now, batch, *, coef=0.5, **hypers):
        return now, batch, coef, hypers

    declared = hyperparameters.declare(both, loss, hyperparameters.bind(critic, value_clip=3.0))
    assert hyperparameters.hyperparameters(declared) == {"coef": 0.5, "clip_eps": 0.2, "clip": True, "value_clip": 3.0}
    assert list(inspect.signature(declared).parameters)[:2] == ["now", "batch"]
    assert declared(1, 2, value_clip=4.0) == (1, 2, 0.5, {"value_clip": 4.0})


def test_declared_plugs_bind_and_nest():
    def both(now, *, coef=0.5, **hypers):
        return now, coef, hypers

    def outer(key, *, outermost=1.0, **hypers):
        return key, outermost, hypers

    bound = hyperparameters.bind(hyperparameters.declare(both, loss), clip_eps=0.9)
    nested = hyperparameters.declare(outer, bound)
    assert hyperparameters.hyperparameters(nested) == {"outermost": 1.0, "coef": 0.5, "clip_eps": 0.9, "clip": True}


def test_declare_refuses_a_name_that_is_taken():
    def both(now, *, clip_eps=0.5, **hypers):
        return now, clip_eps, hypers

    with pytest.raises(ValueError, match="loss: hyperparameter 'clip_eps' is taken by both; rename it"):
        hyperparameters.declare(both, loss)


def test_declare_refuses_a_name_shared_by_two_plugs():
    def both(now, **hypers):
        return now, hypers

    with pytest.raises(ValueError, match="critic: hyperparameter 'value_clip' is taken"):
        hyperparameters.declare(both, critic, critic)


def test_declare_refuses_the_name_of_a_positional_argument():
    def both(now, value_clip, **hypers):
        return now, value_clip, hypers

    with pytest.raises(ValueError, match="'value_clip' is taken by both"):
        hyperparameters.declare(both, critic)


def test_unknown_lists_everything_where_nothing_is_near():
    assert errors.unknown("no loss", "xyz", ["ppo", "vpg"]) == "no loss 'xyz'; choose from ppo, vpg"
    assert errors.unknown("no loss", "xyz", []) == "no loss 'xyz'; choose from (none)"
