"""Supervision by a world's expert, before reinforcement and beside it."""

import dataclasses
import functools
import json
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import pgjax
from pgjax import algorithms, envs, hyperparameters, policies
from pgjax.algorithms import imitation
from pgjax.cli import main
from pgjax.config import Config
from pgjax.engine import checkpoints, progress
from pgjax.envs.puzzles import WORLDS
from pgjax.hyperparameters import bind
from pgjax.runs import load
from pgjax.training import vectorised

SMALL = {"hidden": (8,), "heads": 2, "num_envs": 8, "num_minibatches": 1, "samples": 4, "eval_episodes": 4}
TAUGHT = {**SMALL, "pretrain": 6, "examples": 16}
OPTIONS = {"seeds": 2, "updates": 6, "width": 2, "progress": False}


@functools.cache
def copying():
    env = envs.make("copying")
    return env, policies.make(env, Config(hidden=(8,), heads=2))


@functools.cache
def shown(count=16):
    env, _ = copying()
    return jax.jit(lambda key: imitation.demonstrations(key, env, count))(jax.random.key(0))


def test_demonstrations_are_whole_episodes_of_the_expert():
    world = WORLDS["copying"]()
    answers = {
        world.decode(p): [*world.encode(world.decode(a), world.most_answer), 0]
        for p, a in zip(world.prompts, world.answers, strict=True)
    }
    seen = jax.tree.map(np.asarray, shown())
    assert seen.mask.shape == (2, 16) and set(seen.mask.sum(axis=0)) == {2.0}
    for b in range(16):
        prompt = world.decode(seen.obs[0, b])
        assert seen.action[:, b].tolist() == answers[prompt][:2] and seen.time[:, b].tolist() == [0, 1]
        assert world.decode(seen.obs[1, b]) == prompt + world.decode(seen.action[:1, b])
        np.testing.assert_array_equal(seen.obs[1, b], seen.next_obs[0, b])
    np.testing.assert_array_equal(seen.reward, [[0.0] * 16, [1.0] * 16])
    np.testing.assert_array_equal(seen.terminated, [[False] * 16, [True] * 16])
    assert not seen.truncated.any() and not seen.log_prob.any()


def test_what_stands_behind_the_end_of_a_demonstration_does_not_count():
    ended = envs.from_gymnax(WORLDS["brackets"](length=3))
    seen = jax.jit(lambda key: imitation.demonstrations(key, ended, 64))(jax.random.key(0))
    lengths = np.asarray(seen.mask).sum(axis=0)
    assert set(lengths.tolist()) == {2.0, 3.0}
    np.testing.assert_array_equal(np.asarray(seen.reward).sum(axis=0), 1.0)
    np.testing.assert_array_equal(seen.mask, np.arange(3)[:, None] < lengths)
    np.testing.assert_array_equal(np.asarray(seen.terminated).sum(axis=0), 1)


def test_a_demonstration_that_the_time_limit_ends_is_truncated():
    short = copying()[0]._replace(max_steps=1)
    seen = jax.jit(lambda key: imitation.demonstrations(key, short, 4))(jax.random.key(0))
    assert seen.truncated.shape == (1, 4) and seen.truncated.all() and not seen.terminated.any() and seen.mask.all()


def test_demonstrations_are_of_the_prompts_that_the_parameters_allow():
    env, _ = copying()
    found = jax.jit(lambda key, params: imitation.demonstrations(key, env, 64, params))
    train, kept = (
        set(map(tuple, np.asarray(found(jax.random.key(0), params).obs[0]).tolist()))
        for params in (env.params, env.held_out(env.params))
    )
    assert len(train) == 5 and len(kept) == 1 and not train & kept


def test_fit_goes_to_the_optimum_of_a_quadratic():
    """The least squares of four rows, in closed form."""
    x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]], np.float32)
    y = np.array([1.0, -2.0, -0.5, 3.5], np.float32)
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    loss = lambda w, rows: jnp.mean((rows[0] @ w - rows[1]) ** 2)  # noqa: E731

    @jax.jit
    def run(key):
        return imitation.fit(
            key, jnp.zeros(2), loss, (jnp.asarray(x), jnp.asarray(y)), 400, batch_size=256, learning_rate=0.05
        )

    w, losses = run(jax.random.key(0))
    assert losses.shape == (400,)
    np.testing.assert_allclose(w, best, atol=0.05)
    np.testing.assert_allclose(losses[0], np.mean(y**2), rtol=0.2)
    assert losses[-1] < 0.1 * losses[0]


def test_imitation_lowers_the_cross_entropy():
    _, policy = copying()
    params, episodes = policy.init(jax.random.key(1)), shown()

    @jax.jit
    def run(key):
        taught = imitation.imitate(key, policy, params, episodes, 150, batch_size=16, learning_rate=1e-2)
        return [-jnp.mean(policy.evaluate(p, episodes).log_prob) for p in (params, taught)]

    before, after = run(jax.random.key(2))
    assert before > 0.8 and after < 0.3


def test_imitation_of_steps_behind_an_end_does_not_count():
    """One step of plain numbers: the gradient of a masked step would move the parameters."""
    _, policy = copying()
    params = policy.init(jax.random.key(1))
    episodes = shown()._replace(mask=jnp.ones((2, 16)).at[1].set(0.0))
    garbled = episodes._replace(action=episodes.action.at[1].set((episodes.action[1] + 1) % 3))
    run = jax.jit(lambda rows: imitation.imitate(jax.random.key(2), policy, params, rows, 3, batch_size=8))
    jax.tree.map(np.testing.assert_array_equal, run(episodes), run(garbled))


@functools.cache
def taught():
    """A learner of rloo with pretrain, its first state, and that after two updates."""
    env, policy = copying()
    row = algorithms.entry("rloo")
    config = {k: v for k, v in TAUGHT.items() if k != "samples"}
    config = dataclasses.replace(row.config, **config | {"num_envs": 32})
    algorithm = row.algorithm._replace(advantage=bind(row.algorithm.advantage, samples=4, reference_penalty=0.1))
    built = row.learner(env, policy, algorithm, config)
    hypers = hyperparameters.default_hypers(algorithm)

    @jax.jit
    def run(key):
        first = built.init(key, hypers)
        second, _ = built.step(jax.random.key(1), first, hypers)
        third, metrics = built.step(jax.random.key(2), second, hypers)
        return first, third, metrics

    return built, hypers, run(jax.random.key(0))


@pytest.mark.slow
def test_the_reference_is_what_the_learner_began_with_whatever_it_learned_since():
    _, _, (first, last, metrics) = taught()
    for state in (first, last):
        jax.tree.map(np.testing.assert_array_equal, state.reference, first.params)
    assert not np.array_equal(first.params["embedding"], last.params["embedding"])
    assert np.isfinite(metrics["kl_to_reference"]) and metrics["kl_to_reference"] != 0


def test_pretrain_begins_with_a_policy_that_was_taught():
    """Its value, of which no expert speaks, is as it was."""
    env, policy = copying()
    _, _, (first, _, _) = taught()
    key_params, _ = jax.random.split(jax.random.key(0))
    untaught = policy.init(jax.random.split(key_params, 3)[0])
    loss = lambda params: -float(jnp.mean(policy.evaluate(params, shown()).log_prob))  # noqa: E731
    assert loss(first.params) < loss(untaught)
    jax.tree.map(np.testing.assert_array_equal, first.params["value_head"], untaught["value_head"])


@pytest.mark.parametrize(
    ("world", "options", "message"),
    [
        ("CartPole-v1", {"pretrain": 5}, "pretrain needs an expert, and the environment has none; use pretrain=0"),
        (
            "copying",
            {"pretrain": -2, "examples": 7},
            "pretrain must be -1 or more and examples 1 or more, got -2 and 7",
        ),
        ("copying", {"pretrain": 1, "examples": 0}, "pretrain must be -1 or more and examples 1 or more, got 1 and 0"),
    ],
)
def test_mistakes_are_one_line(world, options, message):
    settings = {"hidden": (8,), "num_envs": 8, "num_minibatches": 1, **options}
    with pytest.raises(ValueError, match=message):
        pgjax.run("rloo", world, updates=1, settings=settings, progress=False)


def test_final_returns_are_of_what_was_kept_from_training():
    base = envs.make("PolicyProbe-pgjax", max_steps_in_episode=1)

    def step(key, params, state, action):
        state, seen = base.step(key, base.params, state, action)
        return state, seen._replace(reward=jnp.asarray(params["reward"], jnp.float32))

    reset = lambda key, params: base.reset(key, base.params)  # noqa: E731
    env = base._replace(params={"reward": 1.0}, reset=reset, step=step, held_out=lambda params: {"reward": 7.0})
    row, config = algorithms.entry("a2c"), Config(num_envs=2, num_steps=4, hidden=(4,))
    built = row.learner(env, policies.make(env, config), row.algorithm, config)
    keys, hypers = vectorised.lanes([hyperparameters.default_hypers(row.algorithm)], [0])

    @jax.jit
    def run(keys, hypers):
        states, metrics = vectorised.segment(keys, built, vectorised.init(keys, built, hypers), hypers, 2)
        return metrics, vectorised.evaluate(keys, env, built, states, hypers, 3)

    metrics, finals = run(keys, hypers)
    np.testing.assert_array_equal(metrics["episode_return"], 1.0)
    for found in finals.values():
        np.testing.assert_array_equal(found.episode_return, np.full((1, 3), 7.0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Two seeds of rloo on copying, taught before; the programs are compiled once for all tests here."""
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("cache")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    out = tmp_path_factory.mktemp("whole") / "run"
    yield pgjax.run("rloo", "copying", settings=TAUGHT, out=out, **OPTIONS)
    jax.config.update("jax_compilation_cache_dir", before[0])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


def state(run):
    return run.archive.load(0, checkpoints.kept_shapes(run.plan.groups[0], run.schedule.widths[0])).state


@pytest.mark.slow
def test_a_run_that_was_taught_resumes_bit_for_bit(whole, tmp_path, monkeypatch):
    update = progress.Progress.update
    with monkeypatch.context() as patched:
        stop = lambda *a: (update(*a), signal.raise_signal(signal.SIGINT))[0]  # noqa: E731
        patched.setattr(progress.Progress, "update", stop)
        options = {**OPTIONS, "settings": TAUGHT, "checkpoint": 0.0}
        assert pgjax.run("rloo", "copying", out=tmp_path / "run", **options).interrupted
    again = pgjax.resume(tmp_path / "run", progress=False)
    xarray.testing.assert_identical(again.metrics, whole.metrics)
    jax.tree.map(np.testing.assert_array_equal, state(again), state(whole))
    assert jax.tree.leaves(state(whole).learner.reference)


@pytest.mark.slow
def test_one_lane_of_it_alone_has_the_same_curve(whole, tmp_path):
    alone = pgjax.replay(whole.path, seed=1, out=tmp_path / "lane", progress=False)
    for name, curve in whole.metrics.sel(seed=[1]).data_vars.items():
        np.testing.assert_array_equal(alone.metrics[name], curve, err_msg=name)
    params = load.load(tmp_path / "lane").lane(seed=1)[2]
    jax.tree.map(np.testing.assert_array_equal, params, whole.lane(seed=1)[2])


@pytest.mark.slow
def test_it_trains_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["train", "rloo", "copying", "--seeds", "2", "--updates", "3", "--out", "here"]
    settings = ["pretrain=20", "reference_penalty=0.,.1", "hidden=8", "heads=2", "num_envs=16", "num_minibatches=2"]
    assert main.main([*words, "--set", *settings]) == 0
    assert "final return" in capsys.readouterr().out
    summary = json.loads((tmp_path / "here" / "summary.json").read_text())
    assert len(summary["settings"]) == 2
    metrics = load.load(tmp_path / "here").metrics
    assert np.isfinite(metrics.kl_to_reference).all() and set(np.unique(metrics.final_return_greedy)) <= {0.0, 1.0}
