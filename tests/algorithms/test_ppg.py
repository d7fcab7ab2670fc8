"""PPG: the loss of its phases in float64, its network, and that a phase moves the actor's torso but not its policy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds

from pgjax import Config, algorithms, envs, testing
from pgjax.algorithms import ppg
from pgjax.hyperparameters import bind, default_hypers

CONFIG = Config(num_envs=4, num_steps=8, hidden=(6,))
KEY = jax.random.key(0)


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True)


def test_the_phases_teach_two_values_and_hold_the_policy():
    """L_joint and L_value (Cobbe et al. 2021), on tables, step by step."""
    env = worlds.maze()
    policy = ppg.make_policy(env, CONFIG)
    _, params, batch = testing.worlds.example(policy, env)
    g = np.random.default_rng(1)
    params = {name: jnp.float32(g.normal(size=x.shape)) for name, x in params.items()}

    def objective(params):
        loss = ppg.joint(policy.evaluate(params, batch.trajectory), batch, clone_coef=0.7)[0]
        return jnp.sum(jnp.where(batch.trajectory.mask > 0, loss, 0.0))

    found = jax.jit(jax.grad(objective))(params)
    expected = {name: np.zeros(x.shape) for name, x in params.items()}
    assert set(expected) == {"preference", "value", "second"}
    for t, b in zip(*np.nonzero(batch.trajectory.mask), strict=True):
        s, old = int(batch.trajectory.obs[t, b]), softmax(np.float64(batch.then.dist.logits[t, b]))
        expected["preference"][s] += 0.7 * (softmax(np.float64(params["preference"][s])) - old)
        for name in ("value", "second"):
            expected[name][s] += float(params[name][s]) - float(batch.target[t, b])
    for name, x in expected.items():
        np.testing.assert_allclose(found[name], x, rtol=1e-4, atol=1e-5)


def test_the_second_value_is_read_off_the_actors_torso():
    env = envs.make("CartPole-v1")
    policy = ppg.make_policy(env, CONFIG)
    _, params, batch = testing.worlds.example(policy, env)
    layer, head = params["actor_torso"]["layers"][0], params["second_head"]
    hidden = np.tanh(np.float64(batch.trajectory.obs) @ np.float64(layer["kernel"]) + np.float64(layer["bias"]))
    expected = (hidden @ np.float64(head["kernel"]) + np.float64(head["bias"]))[..., 0]
    np.testing.assert_allclose(jax.jit(policy.evaluate)(params, batch.trajectory).extra, expected, rtol=1e-4, atol=1e-5)


def test_images_have_it_too_and_other_networks_are_refused():
    shapes = jax.eval_shape(ppg.make_policy(envs.make("Breakout-MinAtar"), CONFIG).init, KEY)
    assert {"eye", "actor_torso", "second_head"} <= set(shapes) and "convolutions" in shapes["eye"]
    env = envs.make("CartPole-v1")
    with pytest.raises(ValueError, match="network must be one of auto, mlp, cnn, table with ppg; got 'gru'"):
        ppg.make_policy(env, dataclasses.replace(CONFIG, network="gru"))
    for name, value in (("shared", True), ("critic", "action_value"), ("kernel", "fused")):
        with pytest.raises(ValueError, match=f"{name}={value!r} has no meaning with ppg; "):
            ppg.make_policy(env, dataclasses.replace(CONFIG, **{name: value}))


@pytest.mark.slow
def test_a_phase_comes_after_every_so_many_updates_and_its_learner_conforms():
    row, env = algorithms.entry("ppg"), envs.make("CartPole-v1")
    algorithm = row.algorithm._replace(updater=bind(row.algorithm.updater, every=2, phase_epochs=2))
    config = dataclasses.replace(row.config, num_envs=4, num_steps=8, hidden=(6,), num_minibatches=2)
    made, hypers = row.learner(env, row.policy(env, config), algorithm, config), default_hypers(algorithm)
    testing.check_learner(made, hypers)
    testing.check_policy(row.policy(env, config), env, num_steps=6)
    state, step, seen = jax.jit(made.init)(KEY, hypers), jax.jit(made.step), []
    for u in range(4):
        state, metrics = step(jax.random.key(u), state, hypers)
        seen.append((float(metrics["phase_loss"]), float(metrics["phase_kl"])))
    assert [loss != 0 for loss, _ in seen] == [False, True, False, True]
    assert all(kl < 0.05 for _, kl in seen)
