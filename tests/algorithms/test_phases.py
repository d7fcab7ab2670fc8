"""Auxiliary phases: when they are, on what, and that lanes pay for those alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

import pgjax
from pgjax import Algorithm, Config, advantages, algorithms, estimators, losses, optimizers, policies
from pgjax.algorithms import on_policy, phases, updates
from pgjax.algorithms.roster import Entry
from pgjax.declarations import in_order
from pgjax.hyperparameters import bind, default_hypers, hyperparameters
from pgjax.types import Batch, Running, Trajectory

CONFIG = Config(num_envs=4, num_steps=4, num_epochs=2, num_minibatches=2, hidden=(8,), eval_episodes=2)


def joint(now, batch, *, clone: float = 1.0):
    """PPG's: the critic's error, and how far the policy went since the phase began."""
    return 0.5 * (now.value - batch.target) ** 2 + clone * batch.then.dist.kl(now.dist), {}


def algorithm(every=2, phase_epochs=3, auxiliary=None):
    return Algorithm(
        advantages.gae,
        estimators.surrogate(losses.actor_critic(losses.ppo_clip)),
        optimizers.adam,
        bind(algorithms.auxiliary(auxiliary or estimators.surrogate(joint)), every=every, phase_epochs=phase_epochs),
    )


def test_a_phase_comes_after_every_so_many_updates_and_its_hyperparameters_are_swept():
    run = pgjax.run(
        Entry(algorithm(), dataclasses.replace(CONFIG, shared=True)),  # the critic moves the policy
        "CartPole-v1",
        seeds=2,
        updates=5,
        settings={"clone": [0.0, 50.0], "learning_rate": 0.05},
        progress=False,
    )
    loss = run.metrics["phase_loss"].transpose("clone", "seed", ...).values
    assert np.all((loss != 0) == np.array([False, True, False, True, False]))
    assert np.all(loss[0] != loss[1], axis=0)[[1, 3]].all()


def test_a_phase_is_descent_on_the_joined_batches_by_an_optimiser_of_its_own():
    """By hand: two updates of the inner updater, then `descent` on [T, 2 B] with `then` of the phase's beginning."""
    env, plugs = worlds.maze(), algorithm()
    policy = policies.make(env, CONFIG)
    learner, hypers = on_policy.make_learner(env, policy, plugs, CONFIG), default_hypers(plugs)
    state = learner.init(jax.random.key(0), hypers)
    seen = []

    def watched(algorithm, config, by_column, **options):
        inner = plugs.updater(algorithm, config, by_column, **options)

        def apply(key, policy, params, state, batch, hypers):
            seen.append((key, params, state, batch))
            return inner.apply(key, policy, params, state, batch, hypers)

        return inner._replace(apply=apply)

    slow = on_policy.make_learner(env, policy, plugs._replace(updater=watched), CONFIG)
    with jax.disable_jit(False):
        for u in range(2):
            state, _ = slow.step(jax.random.key(u), state, hypers._replace(updater=hypers.updater))
    plain = updates.descent(plugs, CONFIG, False)
    (_, _, before, first), (key, params, middle, second) = seen
    key_main, key_phase = jax.random.split(key)
    params, _, _ = plain.apply(key_main, policy, params, middle.main, second, hypers)
    joined = jax.tree.map(lambda x, y: jnp.concatenate([x, y], axis=1), first, second)
    joined = joined._replace(then=policy.evaluate(params, joined.trajectory))
    longer = dataclasses.replace(CONFIG, num_epochs=3, num_minibatches=4)
    phase = updates.descent(plugs._replace(estimator=estimators.surrogate(joint)), longer, False)
    own = hypers._replace(estimator={"normalize_advantage": 0.0, "clone": hypers.updater["clone"]})
    own = own._replace(estimator={"clone": hypers.updater["clone"]})
    begun = phase.init(key_phase, policy, params, joined, own)
    jax.tree.map(np.testing.assert_array_equal, begun.optimizer, before.phase.optimizer)
    wanted, _, _ = phase.apply(key_phase, policy, params, begun, joined, own)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), state.params, wanted)


def test_joined_batches_keep_each_memory_beside_its_own_column():
    """Column k B + b is the b-th of batch k, the memory that it began with included."""
    every, t, b = 3, 4, 2
    which = np.arange(every * b, dtype=np.float32).reshape(every, b)
    steps = which[:, None] + 100 * np.arange(t, dtype=np.float32)[:, None]
    rows = Trajectory(*[jnp.asarray(steps)] * (len(Trajectory._fields)))._replace(
        memory=jnp.asarray(which[..., None] * np.ones(5, np.float32)), state=(), reference=()
    )
    batch = phases.joined(Batch(rows, *[jnp.asarray(steps)] * 3))
    wanted = np.arange(every * b) + 100 * np.arange(t)[:, None]
    np.testing.assert_array_equal(batch.trajectory.obs, wanted)
    np.testing.assert_array_equal(batch.advantage, wanted)
    np.testing.assert_array_equal(batch.trajectory.memory, np.arange(every * b)[:, None] * np.ones(5))


def test_lanes_compute_a_phase_only_where_there_is_one():
    """A `cond` over lanes would compute it in every update: the calls of three lanes in four updates are counted."""
    calls, env = [], worlds.maze()

    def told(key, policy, params, batch):
        jax.debug.callback(lambda _: calls.append(1), batch.advantage[0])
        return jax.tree.map(jnp.zeros_like, params), {}

    plugs = algorithm(every=4, auxiliary=told)
    learner, hypers = on_policy.make_learner(env, policies.make(env, CONFIG), plugs, CONFIG), default_hypers(plugs)
    keys = jax.random.split(jax.random.key(0), 3)
    states = jax.vmap(lambda k: learner.init(k, hypers))(keys)
    step = jax.jit(jax.vmap(lambda k, s: learner.step(k, s, hypers)[0]))
    for _ in range(4):
        states = step(keys, states)
    jax.block_until_ready(states)
    jax.effects_barrier()
    assert len(calls) == 3 * (3 * 8)  # lanes, and gradient steps of the one phase


def test_it_remembers_and_gives_the_hyperparameters_of_both():
    counting = Running(
        lambda *_: jnp.zeros(()),
        lambda n, key, policy, params, batch: (n + 1, (jax.tree.map(jnp.zeros_like, params), {"asked": n})),
    )
    plugs = algorithm(auxiliary=counting)
    assert set(hyperparameters(plugs.updater)) == {"every", "phase_epochs"}
    run = pgjax.run(Entry(plugs, CONFIG), worlds.maze(), updates=4, progress=False)
    # Twelve gradient steps in each phase: three epochs of two minibatches for each of two batches.
    np.testing.assert_allclose(run.metrics["phase_asked"].values.reshape(-1), [0, 5.5, 0, 17.5])


def test_what_is_no_whole_number_of_updates_is_refused():
    with pytest.raises(ValueError, match="updater.every must be 1 or more"):
        pgjax.run(Entry(algorithm(), CONFIG), worlds.maze(), updates=1, settings={"every": 0}, progress=False)


def test_a_phase_may_ask_how_far_the_policy_went_from_its_first_parameters():
    far = estimators.surrogate(losses.actor_critic(losses.anchored(losses.ppo_clip)))
    run = pgjax.run(
        Entry(algorithm(every=2, auxiliary=bind(far, reference_coef=0.1)), CONFIG),
        "CartPole-v1",
        updates=2,
        progress=False,
    )
    assert "kl_to_reference" in run.metrics and run.metrics["phase_loss"].values.reshape(-1)[1] != 0


def test_single_steps_are_refused_to_a_phase_that_needs_their_order():
    plugs = algorithm(auxiliary=in_order(lambda *arguments: None))
    config = dataclasses.replace(CONFIG, update="step", num_epochs=1, num_minibatches=1)
    with pytest.raises(ValueError, match="update='step' gives auxiliary_.* one step at once; use update='batch'"):
        on_policy.make_learner(worlds.maze(), policies.make(worlds.maze(), config), plugs, config)
