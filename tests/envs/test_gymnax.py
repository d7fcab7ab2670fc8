"""The border to gymnax: its whole registry as it is, its wrappers, and parameters that follow from others."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import environment
from gymnax.environments.classic_control import cartpole
from gymnax.wrappers import compat, dm_env, purerl

from pgjax import envs
from pgjax.envs import parameters, registry, wrappers
from pgjax.sweeps import plan as sweeps_plan

NAMES = envs.names()


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    """Ten images in place of those that MNISTBandit downloads."""
    from gymnax.utils import load_mnist

    images, labels = np.arange(10 * 28 * 28, dtype=np.int8).reshape(10, 28, 28), np.arange(10, dtype=np.uint8)
    monkeypatch.setattr(load_mnist, "load_mnist", lambda: ((images, labels), (images, labels)))


def free(env):
    """Name -> value of the parameters that may be set."""
    computed = parameters.derived(env.params)
    return {name: x for name, x in parameters.param_names(env.params).items() if name not in computed}


# --- parameters that follow from others


def cartpole_in_float64(state, action, gravity=9.8, masscart=1.0, masspole=0.1, length=0.5, force=10.0, tau=0.02):
    """Florian 2007, as in Gymnasium: the state after one step."""
    total, pole = masscart + masspole, masspole * length
    x, v, angle, speed = state
    push = force if action else -force
    temp = (push + pole * speed**2 * np.sin(angle)) / total
    turn = (gravity * np.sin(angle) - np.cos(angle) * temp) / (length * (4 / 3 - masspole * np.cos(angle) ** 2 / total))
    push = temp - pole * turn * np.cos(angle) / total
    return np.array([x + tau * v, v + tau * push, angle + tau * speed, speed + tau * turn])


START = dict(x=0.1, x_dot=0.2, theta=0.1, theta_dot=-0.5)
PHYSICS = [dict(masscart=4.0), dict(masspole=1.0), dict(length=2.0), dict(gravity=20.0), dict(masspole=0.4, length=1.5)]


def after_one_step(env, params):
    state, _ = env.reset(jax.random.key(0), params)
    return env.step(jax.random.key(1), params, state.replace(**START), jnp.int32(1))[1].obs


@pytest.mark.parametrize("values", PHYSICS, ids=str)
def test_masses_and_the_length_of_cartpole_change_its_physics(values):
    right = cartpole_in_float64(START.values(), 1, **values)
    by_name = envs.make("CartPole-v1", **values)
    usual = envs.make("CartPole-v1")
    world, params = gymnax.make("CartPole-v1")
    by_gymnax = envs.from_gymnax(world, params.replace(**values))
    wrapped = envs.from_gymnax(purerl.LogWrapper(world), params.replace(**values))
    for env in (by_name, by_gymnax):
        np.testing.assert_allclose(after_one_step(env, env.params), right, atol=1e-6)
    assert float(wrapped.params.total_mass) == pytest.approx(wrapped.params.masscart + wrapped.params.masspole)
    swept = jax.vmap(lambda given: after_one_step(usual, envs.with_params(usual, given)))
    np.testing.assert_allclose(swept({k: jnp.full(2, x) for k, x in values.items()}), [right, right], atol=1e-6)


def test_parameters_as_they_come_are_bit_for_bit_gymnaxs():
    for name in NAMES:
        if name.endswith(("-v1", "-v0", "-bsuite", "-misc", "-MinAtar")):
            same = jax.tree.map(lambda a, b: np.array_equal(a, b), envs.make(name).params, gymnax.make(name)[1])
            assert all(jax.tree.leaves(same)), name


def reached(function, values, *rest):
    """[outputs] of sets: the names of `values` that each output of function(values, *rest) may depend on."""
    closed = jax.make_jaxpr(function)(values, *rest)
    names = [path[0].key for path, _ in jax.tree_util.tree_flatten_with_path(values)[0]]
    inputs = [*names, *(f"#{i}" for i in range(len(closed.jaxpr.invars) - len(names)))]
    known = dict(zip(closed.jaxpr.invars, ({name} for name in inputs), strict=True))
    of = lambda x: known.get(x, set()) if isinstance(x, type(closed.jaxpr.invars[0])) else set()  # noqa: E731
    for equation in closed.jaxpr.eqns:
        found = set().union(*map(of, equation.invars))
        known.update((out, found) for out in equation.outvars)
    return [of(out) for out in closed.jaxpr.outvars]


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_that_may_be_set_changes_what_is_seen_or_paid(name):
    env = envs.make(name)
    values = jax.tree.map(lambda x: jnp.asarray(x), free(env))
    key = jax.random.key(0)
    state, _ = jax.eval_shape(env.reset, key, env.params)
    action = jax.eval_shape(env.action_space.sample, key)
    size = len(jax.tree.leaves(state))
    first = reached(lambda v, k: env.reset(k, envs.with_params(env, v)), values, key)
    each = reached(lambda v, s, k, a: env.step(k, envs.with_params(env, v), s, a), values, state, key, action)
    in_state = first[:size]
    through = lambda found: found.union(*(in_state[int(x[1:])] for x in found if x[0] == "#" and int(x[1:]) < size))  # noqa: E731
    for _ in range(size):
        in_state = [before | through(now) for before, now in zip(in_state, each[:size], strict=True)]
    seen = set().union(*first[size:], *map(through, each[size:]))
    assert set(values) - seen == set(parameters.UNUSED.get(name, ()))


def test_what_is_computed_or_unused_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"CartPole-v1: total_mass is computed as masscart \+ masspole; leave"):
        envs.make("CartPole-v1", total_mass=3.0)
    with pytest.raises(ValueError, match="polemass_length is computed as masspole"):
        envs.with_params(envs.make("CartPole-v1"), {"polemass_length": jnp.float32(1.0)})
    with pytest.raises(ValueError, match=r"CartPole-v1: total_mass is computed"):
        sweeps_plan.plan("reinforce", "CartPole-v1", updates=1, settings={"env.total_mass": [1.0, 2.0]})
    with pytest.raises(ValueError, match="Acrobot-v1: nothing depends on link_length_2"):
        sweeps_plan.plan("reinforce", "Acrobot-v1", updates=1, settings={"env.link_length_2": [1.0, 2.0]})
    world, params = gymnax.make("CartPole-v1")
    with pytest.raises(ValueError, match=r"total_mass=5.0, but it is masscart \+ masspole = 1.1; leave total_mass out"):
        envs.from_gymnax(world, params.replace(total_mass=5.0))
    both = envs.from_gymnax(world, params.replace(masscart=4.0, total_mass=4.1))
    assert both.params.total_mass == 4.1


def test_the_clock_of_a_bandit_follows_its_time_limit():
    for limit in (50, 50.0, 200):
        env = envs.make("BernoulliBandit-misc", max_steps_in_episode=limit)
        state, _ = env.reset(jax.random.key(0), env.params)
        for t, clock in ((0, -1 + 2 / limit), (limit - 1, 1.0)):
            _, seen = env.step(jax.random.key(1), env.params, state.replace(time=jnp.float32(t)), jnp.int32(0))
            assert float(seen.obs[3]) == pytest.approx(clock, abs=1e-6)
            assert bool(seen.truncated) == (t == limit - 1)


def test_list_says_what_is_computed_and_what_nothing_depends_on(capsys):
    from rich.console import Console

    from pgjax.cli import listing

    for name, line in (
        ("CartPole-v1", "env.total_mass is computed as masscart + masspole, and can't be set."),
        ("Acrobot-v1", "env.link_length_2 can't be set: nothing depends on it, in gymnax."),
        ("GaussianBandit-misc", "Its clock goes from -1 to 1 in 100 steps, whatever the time limit."),
    ):
        listing.show_environment(Console(width=200), name, envs.make(name), registry.settable(name))
        said = capsys.readouterr().out
        assert line in said and "env.total_mass=" not in said and "env.link_length_2=" not in said
    assert set(parameters.NOTES) | set(parameters.UNUSED) <= set(NAMES)


# --- values that are none


@pytest.mark.parametrize("limit", [0, -1, 0.0, 0.5, 10.5, True, False, float("nan"), float("inf"), 2**31], ids=repr)
@pytest.mark.parametrize("name", ["CartPole-v1", "BernoulliBandit-misc"])
def test_a_time_limit_below_one_or_no_number_is_refused(name, limit):
    with pytest.raises(ValueError, match="max_steps_in_episode=.*is no time limit; give a whole number of steps"):
        envs.make(name, max_steps_in_episode=limit)
    world, params = gymnax.make(name)
    with pytest.raises(ValueError, match="max_steps_in_episode=.*is no time limit; give a whole number of steps"):
        envs.from_gymnax(world, params.replace(max_steps_in_episode=limit))
    for given in (limit, [100, limit]) if limit != float("inf") else ():
        with pytest.raises(ValueError, match="max_steps_in_episode"):
            sweeps_plan.plan("reinforce", name, updates=1, settings={"env.max_steps_in_episode": given})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300, True, "heavy"], ids=repr)
def test_a_parameter_that_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match="CartPole-v1: gravity=.*; give"):
        envs.make("CartPole-v1", gravity=value)
    with pytest.raises(ValueError, match="the environment: gravity=.*; give"):
        envs.with_params(envs.make("CartPole-v1"), {"gravity": value})
    for given in (value, [9.8, value]):
        with pytest.raises(ValueError, match="gravity"):
            sweeps_plan.plan("reinforce", "CartPole-v1", updates=1, settings={"env.gravity": given})


def test_a_bound_may_be_infinite_and_not_nan():
    env = envs.make("CartPole-v1", x_threshold=float("inf"))
    assert env.params.x_threshold == float("inf")
    with pytest.raises(ValueError, match="x_threshold=nan is not finite"):
        envs.make("CartPole-v1", x_threshold=float("nan"))


def test_what_a_world_is_built_with_compiles_anew_and_is_not_swept():
    plan = sweeps_plan.plan("reinforce", "FrozenLake-misc", updates=1, settings={"env.success_rate": [0.5, 1.0]})
    assert len(plan.groups) == 2
    with pytest.raises(ValueError, match="MetaMaze-misc can't be made: AssertionError"):
        envs.make("MetaMaze-misc", maze_size=4)


def test_a_registry_without_its_private_table_still_gives_constructor_arguments(monkeypatch):
    expected = registry._constructor("DeepSea-bsuite")

    class Public:
        make = staticmethod(gymnax.make)

    monkeypatch.setattr(registry, "_registry", lambda: Public)
    assert registry._constructor("DeepSea-bsuite") == expected == {"size": 8, "action_mapping_key": None}


# --- wrappers


class Tenfold(purerl.GymnaxWrapper):
    def reset(self, key, params=None):
        return self._env.reset(key, params)

    def step(self, key, state, action, params=None):
        obs, state, reward, *rest = self._env.step(key, state, action, params)
        return obs, state, 10.0 * reward, *rest


class Halved(Tenfold):
    """Half of every observation, the last of an episode as well where `last`."""

    last = True

    def reset(self, key, params=None):
        obs, state = self._env.reset(key, params)
        return obs / 2, state

    def step(self, key, state, action, params=None):
        obs, state, reward, terminated, truncated, info = self._env.step(key, state, action, params)
        info = {**info, "final_observation": info["final_observation"] / 2} if self.last else info
        return obs / 2, state, reward, terminated, truncated, info


class HalvedInPart(Halved):
    last = False


def path(env, steps=12):
    """Steps of one world along actions 0, 1, 1, 0, 1, 1 ..., with the state before and after each."""
    state, obs = env.reset(jax.random.key(0), env.params)
    rows = []
    for t in range(steps):
        after, seen = env.step(jax.random.key(t), env.params, state, jnp.int32(t % 3 > 0))
        rows.append((obs, seen, after))
        state, obs = after, seen.obs
    return rows


@pytest.mark.parametrize("world", ["CartPole-v1", "DiscountingChain-bsuite"])
def test_a_wrapper_is_what_is_stepped_and_it_never_resets(world):
    inner, params = gymnax.make(world)
    params = params.replace(max_steps_in_episode=10)
    plain, wrapped = (envs.from_gymnax(x, params) for x in (inner, Tenfold(Halved(purerl.LogWrapper(inner)))))
    for (obs, seen, state), (half, there, log) in zip(path(plain), path(wrapped), strict=True):
        np.testing.assert_array_equal(half, obs / 2)
        np.testing.assert_array_equal(there.obs, seen.obs / 2)
        assert float(there.reward) == float(10 * seen.reward)
        assert (bool(there.terminated), bool(there.truncated)) == (bool(seen.terminated), bool(seen.truncated))
        assert int(log.env_state.time) == int(state.time)
    assert bool(path(wrapped)[9][1].truncated)


def test_sticky_actions_replay_the_last_action():
    env = envs.from_gymnax(purerl.StickyActionWrapper(gymnax.make("CartPole-v1")[0], 1.0))
    state, _ = env.reset(jax.random.key(0), env.params)
    left, right = (env.step(jax.random.key(1), env.params, state, jnp.int32(a))[1].obs for a in (0, 1))
    np.testing.assert_array_equal(left, right)


def test_a_flattened_world_shows_what_it_declares():
    env = envs.from_gymnax(Tenfold(purerl.FlattenObservationWrapper(gymnax.make("Catch-bsuite")[0])))
    state, obs = env.reset(jax.random.key(0), env.params)
    _, seen = env.step(jax.random.key(0), env.params, state, jnp.int32(0))
    assert obs.shape == seen.obs.shape == env.observation_space.shape == (50,)


@pytest.mark.slow
def test_training_and_evaluation_see_the_wrapper():
    import pgjax

    chosen = {"num_envs": 2, "eval_episodes": 3, "hidden": (2,), "env.max_steps_in_episode": 12}
    made = lambda: Tenfold(gymnax.make("CartPole-v1")[0])  # noqa: E731
    found = pgjax.run("reinforce", made, updates=1, seeds=1, progress=False, settings=chosen).metrics
    for kind in ("stochastic", "greedy"):
        lengths, returns = found[f"final_length_{kind}"].values, found[f"final_return_{kind}"].values
        np.testing.assert_array_equal(returns, 10 * lengths)


def test_a_wrapped_world_keeps_its_gradients():
    world = gymnax.make("Pendulum-v1")[0]
    for made in (world, Halved(world)):
        env = envs.from_gymnax(made)
        state, _ = env.reset(jax.random.key(0), env.params)
        slope = jax.grad(lambda a, e=env, s=state: e.step(jax.random.key(0), e.params, s, a)[1].obs[2])(jnp.zeros(1))
        assert float(slope[0]) == pytest.approx(0.15 / (2 if made is not world else 1), rel=1e-5)


class OwnStep(cartpole.CartPole):
    def step(self, key, state, action, params=None):
        obs, state, reward, *rest = super().step(key, state, action, params)
        return obs, state, 10.0 * reward, *rest


class OwnStepEnv(purerl.GymnaxWrapper):
    def step_env(self, key, state, action, params):
        return self._env.step_env(key, state, action, params)


class OwnObservation(cartpole.CartPole):
    def get_obs(self, state, params=None, key=None):
        return super().get_obs(state)[:2]


@pytest.mark.parametrize(
    "make, line",
    [
        (lambda inner: OwnStep(), "OwnStep has a step of its own, .* override these, or put step into"),
        (OwnStepEnv, "the wrapper OwnStepEnv has a step_env of its own, .*; override reset and step"),
        (HalvedInPart, r"HalvedInPart.step changes the observation and not info\['final_observation'\]"),
        (compat.LegacyStepAPIWrapper, "LegacyStepAPIWrapper.step must give .*; give what it wraps instead"),
        (dm_env.GymnaxToDmEnvWrapper, "GymnaxToDmEnvWrapper.reset must give .*; give what it wraps instead"),
        (lambda inner: gymnax.wrappers.GymnaxToGymWrapper(inner), "or a wrapper around one, got GymnaxToGymWrapper"),
        (lambda inner: object(), "expected a gymnax Environment, or a wrapper around one, got object"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_would_be_bypassed_is_refused_in_one_line(make, line):
    with pytest.raises(TypeError, match=line) as error:
        envs.from_gymnax(make(gymnax.make("CartPole-v1")[0]))
    assert "\n" not in str(error.value)


def test_an_observation_of_another_shape_than_declared_is_refused():
    with pytest.raises(ValueError, match=r"OwnObservation"):
        envs.from_gymnax(OwnObservation())


def test_the_world_that_was_given_is_left_as_it_was():
    inner = gymnax.make("CartPole-v1")[0]
    outer = Tenfold(inner)
    envs.from_gymnax(outer)
    assert outer._env is inner and wrappers.innermost(outer) is inner
    assert isinstance(inner, environment.Environment)


# --- the whole registry, as it is


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_what_is_seen_is_what_the_space_declares_and_no_step_ends_twice(name):
    usual = envs.make(name)
    env = envs.make(name, **({"max_steps_in_episode": 6} if usual.max_steps > 6 else {}))
    space, key = env.observation_space, jax.random.key(0)

    def one(key):
        def step(state, key):
            action = env.action_space.sample(jax.random.fold_in(key, 1))
            state, seen = env.step(key, env.params, state, action)
            return state, seen

        state, obs = env.reset(key, env.params)
        return obs, jax.lax.scan(step, state, jax.random.split(key, 6))[1]

    first, seen = jax.device_get(jax.jit(jax.vmap(one))(jax.random.split(key, 8)))
    ended = np.cumsum(seen.terminated | seen.truncated, axis=1) - (seen.terminated | seen.truncated) > 0
    for obs in (first, seen.obs[~ended]):
        assert obs.dtype == np.dtype(space.dtype) and obs.shape[1:] == tuple(space.shape)
        assert bool(jax.vmap(space.contains)(obs).all())
    assert seen.reward.dtype == np.float32 and np.isfinite(seen.reward).all()
    assert not np.any(seen.terminated & seen.truncated)
    assert np.all(np.any(seen.terminated | seen.truncated, axis=1))


def test_a_last_step_that_gymnax_ends_twice_is_terminated():
    world, params = gymnax.make("DeepSea-bsuite", size=2)
    env = envs.make("DeepSea-bsuite", size=2)
    state, _ = env.reset(jax.random.key(0), env.params)
    state, _ = env.step(jax.random.key(0), env.params, state, jnp.int32(0))
    *_, terminated, truncated, _ = world.step(jax.random.key(0), state, jnp.int32(0), params)
    _, seen = env.step(jax.random.key(0), env.params, state, jnp.int32(0))
    assert terminated and truncated and seen.terminated and not seen.truncated


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_under_x64_every_world_gives_what_it_gives_without(name):
    """Shapes and types, since all of it is the same program in 32 bits."""

    def kinds():
        env = envs.make(name)
        key = jax.random.key(0)
        state, obs = jax.eval_shape(env.reset, key, env.params)
        after, seen = jax.eval_shape(env.step, key, env.params, state, jax.eval_shape(env.action_space.sample, key))
        kind = lambda x: (x.shape, x.dtype)  # noqa: E731
        before, after = jax.tree.map(kind, (state, obs)), jax.tree.map(kind, (after, seen.obs))
        assert before == after
        assert (seen.reward.dtype, seen.terminated.dtype) == (jnp.float32, jnp.bool_)
        return before

    with jax.enable_x64(True):
        wide = kinds()
    if name.endswith(("-v1", "-v0", "-bsuite", "-misc", "-MinAtar")):
        assert wide == kinds()


@pytest.mark.parametrize("name", ["Pendulum-v1", "GaussianBandit-misc", "MetaMaze-misc"])
def test_under_x64_the_numbers_are_the_same(name):
    def three():
        env = envs.make(name)
        state, obs = env.reset(jax.random.key(0), env.params)
        rows = [obs]
        for t in range(3):
            action = jnp.full(1, 0.7, jnp.float32) if hasattr(env.action_space, "low") else jnp.int32(t % 2)
            state, seen = env.step(jax.random.key(t), env.params, state, action)
            rows += [seen.obs, seen.reward]
        return jax.device_get(rows)

    with jax.enable_x64(True):
        wide = three()
    jax.tree.map(np.testing.assert_array_equal, wide, three())


@pytest.mark.slow
def test_under_x64_a_plan_works_or_says_in_one_line_what_to_turn_off():
    with jax.enable_x64(True):
        chosen = {"num_envs": 4, "env.max_steps_in_episode": 8}
        for name in ("CartPole-v1", "Pendulum-v1"):
            sweeps_plan.plan("ppo", name, updates=1, settings=chosen)
        try:
            sweeps_plan.plan("npg", "CartPole-v1", updates=1, settings=chosen)
        except ValueError as error:
            assert "JAX_ENABLE_X64=0" in str(error) and "\n" not in str(error)


def test_under_x64_an_error_of_the_users_own_is_told_as_it_is():
    def loss(now, batch):
        return jnp.add(now.log_prob, "oops"), {}

    with jax.enable_x64(True), pytest.raises(TypeError, match="oops|str"):
        sweeps_plan.plan("a2c", "CartPole-v1", updates=1, loss=loss, settings={"num_envs": 2, "hidden": (4,)})
