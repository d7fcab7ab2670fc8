"""What a signature declares, and what a message says of a wrong name."""

import functools
import inspect
import math
from typing import Annotated

import pytest

from pgjax import declarations, errors, hyperparameters, losses
from pgjax.declarations import Role, Trait
from pgjax.hyperparameters import NonNegative, Range
from pgjax.types import Running


def loss(now, batch, *, clip_eps=0.2, clip=True):
    return now + batch + clip_eps, clip


def critic(now, batch, *, value_clip=1.0):
    return now * value_clip


def _running(state, trajectory, now, *, decay=0.5):
    return state, (trajectory * decay, now)


running = Running(init=lambda *_: 0, apply=_running)


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
    assert isinstance(bound, Running) and bound.init is running.init
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


def ranged(now, batch, *, beta: Annotated[float, Range(0, 1)] = 0.5, size: Annotated[int, Range(1), Role.SAMPLES] = 2):
    return now * beta * size


@functools.wraps(ranged)
def wrapped(*args, **hypers):
    return ranged(*args, **hypers)


def rewritten(now, batch, *, own: NonNegative = 1.0, **hypers):
    return own * ranged(now, batch, **hypers)


@functools.wraps(functools.partial(ranged, beta=0.25))
def wrapped_bound(*args, **hypers):
    return ranged(*args, beta=0.25, **hypers)


class Called:
    """A plug that is an object."""

    @declarations.whole_episodes
    def __call__(
        self, now, batch, *, beta: Annotated[float, Range(0, 1)] = 0.5, size: Annotated[int, Role.SAMPLES] = 2
    ):
        return now * beta * size


AROUND = {
    "itself": lambda plug: plug,
    "bind": lambda plug: hyperparameters.bind(plug, beta=0.25),
    "partial": lambda plug: functools.partial(plug, size=3),
    "wraps": lambda plug: wrapped,
    "declare": lambda plug: hyperparameters.declare(rewritten, plug),
    "running": lambda plug: Running(lambda *_: (), plug),
    "wraps of a partial": lambda plug: wrapped_bound,
    "object": lambda plug: Called(),
    "method": lambda plug: Called().__call__,
}


@pytest.mark.parametrize("around", AROUND)
def test_ranges_and_roles_survive_whatever_is_put_around_a_plug(around):
    plug = AROUND[around](ranged)
    assert hyperparameters.ranges(plug)["beta"] == Range(0, 1) and hyperparameters.by_role(plug) == {
        Role.SAMPLES: "size"
    }
    assert hyperparameters.value_of(plug, Role.SAMPLES) == (3 if around == "partial" else 2)
    assert hyperparameters.value_of(plug, Role.WARMUP) is None and hyperparameters.value_of(plug, Role.WARMUP, 7) == 7


@pytest.mark.parametrize("around", ["itself", "bind", "partial", "running"])
def test_a_promise_survives_what_changes_no_sum(around):
    plug = AROUND[around](losses.by_step(lambda now, batch, *, beta=0.5, size=2: now))
    assert declarations.traits_of(plug) == {Trait.BY_STEP}


def test_a_need_survives_a_wrapper_and_a_promise_does_not():
    def both(now, batch, *, beta: float = 0.5):
        return now * beta

    declarations.having(both, Trait.BY_STEP, Trait.IN_ORDER, Trait.WHOLE_EPISODES)
    needs = {Trait.IN_ORDER, Trait.WHOLE_EPISODES}

    @functools.wraps(both)
    def summed(*args, **hypers):
        return both(*args, **hypers).sum()

    def mine(now, batch, **hypers):
        return both(now, batch, **hypers)

    assert declarations.traits_of(summed) == needs
    assert declarations.traits_of(losses.by_step(summed)) == {*needs, Trait.BY_STEP}
    assert declarations.traits_of(hyperparameters.declare(mine, both)) == needs

    def again(now, batch, **hypers):
        return both(now, batch, **hypers)

    assert declarations.traits_of(hyperparameters.declare(again, both, by_step=True)) == {*needs, Trait.BY_STEP}
    assert declarations.traits_of(both) == {*needs, Trait.BY_STEP}


def test_traits_of_objects_and_of_what_remembers():
    assert declarations.traits_of(Called()) == {Trait.WHOLE_EPISODES}
    running = declarations.in_order(Running(lambda *_: (), lambda state, trajectory, now: state))
    assert declarations.traits_of(running) == {Trait.IN_ORDER}
    bound = declarations.whole_episodes(functools.partial(ranged, beta=0.1))
    assert declarations.traits_of(bound) == {Trait.WHOLE_EPISODES} and not declarations.traits_of(ranged)

    @functools.wraps(functools.partial(bound, size=3))
    def around(*args, **hypers):
        return bound(*args, **hypers)

    assert declarations.traits_of(around) == {Trait.WHOLE_EPISODES}
    with pytest.raises(TypeError, match="traits are declared of a function; declare them of its __call__$"):
        declarations.in_order(Called().__call__)


@pytest.mark.parametrize(
    ("allowed", "number", "message"),
    [
        (Range(0, 1), 2, "x must lie in [0, 1], got 2"),
        (Range(1, 10), 11, "x must lie in [1, 10], got 11"),
        (Range(1), 0, "x must be 1 or more, got 0"),
        (Range(high=5), 6, "x must be 5 or less, got 6"),
        (Range(hyperparameters.LEAST, 1), 2.0, "x must be above 0 and 1 or less, got 2.0"),
        (Range(hyperparameters.LEAST), 0.0, "x must be above 0, got 0.0"),
        (Range(0), -1.0, "x must lie in [0, inf], got -1.0"),
        (Range(0, hyperparameters.MOST), math.inf, "x must be 0 or more and finite in float32, got inf"),
        (Range(-hyperparameters.MOST, hyperparameters.MOST), math.inf, "x must be finite in float32, got inf"),
        (Range(0, 1), math.nan, "x must lie in [0, 1], got nan"),
    ],
)
def test_a_message_of_a_range_says_its_ends(allowed, number, message):
    with pytest.raises(ValueError) as caught:
        hyperparameters.within("x", number, number, allowed)
    assert str(caught.value) == message


def test_annotations_that_are_texts_are_read():
    scope = {"Annotated": Annotated, "Range": Range, "Role": Role, "functools": functools}
    exec(
        "from __future__ import annotations\n"
        "def loss(now, batch, *, beta: Annotated[float, Range(0, 2), Role.KL_COEF] = 0.5): ...\n"
        "def lost(now, batch, *, beta: Missing = 0.5): ...\n"
        "@functools.wraps(loss)\n"
        "def around(*args, **hypers): ...\n",
        scope,
    )
    assert hyperparameters.ranges(scope["loss"]) == {"beta": Range(0, 2)}
    for plug in (scope["loss"], scope["around"], functools.partial(scope["around"], beta=0.1)):
        assert hyperparameters.by_role(plug) == {Role.KL_COEF: "beta"}
    with pytest.raises(TypeError, match="^lost: the annotation of 'beta' can't be read: name 'Missing' is not defined"):
        hyperparameters.ranges(scope["lost"])


def test_one_hyperparameter_for_each_role():
    def loss(now, batch, *, a: Annotated[float, Role.KL_COEF] = 0.0, b: Annotated[float, Role.KL_COEF] = 0.0):
        return now, a, b

    with pytest.raises(ValueError, match="^loss: a and b both have Role.KL_COEF; leave one out$"):
        hyperparameters.by_role(loss)


def test_unknown_lists_everything_where_nothing_is_near():
    assert errors.unknown("no loss", "xyz", ["ppo", "vpg"]) == "no loss 'xyz'; choose from ppo, vpg"
    assert errors.unknown("no loss", "xyz", []) == "no loss 'xyz'; choose from (none)"
