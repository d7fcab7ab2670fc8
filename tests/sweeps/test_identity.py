"""Programs are kept by what they are: nothing is compiled twice, and nothing that changed is taken from before."""

import abc
import collections
import dataclasses
import enum
import functools
import gc
import os
import random
import types
import weakref
from time import monotonic
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import pgjax
from pgjax import envs, policies
from pgjax.algorithms import roster
from pgjax.engine import programs, trainer
from pgjax.sweeps import group
from pgjax.sweeps.identity import key_of
from pgjax.sweeps.kept import Kept
from pgjax.sweeps.plan import plan

SMALL = {"num_envs": 2, "num_steps": 4, "hidden": (4,), "eval_episodes": 2, "num_minibatches": 1}


def run(algorithm="a2c", env="PolicyProbe-pgjax", settings=None, **options):
    settings = SMALL | (settings or {})
    return pgjax.run(algorithm, env, seeds=2, updates=2, settings=settings, progress=False, **options)


def states(result):
    return jax.tree.leaves([held[max(held)].state for held in result.archive.kept.values()])


def equal(one, other):
    return all(x.tobytes() == y.tobytes() for x, y in zip(states(one), states(other), strict=True))


@pytest.fixture
def count(monkeypatch):
    """How often a learner was built, and its programs compiled."""
    found = {"built": 0, "compiled": 0}

    def counting(name, function):
        def counted(*arguments):
            found[name] += 1
            return function(*arguments)

        return counted

    monkeypatch.setattr(group, "_rehearsed", counting("built", group._rehearsed))
    monkeypatch.setattr(programs, "_compiled", counting("compiled", programs._compiled))
    return found


def anew(**options):
    """The same run, of which nothing is kept."""
    programs.KEPT.forget()
    group.REHEARSED.forget()
    return run(**options)


class TestRuns:
    def test_other_numbers_compile_nothing(self, count):
        first = run()
        count.update(built=0, compiled=0)
        other = {"settings": {"learning_rate": 0.5, "entropy_coef": 0.1, "discount": 0.5}, "seed": 3}
        kept = run(**other)
        assert count == {"built": 0, "compiled": 0}
        assert equal(kept, anew(**other)) and not equal(first, kept)

    def test_parameters_of_the_environment_are_numbers(self, count):
        run(env="CartPole-v1", settings={"gravity": 9.0})
        other = run(env="CartPole-v1", settings={"gravity": 20.0})
        assert count == {"built": 1, "compiled": 1}
        assert equal(other, anew(env="CartPole-v1", settings={"gravity": 20.0}))

    def test_other_shapes_are_compiled_and_nothing_else(self, count):
        run()
        run(settings={"learning_rate": [0.1, 0.2]})
        assert count == {"built": 1, "compiled": 2}  # of four lanes

    def test_errors_are_those_of_a_first_run(self):
        plan_of()
        with pytest.raises(ValueError, match="gravity"):
            plan_of(env="CartPole-v1", settings={"gravity": float("nan")})
        with pytest.raises(ValueError, match="updates"):
            plan_of(updates=0)
        plan_of("ppo", settings={"epsilon": 0.1})
        with pytest.raises(ValueError, match="stop_kl"):
            plan_of("ppo", settings={"epsilon": 0.1, "stop_kl": 0.1})
        with pytest.raises(ValueError, match="metric 'entropy'"):
            plan_of(loss=of_that_name, settings={"entropy": [0.1, 0.2]})


def test_the_cores_of_a_cpu_share_one_program(count):
    engine = trainer.Engine(plan_of(), None, jax.devices()[:1] * 3, "lanes", 60.0)
    assert len(engine.teams) == 3
    for platform in ("cpu", "gpu"):
        found = [types.SimpleNamespace(platform=platform, id=i) for i in range(3)]
        teams = trainer.Engine(plan_of(), None, found, "lanes", 60.0).teams
        assert [team[0].id for team in teams] == ([0, 0, 0] if platform == "cpu" else [0, 1, 2])
        assert trainer.Engine(plan_of(), None, found, "envs", 60.0).teams == [found]
    first = engine.compile(0, 1, 1, team=0)
    assert engine.compile(0, 1, 1, team=2) is first and count["compiled"] == 1


def of_that_name(now, batch, *, entropy: float = 0.0):
    return -now.log_prob * batch.advantage * entropy, {"entropy": now.log_prob}


def plan_of(algorithm="a2c", env="PolicyProbe-pgjax", settings=None, updates=2, **options):
    return plan(algorithm, env, updates=updates, settings=SMALL | (settings or {}), **options)


def group_key(*arguments, **options):
    (found,) = plan_of(*arguments, **options).groups
    return found.key


class TestGroups:
    """Groups of one key share their programs."""

    @pytest.mark.parametrize(
        "changed",
        [
            {"settings": {"hidden": (5,)}},
            {"settings": {"num_steps": 5}},
            {"settings": {"normalize_advantage": True}},
            {"settings": {"generator": "philox4x32"}},
            {"settings": {"precision": "float32"}},
            {"settings": {"max_steps_in_episode": 7}},
            {"env": "ActionProbe-pgjax"},
            {"algorithm": "ppo"},
            {"advantage": "td"},
            {"optimizer": "sgd"},
            {"loss": of_that_name},
            {"policy": lambda env, config: policies.make(env, config)},
        ],
        ids=lambda x: "-".join(x),
    )
    def test_whatever_is_static_is_part_of_the_key(self, changed):
        assert group_key() == group_key() is not None
        assert group_key(**changed) not in (None, group_key())

    @pytest.mark.parametrize(
        "changed",
        [{"settings": {"learning_rate": 0.5, "discount": 0.5}}, {"updates": 9}, {"seeds": 3}, {"settings": {"n": 3}}],
        ids=lambda x: "-".join(x),
    )
    def test_numbers_are_not(self, changed):
        assert (group_key(**changed) == group_key()) == ("n" not in changed.get("settings", {}))

    def test_bounds_of_actions_are_and_other_parameters_of_the_environment_are_not(self):
        of = lambda **settings: group_key(env="Pendulum-v1", settings=settings)  # noqa: E731
        assert of(max_torque=2.0) not in (None, of(max_torque=5.0))
        assert of(g=9.0) == of(g=12.0) != of()

    def test_what_jax_was_told_is(self):
        with jax.default_matmul_precision("highest"):
            other = group_key()
        assert other not in (None, group_key())

    def test_environments_of_ones_own(self):
        made = envs.make("PolicyProbe-pgjax")
        assert group_key(env=made) == group_key(env=envs.make("PolicyProbe-pgjax")) is not None
        assert group_key(env=lambda: made) not in (None, group_key(env=made))

    def test_what_a_factory_makes_is_part_of_the_key(self):
        """The same function may make another environment, from a file that has changed."""
        tables = [np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 2))]

        def build():
            table = jnp.asarray(tables.pop(0))
            made = envs.make("PolicyProbe-pgjax")
            step = lambda key, params, state, action: made.step(key, params, state, action * table[0, 0].astype(int))  # noqa: E731
            return made._replace(step=step)

        kept = [key_of(built.reset, built.step) for built in (build(), build(), build())]
        assert kept[0] == kept[1] != kept[2]


SCALE = 1.0


def scaled(now, batch, *, power: float = 1.0):
    return -SCALE * now.log_prob * batch.advantage * power, {}


class Doubling:
    def __init__(self, by):
        self.by = by

    def __call__(self, now, batch):
        return -self.by * now.log_prob * batch.advantage, {}


class TestCodeOfTheUsers:
    def test_a_loss_is_kept_until_a_global_of_its_own_changes(self, count, monkeypatch):
        one = run(loss=scaled, optimizer="sgd")
        assert equal(one, run(loss=scaled, optimizer="sgd"))
        assert count == {"built": 1, "compiled": 1}
        monkeypatch.setattr(f"{__name__}.SCALE", 3.0)
        other = run(loss=scaled, optimizer="sgd")
        assert count == {"built": 2, "compiled": 2}
        assert not equal(one, other)

    def test_an_object_is_kept_until_an_attribute_changes(self, count):
        loss = Doubling(1.0)
        one = run(loss=loss, optimizer="sgd")
        loss.by = 2.0
        assert not equal(one, run(loss=loss, optimizer="sgd"))
        run(loss=Doubling(2.0), optimizer="sgd")
        assert count == {"built": 2, "compiled": 2}

    def test_what_can_change_unseen_is_not_kept(self, count):
        module = types.ModuleType("__main__")
        module.scale = 1.0

        def loss(now, batch):
            return -module.scale * now.log_prob * batch.advantage, {}

        one = run(loss=loss, optimizer="sgd")
        module.scale = 2.0
        assert not equal(one, run(loss=loss, optimizer="sgd"))
        assert count == {"built": 2, "compiled": 2}

    def test_an_object_that_changed_is_in_no_later_program(self):
        """Of other shapes either, which are compiled when the object is another one."""
        make = lambda held: lambda now, batch: (-held["scale"] * now.log_prob * batch.advantage, {})  # noqa: E731
        held = {"scale": 1.0}
        run(loss=make(held), optimizer="sgd")
        held["scale"] = 2.0
        run(loss=make(held), optimizer="sgd")
        wide = {"num_envs": 4}
        again = run(loss=make({"scale": 1.0}), optimizer="sgd", settings=wide)
        assert equal(again, anew(loss=make({"scale": 1.0}), optimizer="sgd", settings=wide))

    def test_who_listens_hears_every_run(self):
        def heard():
            seen = []

            def loss(now, batch):
                jax.debug.callback(lambda x: seen.append(1), now.log_prob[0])
                return -now.log_prob * batch.advantage, {}

            run(loss=loss, optimizer="sgd")
            jax.effects_barrier()
            return len(seen)

        assert heard() == heard() > 0


def closing(by):
    def inner(x):
        return x * by

    return inner


class TestKeys:
    @pytest.mark.parametrize("name", list(roster.ROSTER))
    def test_every_row_of_the_roster_has_one(self, name):
        row = roster.entry(name)
        assert key_of(row) is not None
        assert key_of(row) == key_of(roster.entry(name))

    def test_equal_things_made_twice_have_equal_keys(self):
        pairs = [
            (closing(1.0), closing(1.0)),
            (functools.partial(closing, 2), functools.partial(closing, 2)),
            (jnp.arange(3), jnp.arange(3)),
            (jax.random.key(1), jax.random.key(1)),
            (jax.jit(closing(1.0)), jax.jit(closing(1.0))),
            ({"a": (1, [2.0])}, {"a": (1, [2.0])}),
            (Doubling(1), Doubling(1)),
            (optax.adam, optax.adam),
        ]
        for one, other in pairs:
            assert key_of(one) is not None, one
            assert key_of(one) == key_of(other), one

    def test_other_things_have_other_keys(self):
        array, shared = np.arange(3.0), [1]
        things = [
            1, 1.0, True, "1", 0.0, -0.0, None, float("inf"),
            closing(1.0), closing(2.0), closing(1), jax.jit(closing(1.0)), closing,
            array, array + 1, array[:2], array.astype(np.float32), jax.random.key(1), jax.random.key(2),
            functools.partial(closing, 1), functools.partial(closing, by=1), functools.partial(closing),
            (1, 2), [1, 2], {1: 2}, {2: 1}, {1, 2}, (shared, shared), ([1], [2]),
            Doubling(1), Doubling(2), Doubling, Doubling(1).__call__, optax.adam, optax.sgd, np.dtype(float), np, jnp,
        ]  # fmt: skip
        keys = [key_of(x) for x in things]
        assert None not in keys
        assert len(set(keys)) == len(things)

    def test_a_class_is_itself(self):
        """Trees of a class that was made anew are other trees, though nothing in it has changed."""
        make = lambda: type("Mine", (tuple,), {"__module__": "__main__"})  # noqa: E731
        assert key_of(make()) != key_of(make())

    @pytest.mark.parametrize("thing", [iter([1]), object(), types.ModuleType("__main__"), np.array([None])], ids=type)
    def test_what_cant_be_told_has_none(self, thing):
        assert key_of(thing) is None

    def test_a_closure_that_is_not_filled_yet_has_none(self):
        def outer():
            found = key_of(lambda: later)
            later = 1
            return found, later

        assert outer() == (None, 1)

    def test_an_object_in_itself_ends(self):
        one, other = Doubling(1), Doubling(1)
        one.me, other.me = one, other
        assert key_of(one) == key_of(other) != key_of(Doubling(1))


def custom(backward):
    @jax.custom_vjp
    def function(x):
        return x

    function.defvjp(lambda x: (x, None), backward)
    return function


class Wrapped:
    def __init__(self, function, by):
        functools.update_wrapper(self, function)
        self.by = by


class Named(dict):
    pass


class Method(enum.Enum):
    ONE = 1

    def scaled(self):
        return SCALE


@dataclasses.dataclass
class Data:
    x: int = 1


class Pair(NamedTuple):
    x: int = 1


class Abstract(abc.ABC):
    @abc.abstractmethod
    def x(self): ...


class Slots:
    __slots__ = ("__by",)

    def __init__(self, by):
        self.__by = by


def reads_the_environment(x):
    return x * float(os.environ.get("SCALE", 1))


def reads_a_file(x):
    return x * np.loadtxt("scale.txt")


def draws_by_numpy(x):
    return x * np.random.random()


def reads_the_clock(x):
    return x * monotonic()


def imports_from_beside(x):
    from .random import SCALE as scale

    return x * scale


def imports_of_its_own():
    import test_identity

    return test_identity.SCALE


def reads_by_name():
    return globals()["SCALE"]


class TestWhatIsSeen:
    def test_rules_of_a_custom_gradient(self):
        once, twice = custom(lambda _, g: (g,)), custom(lambda _, g: (2 * g,))
        assert key_of(once) is None or key_of(once) != key_of(twice)

    def test_an_object_that_wraps_a_function(self):
        assert key_of(Wrapped(closing, 1.0)) not in (None, key_of(Wrapped(closing, 2.0)))

    def test_a_method_of_an_enum(self, monkeypatch):
        before = key_of(Method.ONE)
        monkeypatch.setattr(f"{__name__}.SCALE", 3.0)
        assert before is None or before != key_of(Method.ONE)

    def test_weak_types_and_arrays_of_both_packages(self):
        kinds = jnp.asarray(1.0), jnp.float32(1), np.float32(1), np.asarray(1, np.float32)
        assert len({key_of(x) for x in kinds}) >= 3

    @pytest.mark.parametrize(
        "thing",
        [Named(a=1), random.Random(0), collections.defaultdict(list), imports_of_its_own, reads_by_name],
        ids=["dict", "generator", "defaultdict", "import", "globals"],
    )
    def test_what_holds_more_than_is_seen_has_none(self, thing):
        assert key_of(thing) is None

    @pytest.mark.parametrize("thing", [Data, Data(2), Pair, Pair(2), Abstract, range(3), slice(1)], ids=str)
    def test_common_things_have_one(self, thing):
        assert key_of(thing) is not None

    def test_a_module_without_a_file_is_the_users(self, tmp_path, monkeypatch):
        (tmp_path / "no_init").mkdir()
        (tmp_path / "no_init" / "settings.py").write_text("SCALE = 1.0")
        monkeypatch.syspath_prepend(tmp_path)
        import no_init.settings

        assert key_of(no_init) is None and key_of(no_init.settings) is None
        function = types.FunctionType(closing.__code__, {})
        assert key_of(function) != key_of(closing)

    def test_private_slots_are_seen(self):
        assert key_of(Slots(1.0)) not in (None, key_of(Slots(2.0)))

    def test_what_is_read_from_outside_has_none(self):
        for function in (reads_the_environment, reads_a_file, draws_by_numpy, imports_from_beside, reads_the_clock):
            assert key_of(function) is None

    def test_ufuncs_and_arrays_of_other_kinds_have_none(self):
        for thing in (np.frompyfunc(closing, 1, 1), np.ma.array([1.0], mask=[True])):
            assert key_of(thing) is None
        assert key_of(np.add) not in (None, key_of(np.exp))

    def test_a_class_with_a_method_of_the_users_is_the_users(self, monkeypatch):
        made = dataclasses.make_dataclass("Made", [("x", int)], namespace={"__call__": lambda self: SCALE})
        before = key_of(made)
        monkeypatch.setattr(f"{__name__}.SCALE", 3.0)
        assert before is None or before != key_of(made)

    def test_an_error_of_the_users_is_no_error(self):
        class Rude:
            __slots__ = ("x",)

            def __getattribute__(self, name):
                raise RuntimeError(name)

        assert key_of(Rude()) is None


class TestKept:
    def test_the_one_unused_the_longest_is_let_go(self):
        kept, made = Kept(2), []
        get = lambda key: kept.get(key, lambda: made.append(key) or Doubling(key))  # noqa: E731
        second = weakref.ref([get(1), get(2), get(1)][1])
        assert made == [1, 2] and second() is not None
        get(3), get(1)
        gc.collect()
        assert made == [1, 2, 3] and second() is None
        get(2)
        assert made == [1, 2, 3, 2] and list(kept.things) == [1, 2]

    def test_without_a_key_nothing_is_kept(self):
        kept, made = Kept(2), []
        for _ in range(2):
            kept.get(None, lambda: made.append(1))
        assert len(made) == 2 and not kept.things
