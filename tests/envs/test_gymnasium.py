"""Worlds on the host: against the same world as pure functions, against Gymnasium by hand, and end to end."""

import contextlib
import dataclasses
import functools
import os
import re
import signal
import sys
import threading

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from echoes import KINDS, Count, Echo, OnlyHere, Raising, Unlike
from gymnax.environments import spaces

import pgjax
from pgjax import envs
from pgjax.engine import memory as engine_memory
from pgjax.engine import programs, progress, trainer
from pgjax.envs import gymnasium as gymnasium_envs
from pgjax.envs import registry
from pgjax.envs.gymnasium_simulators import Simulators
from pgjax.policies.distributions import Categorical
from pgjax.sweeps import plan as sweeps_plan
from pgjax.training import host_loop, host_programs, loop, vectorised
from pgjax.types import Env, Hypers, Learner, Policy, Step

gymnasium = pytest.importorskip("gymnasium", minversion="1.1")

NAME = "gymnasium:CartPole-v1"
SMALL = {"hidden": (4,), "num_envs": 3, "eval_episodes": 3}
LIMIT = 7


def walk(xp, place, time, action):
    """A world without chance: 3 places from the start to either end, paid by the place, at most 7 steps."""
    place, time = place + 2 * action - 1, time + 1
    terminated = abs(place) == 3
    reward = (0.5 * place + action).astype(xp.float32)
    return place, time, reward, terminated, (time == LIMIT) & ~terminated


def seen_of(xp, place, time):
    return xp.stack([place, time], axis=-1).astype(xp.float32)


class Walks:
    """N of them on the host."""

    def __init__(self, count):
        self.place, self.time = np.zeros((2, count), np.int32)

    def reset(self, seeds):
        self.place, self.time = np.zeros((2, len(seeds)), np.int32)
        return seen_of(np, self.place, self.time)

    def step(self, action):
        place, time, reward, terminated, truncated = walk(np, self.place, self.time, action)
        done = terminated | truncated
        self.place, self.time = np.where(done, 0, place), np.where(done, 0, time)
        step = Step(seen_of(np, place, time), reward, terminated, truncated)
        return seen_of(np, self.place, self.time), step

    def close(self):
        pass


def pure_walk():
    def reset(key, params):
        nothing = jnp.int32(0)
        return (nothing, nothing), seen_of(jnp, nothing, nothing)

    def step(key, params, state, action):
        place, time, *rest = walk(jnp, *state, action)
        return (place, time), Step(seen_of(jnp, place, time), *rest)

    box = spaces.Box(-10.0, 10.0, (2,))
    return Env(params={}, reset=reset, step=step, observation_space=box, action_space=spaces.Discrete(2), max_steps=7)


def host_walk():
    pure = pure_walk()
    shown = lambda key, params: ((), pure.reset(key, params)[1])  # noqa: E731
    step = lambda key, params, state, action: ((), pure.step(key, params, (jnp.int32(0),) * 2, action)[1])  # noqa: E731
    return pure._replace(reset=shown, step=step, host=Walks)


def trained(algorithm, env, updates=6, seeds=2, finish=True, **options):
    """Metrics [L, U], states and Episodes of a plan's one group, of as many lanes as seeds."""
    [group] = sweeps_plan.plan(algorithm, env, seeds=seeds, settings={**SMALL, **options}).groups
    on = programs.compiled(group, seeds, updates, jax.devices()[:1])
    keys, hypers = vectorised.lanes(group.hypers, list(range(seeds)), group.config.generator)
    states, metrics = on.step(keys, on.init(keys, hypers), hypers)
    return jax.tree.map(np.asarray, (metrics, states.learner, on.evaluate(keys, states, hypers) if finish else None))


STREAM = {"num_steps": 5}
CASES = {
    "a2c": ("a2c", STREAM),
    "memory": ("a2c", {**STREAM, "network": "gru"}),
    "normalised": ("ppo", {**STREAM, "normalize_obs": True, "scale_rewards": True, "num_minibatches": 1}),
    "lag": ("impala", STREAM),
    "whole episodes": ("reinforce", {}),
    "cut episodes": ("reinforce", {"num_steps": 4}),
    "whole episodes with memory": ("reinforce", {"network": "gru"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_world_on_the_host_trains_as_the_same_world_of_pure_functions(case):
    algorithm, options = CASES[case]
    here, there = (trained(algorithm, env, **options) for env in (host_walk, pure_walk))
    assert here[0].keys() == there[0].keys()
    close = functools.partial(np.testing.assert_allclose, rtol=2e-3, atol=2e-4)
    close(here[0]["episode_return"][:, -1], there[0]["episode_return"][:, -1])
    jax.tree.map(close, here[0], there[0])
    pairs = zip(here[1]._replace(rollout=()), there[1]._replace(rollout=()), strict=True)
    for a, b in pairs:
        jax.tree.map(close, a, b)
    if here[1].rollout:
        jax.tree.map(close, here[1].rollout._replace(env=()), there[1].rollout._replace(env=()))
    jax.tree.map(close, here[2], there[2])
    if case == "a2c":
        assert np.isnan(there[0]["episode_return"][:, 0]).sum() < 2  # episodes ended; something was compared


def lanes(algorithm, env, seeds, updates=1, **options):
    """Programs of a plan's one group; keys, hypers and states of lanes with these seeds."""
    [group] = sweeps_plan.plan(algorithm, env, seeds=seeds, settings={**SMALL, **options}).groups
    on = programs.compiled(group, len(seeds), updates, jax.devices()[:1])
    keys, hypers = vectorised.lanes(group.hypers, seeds, group.config.generator)
    return group, on, keys, hypers, on.init(keys, hypers)


def gathered(on, keys, hypers, states, calls=1):
    """The seeds [L, B], stream and rows of every update, and the states after them."""
    found, learn = [], on.step.learn

    def spy(keys, states, hypers, stream, rows):
        seeds = np.asarray(on.step.draw(keys, states.updates).seeds)
        found.append((seeds, jax.tree.map(np.array, stream), rows))
        return learn(keys, states, hypers, stream, rows)

    on.step.learn = spy
    for _ in range(calls):
        states, _ = on.step(keys, states, hypers)
    return found, states


def by_hand(seed, actions, limit):
    """What CartPole shows in a stream of these actions: rows of obs, next_obs, reward, terminated, truncated."""
    world, rows = gymnasium.make("CartPole-v1", max_episode_steps=limit), []
    obs, _ = world.reset(seed=int(seed))
    for action in actions:
        following, reward, terminated, truncated, _ = world.step(int(action))
        rows.append((obs, following, reward, terminated, truncated and not terminated))
        obs = world.reset()[0] if terminated or truncated else following
    return tuple(map(np.array, zip(*rows, strict=True)))


def test_a_stream_is_what_gymnasium_shows_by_hand():
    limit = 12
    _, on, keys, hypers, states = lanes("a2c", NAME, [0, 1], updates=2, num_steps=15, max_episode_steps=limit)
    found, states = gathered(on, keys, hypers, states, calls=2)
    joined = lambda name: np.concatenate([getattr(rows, name) for _, _, rows in found], axis=1)  # noqa: E731
    seeds, actions, done = found[0][0], joined("action"), joined("terminated") | joined("truncated")
    assert len(np.unique(seeds)) == seeds.size
    for lane, b in np.ndindex(seeds.shape):
        hand = by_hand(seeds[lane, b], actions[lane, :, b], limit)
        for name, x in zip(("obs", "next_obs", "reward", "terminated", "truncated"), hand, strict=True):
            np.testing.assert_array_equal(joined(name)[lane, :, b], x, err_msg=name)
        running, length, last = 0.0, 0, (np.nan, np.nan)
        for t in range(done.shape[1]):
            assert joined("time")[lane, t, b] == length
            running, length = running + hand[2][t], length + 1
            if done[lane, t, b]:
                last, running, length = (running, length), 0.0, 0
        stream = found[-1][1]
        assert (stream.last_return[lane, b], stream.last_length[lane, b]) == last
        assert (stream.running_return[lane, b], stream.time[lane, b]) == (running, length)
    np.testing.assert_array_equal(found[-1][1].completed, done.sum(axis=(1, 2)))
    assert joined("truncated").any() and joined("terminated").any()
    assert np.all(joined("mask") == 1)


def test_whole_episodes_are_what_gymnasium_shows_by_hand():
    limit = 25
    _, on, keys, hypers, states = lanes("reinforce", NAME, [0, 1], updates=2, max_episode_steps=limit)
    found, states = gathered(on, keys, hypers, states)
    assert not np.array_equal(found[0][0], found[1][0])
    for seeds, stream, rows in found:
        assert stream == () and rows.mask.shape == (2, limit, 3)
        for lane, b in np.ndindex(seeds.shape):
            obs, next_obs, reward, terminated, truncated = by_hand(seeds[lane, b], rows.action[lane, :, b], limit)
            n = np.flatnonzero(terminated | truncated)[0] + 1
            one = jax.tree.map(lambda x: x[lane, :, b], rows)  # noqa: B023
            np.testing.assert_array_equal(one.mask, np.arange(limit) < n)
            np.testing.assert_array_equal(one.obs[:n], obs[:n])
            np.testing.assert_array_equal(one.next_obs[:n], next_obs[:n])
            np.testing.assert_array_equal(one.reward, np.where(np.arange(limit) < n, reward, 0))
            np.testing.assert_array_equal(one.time[:n], np.arange(n))
            ends = np.arange(limit) == n - 1
            np.testing.assert_array_equal(one.terminated, ends & terminated[n - 1])
            np.testing.assert_array_equal(one.truncated, ends & truncated[n - 1])
            assert np.isfinite(one.log_prob).all()


@pytest.mark.slow
def test_each_evaluation_episode_is_counted_once_and_to_its_end():
    group, on, keys, hypers, states = lanes("a2c", NAME, [0, 1], max_episode_steps=60)
    found = jax.tree.map(np.asarray, on.evaluate(keys, states, hypers))
    seeds = np.asarray(host_programs.draw_evaluation(keys, 3, 1)[1].seeds)
    for lane, b in np.ndindex(seeds.shape):
        policy, params = group.learner.policy(jax.tree.map(lambda x: x[lane], states.learner))  # noqa: B023
        world = gymnasium.make("CartPole-v1", max_episode_steps=60)
        obs, length, over = world.reset(seed=int(seeds[lane, b]))[0], 0, False
        while not over:
            action = policy.act(params, (), jnp.asarray(obs)[None])[0].mode()[0]
            obs, _, terminated, truncated, _ = world.step(int(action))
            length, over = length + 1, terminated or truncated
        assert found["greedy"].episode_length[lane, b] == found["greedy"].episode_return[lane, b] == length
    assert len(np.unique(found["stochastic"].episode_length)) > 1


@pytest.mark.slow
def test_a_lane_does_not_depend_on_its_neighbours_nor_on_their_number():
    _, on, keys, hypers, states = lanes("a2c", NAME, [0, 1, 2], num_steps=30)
    [(seeds, _, rows)], after = gathered(on, keys, hypers, states)
    _, on, keys, hypers, states = lanes("a2c", NAME, [2], num_steps=30)
    [(alone, _, same)], after_alone = gathered(on, keys, hypers, states)
    np.testing.assert_array_equal(alone[0], seeds[2])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[2], y[0], rtol=1e-5, atol=1e-6), rows, same)
    pairs = zip(*(jax.tree.leaves(x.learner.params) for x in (after, after_alone)), strict=True)
    for x, y in pairs:
        np.testing.assert_allclose(x[2], y[0], rtol=1e-4, atol=1e-5)


def run(algorithm="a2c", env=NAME, **options):
    options["settings"] = {**SMALL, **({"num_steps": 5} if algorithm == "a2c" else {}), **options.get("settings", {})}
    return pgjax.run(algorithm, env, progress=False, **options)


def test_chunks_one_after_another_do_not_touch_each_other():
    # The second chunk is lane 2 and a double of it, in worlds that the first had before.
    three = run(seeds=3, width=2, updates=3).metrics
    other = run(seeds=[2, 5], width=2, updates=3).metrics
    for name in ("loss", "final_return_stochastic", "final_return_greedy"):
        np.testing.assert_array_equal(three[name].sel(seed=2), other[name].sel(seed=2))


def stop_after(monkeypatch, segments):
    """Ctrl-C, once, after so many segments."""
    update, seen = progress.Progress.update, []

    def interrupt(self, *arguments):
        update(self, *arguments)
        seen.append(1)
        if len(seen) == segments:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "update", interrupt)


@pytest.mark.parametrize("algorithm", ["a2c", pytest.param("reinforce", marks=pytest.mark.slow)])
def test_a_run_goes_on_after_ctrl_c(algorithm, tmp_path, monkeypatch):
    more = {"max_episode_steps": 20}
    whole = run(algorithm, seeds=2, updates=6, settings=more)
    stop_after(monkeypatch, 3)
    stopped = run(algorithm, seeds=2, updates=6, settings=more, out=tmp_path / "run")
    assert stopped.interrupted
    resumed = pgjax.resume(tmp_path / "run", progress=False)
    assert not resumed.interrupted and resumed.metrics.sizes["update"] == 6
    assert np.isfinite(resumed.metrics.loss).all()
    same = {
        name: np.array_equal(resumed.metrics[name], whole.metrics[name]) for name in ("loss", "final_return_greedy")
    }
    # A simulator can't be saved: a stream begins new episodes; whole episodes begin anew anyway.
    assert all(same.values()) == (algorithm == "reinforce")
    np.testing.assert_array_equal(resumed.metrics.loss[..., :3], whole.metrics.loss[..., :3])
    if algorithm == "a2c":  # what was seen before isn't forgotten
        assert np.isfinite(resumed.metrics.episode_return[..., 3:]).all()


def test_a_failed_lane_stands_still_and_the_other_goes_on():
    healthy, broken = (run(updates=3, settings={"learning_rate": [1e-3, x]}) for x in (1e-2, 3e38))
    assert broken.summary["failed_lanes"] == 1 and np.isnan(broken.metrics.loss[1, :, -1]).all()
    np.testing.assert_array_equal(broken.metrics.loss[0], healthy.metrics.loss[0])


def test_worlds_are_closed_in_the_end(monkeypatch):
    made, closed = [], []
    host = lambda count: made.append(count) or Walks(count)  # noqa: E731
    monkeypatch.setattr(Walks, "close", lambda self: closed.append(len(self.place)))
    pgjax.run("a2c", host_walk()._replace(host=host), updates=2, progress=False, settings=SMALL)
    assert sorted(made) == sorted(closed) == [3, 3]


def test_all_devices_but_the_first_stay_out():
    plan = sweeps_plan.plan("a2c", NAME, seeds=4, settings=SMALL)
    assert len(trainer.Engine(plan, None, jax.devices() * 2, "lanes", 60.0).teams) == 1


def test_parameters_reach_the_world_and_a_list_makes_groups():
    name = "gymnasium:Pendulum-v1"
    plan = sweeps_plan.plan("a2c", name, seeds=1, settings={**SMALL, "g": [5.0, 9.0], "max_episode_steps": 30})
    assert [group.env.host(1).block.worlds[0].unwrapped.g for group in plan.groups] == [5.0, 9.0]
    assert [group.env.max_steps for group in plan.groups] == [30, 30]
    assert plan.axes == {"g": [5.0, 9.0]}
    assert registry.settable(name) == {"max_episode_steps": 200, "g": 10.0}


def test_actions_of_a_box_are_clipped_to_its_bounds():
    worlds = [envs.make("gymnasium:MountainCarContinuous-v0").host(1) for _ in range(2)]
    for one in worlds:
        one.reset(np.array([3]))
    (clipped, pays), (bound, bounds) = (
        one.step(np.full((1, 1), x, np.float32)) for one, x in zip(worlds, (50.0, 1.0), strict=True)
    )
    np.testing.assert_array_equal(clipped, bound)
    assert pays.reward == bounds.reward


def test_spaces_that_do_not_begin_at_zero_are_shifted(monkeypatch):
    class Shifted(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(4, start=2)
        action_space = gymnasium.spaces.Discrete(3, start=-1)

        def reset(self, seed=None, options=None):
            return np.int64(2), {}

        def step(self, action):
            return np.int64(4 + action), float(action), False, False, {}

    env = envs.from_gymnasium(lambda: gymnasium.wrappers.TimeLimit(Shifted(), 2), 2)
    assert (env.observation_space.n, env.action_space.n) == (4, 3)
    worlds = env.host(2)
    np.testing.assert_array_equal(worlds.reset([1, 2]), [0, 0])
    obs, step = worlds.step(np.array([0, 2], np.int32))
    np.testing.assert_array_equal(obs, [1, 3])
    np.testing.assert_array_equal(step.reward, [-1, 1])
    obs, step = worlds.step(np.array([1, 1], np.int32))
    np.testing.assert_array_equal(step.obs, [2, 2])
    np.testing.assert_array_equal(obs, [0, 0])
    assert step.truncated.all() and not step.terminated.any()
    assert run(env=lambda: env, updates=1).metrics.loss.size == 1


def test_what_ended_an_episode_is_seen_though_the_world_writes_into_one_array():
    found = {}
    for own in (False, True):
        worlds = host_loop.Worlds(envs.from_gymnasium(lambda own=own: Count(own, 3), 9).host, 9, 2)
        shown = [worlds.reset(np.array([0, 1], np.uint32))]
        rows = [worlds.step(np.zeros((2, 2), np.float32)) for _ in range(4)]
        shown += [obs for obs, _ in rows]
        np.testing.assert_array_equal(np.array(shown)[:, 0, 0], [0, 1, 2, 0, 1])
        found[own] = np.array([step.obs for _, step in rows])[..., 0]
        np.testing.assert_array_equal(found[own][:, 1], [1, 2, 3, 1])
    np.testing.assert_array_equal(found[True], found[False])


def test_worlds_that_share_one_array_do_not_see_each_other():
    shared = np.zeros(1, np.float32)

    class Sharing(Count):
        def seen(self):
            shared[:] = self.place
            return shared

    worlds = envs.from_gymnasium(Sharing, 9).host(2)
    worlds.reset(np.array([0, 1], np.uint32))
    worlds.block.worlds[0].place[:] = 5
    obs, step = worlds.step(np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(obs[:, 0], [6, 1])
    np.testing.assert_array_equal(step.obs[:, 0], [6, 1])


def test_a_world_may_write_into_the_action_that_it_is_given_and_keep_it():
    class Doubling(Count):
        def step(self, action):
            action *= 2
            return super().step(action)

    world = host_loop.Worlds(envs.from_gymnasium(Doubling, 9).host, 9, 1)
    world.reset(np.array([0], np.uint32))
    given = np.asarray(jnp.full((1, 2), 0.25))  # a view of what JAX owns, which nobody may write into
    for times in (1, 2):
        world.step(times * given)
    np.testing.assert_array_equal(given, 0.25)
    [one] = world.simulators.block.worlds
    np.testing.assert_array_equal(one.given, [[0.5, 0.5], [1.0, 1.0]])


class TestProcesses:
    """Simulators that several processes share do what one process does."""

    @pytest.mark.parametrize("kind", ["box", "number", "dict"])
    def test_every_row_is_the_same(self, kind):
        actions = gymnasium.vector.utils.batch_space(KINDS[kind], 5)
        actions.seed(1)
        played = [actions.sample() for _ in range(12)]
        if kind == "number":
            played = [x - 1 for x in played]  # ours count from 0
        found = []
        for processes in (1, 2, 3):
            worlds = host_loop.Worlds(lambda count, n=processes: Simulators(lambda: Echo(kind), count, 6, n), 99, 5)
            assert len(worlds.simulators.others) == processes - 1
            with contextlib.closing(worlds):
                found.append([worlds.reset(np.arange(5, dtype=np.uint32)), *map(worlds.step, played)])
        chex.assert_trees_all_equal(*found)
        ended = np.array([step.terminated | step.truncated for _, step in found[0][1:]])
        assert ended.any(0).all() and not ended.all()

    def test_training_is_the_same(self, monkeypatch):
        found = []
        for few in (99, 2):  # six environments in one process, and in two
            monkeypatch.setattr(gymnasium_envs, "FEW", few)
            monkeypatch.setattr(gymnasium_envs, "_cores", lambda: 2)
            found.append(run(updates=2, seeds=2).metrics.drop_attrs())
        xarray.testing.assert_identical(*found)

    def test_an_error_says_what_the_environment_said(self, monkeypatch):
        monkeypatch.setenv("THE_CALLER", str(os.getpid()))
        with contextlib.closing(Simulators(lambda: Raising(False), 2, 9, 2)) as worlds:
            worlds.reset(np.arange(2))
            worlds.step(np.zeros((2, 2), np.float32))
            with pytest.raises(RuntimeError, match="KeyError: 'no such place'"):
                worlds.step(np.zeros((2, 2), np.float32))

    def test_after_an_error_nothing_is_out_of_step(self, monkeypatch):
        monkeypatch.setenv("THE_CALLER", str(os.getpid()))
        with contextlib.closing(Simulators(lambda: Raising(False), 3, 9, 3)) as worlds:
            for _ in range(3):  # both of the others raise, each time
                np.testing.assert_array_equal(worlds.reset(np.arange(3)), 0)
                np.testing.assert_array_equal(worlds.step(np.zeros((3, 2), np.float32))[0], 1)
                with pytest.raises(RuntimeError, match="no such place"):
                    worlds.step(np.zeros((3, 2), np.float32))

    def test_a_death_is_noticed(self, monkeypatch):
        monkeypatch.setenv("THE_CALLER", str(os.getpid()))
        with contextlib.closing(Simulators(lambda: Raising(True), 2, 9, 2)) as worlds:
            worlds.reset(np.arange(2))
            worlds.step(np.zeros((2, 2), np.float32))
            for _ in range(2):
                with pytest.raises(RuntimeError, match=r"has died \(exit code 7\)"):
                    worlds.step(np.zeros((2, 2), np.float32))

    def test_what_cant_be_pickled_stays_here(self):
        lock = threading.Lock()
        with contextlib.closing(Simulators(lambda: (lock, Count())[1], 4, 9, 2)) as worlds:
            assert worlds.others == []

    def test_what_no_other_process_can_make_is_made_here(self, monkeypatch):
        monkeypatch.setenv("THE_CALLER", str(os.getpid()))
        with contextlib.closing(Simulators(OnlyHere, 4, 9, 2)) as worlds:
            assert worlds.others == [] and len(worlds.block.worlds) == 4
            np.testing.assert_array_equal(worlds.reset(np.arange(4)), 0)

    def test_signals_are_the_callers_to_heed(self):
        with contextlib.closing(Simulators(Count, 2, 9, 2)) as worlds:
            assert os.getsid(worlds.others[0].process.pid) != os.getsid(0)  # before it could ignore them, too
            for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                worlds.others[0].process.send_signal(one)
            np.testing.assert_array_equal(worlds.reset(np.arange(2)), 0)

    @pytest.mark.parametrize("processes", [0, -1, True, "2", 1.5])
    def test_a_number_of_processes_that_is_none_is_refused(self, processes):
        with pytest.raises(ValueError, match="processes=.* must be a whole number of 1 or more"):
            envs.from_gymnasium(Count, 9, processes=processes)

    def test_environments_of_different_spaces_are_refused(self):
        with pytest.raises(ValueError, match="environments of different spaces"):
            Simulators(Unlike, 2, 9)

    def test_an_observation_of_another_shape_is_refused(self):
        class Short(Count):
            def seen(self):
                return np.float32(1)

        with pytest.raises(ValueError, match=r"an observation has shape \(\), and its space \(1,\)"):
            Simulators(Short, 2, 9).reset(np.arange(2))

    def test_an_observation_that_would_be_cut_is_refused(self):
        class Real(Count):
            observation_space = gymnasium.spaces.Box(0, 255, (1,), np.uint8)

            def seen(self):
                return np.array([0.5])

        with pytest.raises(ValueError, match="an observation is of type float64, and its space of uint8"):
            Simulators(Real, 2, 9).reset(np.arange(2))

    @pytest.mark.parametrize("broken", ["", os.devnull])
    def test_where_no_process_can_be_started_this_one_does_all(self, broken, monkeypatch):
        monkeypatch.setattr(sys, "executable", broken)
        with contextlib.closing(Simulators(Count, 4, 9, 2)) as worlds:
            assert worlds.others == [] and len(worlds.block.worlds) == 4

    def test_no_process_is_left(self):
        worlds = Simulators(Count, 4, 9, 2)
        (other,) = worlds.others
        worlds.close()
        assert other.process.returncode == 0


def test_simulators_of_ones_own_may_write_into_their_arrays():
    class Own:
        def __init__(self, count):
            self.seen, self.ended = np.zeros((count, 1), np.float32), np.zeros(count, bool)
            self.reward = np.zeros(count, np.float32)

        def reset(self, seeds):
            seeds[:] = 0
            self.seen[:] = 0
            return self.seen

        def step(self, action):
            action[:] = 7
            self.seen += 1
            self.reward[:] = self.seen[:, 0]
            return self.seen, Step(self.seen, self.reward, self.ended, self.ended)

    worlds, action, seeds = host_loop.Worlds(Own, 9, 2), np.zeros(2, np.int32), np.array([3, 4], np.uint32)
    shown = [worlds.reset(seeds)]
    rows = [worlds.step(action) for _ in range(3)]
    np.testing.assert_array_equal(np.array(shown + [obs for obs, _ in rows])[..., 0].T, [[0, 1, 2, 3]] * 2)
    np.testing.assert_array_equal([step.reward for _, step in rows], [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal([action, seeds], [[0, 0], [3, 4]])


@pytest.mark.parametrize("own_limit", [3, 7, 100])
def test_the_limit_that_is_stated_ends_every_episode_and_truncates(own_limit):
    env = envs.from_gymnasium(lambda: Count(limit=own_limit), 5)
    worlds = env.host(1)
    worlds.reset(np.array([0], np.uint32))
    ends = [worlds.step(np.zeros((1, 2), np.float32))[1].truncated[0] for _ in range(10)]
    length = min(own_limit, 5)
    np.testing.assert_array_equal(np.flatnonzero(ends) + 1, np.arange(length, 11, length))


def test_training_and_evaluation_keep_the_same_limit():
    env = envs.from_gymnasium(lambda: Count(limit=40), 10)
    result = run(env=lambda: env, updates=3, settings={"num_steps": 20})
    for name in ("episode_length", "episode_return"):
        np.testing.assert_array_equal(result.metrics[name].values[..., -1], 10)
    for name in ("final_length_greedy", "final_length_stochastic"):
        np.testing.assert_array_equal(result.metrics[name], 10)


def test_simulators_that_pass_the_limit_are_one_clear_line():
    worlds = host_loop.Worlds(Walks, 5, 1)
    worlds.reset(np.array([0], np.uint32))
    with pytest.raises(ValueError, match="max_steps=5, and the simulators of env.host went on"):
        for action in (0, 1, 0, 1, 0):
            worlds.step(np.array([action], np.int32))


def test_what_makes_the_worlds_is_checked():
    one = Count()
    for build, steps, message in (
        (one, 5, "must be a function that makes a new environment at each call"),
        (Count, 0, "max_steps=0 must be a whole number of 1 or more"),
        (Count, 2.5, "max_steps=2.5 must be a whole number of 1 or more"),
        (lambda: object(), 5, "build returned object; return one gymnasium.Env at each call"),
        (lambda: gymnasium.make_vec("CartPole-v1", 2), 5, "return one gymnasium.Env at each call"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            envs.from_gymnasium(build, steps)
    with pytest.raises(ValueError, match="build returned the same environment twice; make a new one at each call"):
        envs.from_gymnasium(lambda: one, 5).host(2)


def test_bad_input_is_one_clear_line():
    cases = {
        "no environment 'gymnasium:Cartpole-v1'; did you mean 'gymnasium:CartPole-v1'?": ("Cartpole-v1", {}),
        "gymnasium:Pendulum-v1 takes no parameter 'gg'; did you mean 'g'?": ("Pendulum-v1", {"gg": 1.0}),
        "gymnasium:CartPole-v1: max_episode_steps must be 1 or more, got -1": (
            "CartPole-v1",
            {"max_episode_steps": -1},
        ),
        "gymnasium:CartPole-v1: max_episode_steps must be 1 or more, got 0": ("CartPole-v1", {"max_episode_steps": 0}),
        "gymnasium:Blackjack-v1 has no time limit; set env.max_episode_steps": ("Blackjack-v1", {}),
        "gymnasium:nowhere:X-v0: can't import 'nowhere': No module named 'nowhere'": ("nowhere:X-v0", {}),
    }
    for line, (name, arguments) in cases.items():
        with pytest.raises(ValueError, match=re.escape(line)):
            envs.make(f"gymnasium:{name}", **arguments)
    with pytest.raises(ValueError, match="'LunarLander-v3'; did you mean 'gymnasium:LunarLander-v3'?"):
        envs.make("LunarLander-v3")
    with pytest.raises(ValueError, match="no hyperparameter 'gg'; did you mean 'g'?"):
        run(env="gymnasium:Pendulum-v1", settings={"gg": 1.0})
    with pytest.raises(ValueError, match="g must be a number, got 'heavy'"):
        run(env="gymnasium:Pendulum-v1", settings={"g": "heavy"})


def test_a_learner_that_gathers_for_itself_is_refused():
    row = pgjax.algorithms.entry("a2c")
    alone = lambda *arguments: row.learner(*arguments)._replace(learn=None)  # noqa: E731
    with pytest.raises(ValueError, match="this learner needs a JAX environment, and this one is stepped in Python"):
        sweeps_plan.plan(dataclasses.replace(row, learner=alone), NAME)


def test_without_gymnasium_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    with pytest.raises(ValueError, match=re.escape('pip install -e ".[gymnasium]"')):
        envs.make(NAME)


def test_both_cartpoles_are_alike_under_the_same_policy():
    """Lengths of episodes of a noisy controller, a few hundred in each world, within 5 standard errors."""

    def act(params, memory, obs):
        score = obs @ jnp.array([0.0, 0.0, 3.0, 0.0])
        return Categorical(jnp.stack([-score, score], axis=-1)), memory

    policy_of, episodes, limit = lambda state: (Policy(None, lambda batch: (), act, None), ()), 400, 100
    learner, hypers = Learner(None, policy_of), Hypers({}, {}, {}, {})
    keys, states = jax.random.split(jax.random.key(0), 1), loop.TrainState((), jnp.ones(1, bool), jnp.zeros(1))
    there, here = envs.make("CartPole-v1", max_steps_in_episode=limit), envs.make(NAME, max_episode_steps=limit)
    pure = jax.jit(lambda keys: vectorised.evaluate(keys, there, learner, states, hypers, episodes))(keys)
    draw = jax.jit(lambda keys: host_programs.draw_evaluation(keys, episodes, limit))
    choose = jax.jit(functools.partial(host_programs.act, policy_of))
    found = host_loop.Evaluation(here.host, limit, draw, choose, ())(keys, states, hypers)
    for kind in ("stochastic", "greedy"):
        a, b = (np.asarray(x[kind].episode_length)[0] for x in (pure, found))
        assert 20 < a.mean() < 95 and a.std() > 5
        assert abs(a.mean() - b.mean()) < 5 * np.sqrt((a.var() + b.var()) / episodes)


@pytest.mark.slow
def test_memory_is_told_of_the_compiled_pieces():
    plan = sweeps_plan.plan("a2c", NAME, seeds=4, settings=SMALL)
    one, four = (programs.compiled(plan.groups[0], width, 1, jax.devices()[:1]).bytes for width in (1, 4))
    assert 0 < one < four < 10 * one and four < engine_memory.room(None, jax.devices()[:1])[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_learners_with_replay_train_there_too(name):
    small = {"warmup": 8, "batch_size": 4, "buffer_size": 64, "gradient_steps": 2, "hidden": (4,)}
    result = pgjax.run(name, "gymnasium:CartPole-v1", seeds=2, updates=3, settings=small, progress=False)
    np.testing.assert_array_equal(result.metrics.gradient_steps.values, [[2, 2, 2]] * 2)
