"""Plugs that remember, and what is put around them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import Algorithm, Config, advantages, estimators, losses, optimizers
from pgjax.algorithms.roster import Entry
from pgjax.hyperparameters import hyperparameters, name_of
from pgjax.losses.contract import is_by_step
from pgjax.plugs import check_plug
from pgjax.running import around, running
from pgjax.testing import worlds
from pgjax.types import Running

SMALL = Config(num_envs=4, num_steps=8, num_epochs=2, num_minibatches=2, hidden=(8,), eval_episodes=2)


def counted(scale_of):
    """A critic's loss whose weight follows from how often it was asked, `scale_of(count)`."""

    def apply(count, now, batch, *, growth: float = 1.0):
        weight = scale_of(count * growth)
        return count + 1, (0.5 * weight * (now.value - batch.target) ** 2, {"weight": weight, "asked": count})

    return Running(lambda key, policy, params, batch: jnp.zeros(()), apply)


class TestAround:
    def test_what_is_around_plain_plugs_is_plain(self):
        loss = losses.actor_critic(losses.ppo_clip)
        assert not isinstance(loss, Running) and is_by_step(loss) and name_of(loss) == "ppo_clip"
        assert list(hyperparameters(loss)) == [
            "value_coef",
            "entropy_coef",
            "clip_eps",
            "clip_high",
            "kl_coef",
            "value_clip",
        ]
        lifted = estimators.early_stopping(estimators.surrogate(loss))
        assert not isinstance(lifted, Running) and "stop_kl" in hyperparameters(lifted)

    @pytest.mark.parametrize("wrap", [losses.actor_critic, losses.anchored])
    def test_what_is_around_one_that_remembers_remembers(self, wrap):
        loss = wrap(counted(lambda n: 1.0))
        assert isinstance(loss, Running) and "growth" in hyperparameters(loss)
        assert name_of(loss) == "counted"
        watched = losses.actor_critic(losses.ppo_clip, counted(lambda n: 1.0))
        lifted = estimators.adaptive_kl(estimators.surrogate(watched))
        assert isinstance(lifted, Running) and {"growth", "target_kl"} <= set(hyperparameters(lifted))

    def test_the_gradient_is_that_of_the_plain_loss_at_the_states_weight(self):
        policy, params, batch = worlds.example()
        key, lifted = jax.random.key(0), estimators.surrogate(losses.actor_critic(losses.ppo_clip, counted(jnp.exp)))
        state = lifted.init(key, policy, params, batch)
        for n in range(3):
            state, (found, metrics) = jax.jit(lambda s: lifted.apply(s, key, policy, params, batch, growth=0.5))(state)
            plain = estimators.surrogate(losses.actor_critic(losses.ppo_clip))
            wanted, _ = plain(key, policy, params, batch, value_coef=0.5 * np.exp(0.5 * n))
            jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), found, wanted)
            assert metrics["asked"] == n

    @pytest.mark.parametrize("lift", [estimators.natural, estimators.trust_region_step])
    def test_a_natural_gradient_takes_no_loss_that_remembers(self, lift):
        with pytest.raises(
            ValueError, match="takes no plug that remembers, and counted does; use estimators.surrogate"
        ):
            lift(counted(jnp.exp))

    def test_after_is_asked_of_every_plug_inside_with_its_own_hyperparameters(self):
        seen = []

        def kept(name, *after_names):
            def apply(state, x, **hypers):
                return state, x

            apply.__signature__ = signature(name)
            return Running(lambda *_: jnp.zeros(()), apply, lambda state, metrics, **h: (seen.append(h), state + 1)[1])

        def signature(name):
            import inspect

            kinds = inspect.Parameter
            own = kinds(name, kinds.KEYWORD_ONLY, default=1.0)
            return inspect.Signature([kinds(x, kinds.POSITIONAL_ONLY) for x in ("state", "x")] + [own])

        both = around(lambda states, x, **hypers: (states, x), kept("alpha"), kept("beta"), lambda x: x)
        state = both.init(jax.random.key(0), None, {}, None)
        after = both.after(state, {}, alpha=2.0, beta=3.0)
        assert seen == [{"alpha": 2.0}, {"beta": 3.0}] and after == (1, 1, ())

    def test_a_plain_plug_remembers_nothing(self):
        plug = running(advantages.gae)
        assert plug.init(None, None, None, None) == () and running(plug) is plug


class TestInARun:
    """A loss with a state through the whole pipeline: swept, cut into segments, resumed, shown."""

    ROW = Entry(
        Algorithm(
            advantages.gae,
            estimators.surrogate(losses.actor_critic(losses.ppo_clip, counted(lambda n: 1 / (1 + n)))),
            optimizers.adam,
        ),
        SMALL,
    )

    def test_its_state_is_a_lanes_own_and_its_hyperparameters_are_swept(self, tmp_path):
        run = pgjax.run(
            self.ROW,
            "CartPole-v1",
            seeds=2,
            updates=3,
            settings={"growth": [0.0, 1.0]},
            progress=False,
            out=tmp_path / "r",
        )
        # Four gradient steps in each update; the metric is their mean.
        asked = run.metrics["asked"].transpose("growth", "seed", ...).values
        np.testing.assert_array_equal(asked, np.broadcast_to([1.5, 5.5, 9.5], asked.shape))
        weight = run.metrics["weight"].sel(growth=1.0, seed=0).values
        np.testing.assert_allclose(
            weight, [np.mean(1 / (1.0 + np.arange(4 * u, 4 * u + 4))) for u in range(3)], rtol=1e-6
        )
        longer = pgjax.extend(tmp_path / "r", updates=5, algorithm=self.ROW, progress=False)
        assert longer.metrics["asked"].values.reshape(-1, 5)[0].tolist() == [1.5, 5.5, 9.5, 13.5, 17.5]
        again = pgjax.run(self.ROW, "CartPole-v1", seeds=2, updates=5, settings={"growth": [0.0, 1.0]}, progress=False)
        for name in ("loss", "weight"):
            np.testing.assert_array_equal(longer.metrics[name].values, again.metrics[name].values)

    @pytest.mark.parametrize("place", ["estimator", "advantage"])
    def test_a_state_that_changes_its_shape_is_named(self, place):
        def grow(state, now, batch):
            return jnp.zeros(3), (now.value - batch.target, {})

        def grow_advantage(state, trajectory, now):
            return {"x": jnp.zeros(3)}, (now.value, now.value)

        plugs = Algorithm(advantages.gae, estimators.surrogate(losses.ppo_clip), optimizers.adam)
        if place == "estimator":
            plugs = plugs._replace(estimator=estimators.surrogate(Running(lambda *_: jnp.zeros(2), grow)))
            line = r"grow: its state at '0' was float32\[2\] and is float32\[3\] after `apply`; return one like"
        else:
            plugs = plugs._replace(advantage=Running(lambda *_: {"x": jnp.zeros(2)}, grow_advantage))
            line = r"grow_advantage: its state at 'x' was float32\[2\] and is float32\[3\] after"
        with pytest.raises(ValueError, match=line):
            pgjax.run(Entry(plugs, Config(num_envs=2, num_steps=4)), "CartPole-v1", updates=1, progress=False)


def _apply(state, now, batch, *, rate: float = 0.1):
    return state, (rate * now.value, {})


@pytest.mark.parametrize(
    ("plug", "line"),
    [
        (Running(lambda: 0, _apply), "its init can't be called: too many .*; write it as def init.key, policy, params"),
        (Running(lambda policy, key, *_: 0, _apply), "its init can't be called: the order of .policy, key, _.; write"),
        (Running(lambda *_: 0, _apply, lambda state, metrics: 0), "its after can't be called: .* 'rate'; write it as"),
        (Running(lambda *_: 0, _apply, lambda metrics, x, **_: 0), "its after can't be called: the order of .metrics,"),
        (Running(_apply, lambda key, policy, params, batch: 0), "takes .key, policy.* a Running is .init, apply, aft"),
        (Running(lambda *_: 0, lambda now, batch, x: 0), "takes .now, batch, x., its place gives .state, now, batch.;"),
    ],
)
def test_what_a_running_is_made_of_wrongly_is_one_line(plug, line):
    with pytest.raises(TypeError, match=f"^loss '.*' ?.*{line}") as caught:
        check_plug("loss", plug)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("after", [lambda *_, **__: 0, lambda state, metrics, *, rate: 0, None])
def test_what_a_running_is_made_of_rightly_is_taken(after):
    check_plug("loss", Running(lambda key, policy, params, batch: 0, _apply, after))


def test_a_state_that_changes_its_type_after_the_update_is_named():
    def count(state, now, batch):
        return state, (now.value - batch.target, {})

    plug = Running(lambda *_: jnp.zeros((), int), count, lambda state, metrics: state + metrics["loss"])
    plugs = Algorithm(advantages.gae, estimators.surrogate(plug), optimizers.adam)
    with pytest.raises(ValueError, match=r"^count: its state was int32\[\] and is float32\[\] after `after`; return"):
        pgjax.run(Entry(plugs, Config(num_envs=2, num_steps=4)), "CartPole-v1", updates=1, progress=False)


def test_a_state_is_shown_among_the_metrics_whatever_is_around_it():
    """An advantage's, through `shaped`, and a loss's."""
    counts = Running(lambda *_: jnp.zeros(()), lambda n, trajectory, now: (n + 1, trajectory.reward))
    bonus = counts._replace(metrics=lambda n: {"rewarded": n})
    loss = counted(lambda n: 1.0)._replace(metrics=lambda n: {"half": n / 2})
    lifted = estimators.early_stopping(estimators.surrogate(losses.actor_critic(losses.ppo_clip, loss)))
    row = Entry(Algorithm(advantages.shaped(advantages.gae, bonus), lifted, optimizers.adam), SMALL)
    run = pgjax.run(row, "CartPole-v1", updates=3, progress=False)
    assert run.metrics["rewarded"].values.reshape(-1).tolist() == [1, 2, 3]
    assert run.metrics["half"].values.reshape(-1).tolist() == [2, 4, 6]


@pytest.mark.parametrize(
    ("metrics", "line"),
    [
        (lambda n: {"loss": n}, "counted: metric 'loss' is a name of the pipeline's own; rename it"),
        (lambda n: {"n": jnp.zeros(2)}, "counted: its metrics must be a dict of scalars by name, got a dict"),
        (lambda n: n, r"counted: its metrics must be a dict of scalars by name, got an array \[\]"),
    ],
)
def test_metrics_of_a_state_are_scalars_with_names_of_their_own(metrics, line):
    loss = counted(lambda n: 1.0)._replace(metrics=metrics)
    plugs = Algorithm(advantages.gae, estimators.surrogate(loss), optimizers.adam)
    with pytest.raises((TypeError, ValueError), match=f"^{line}"):
        pgjax.run(Entry(plugs, SMALL), "CartPole-v1", updates=1, progress=False)


def test_init_sees_the_shapes_of_the_batches_to_come():
    seen = []

    def init(key, policy, params, batch):
        seen.append(jax.tree.map(jnp.shape, batch))
        return batch.advantage

    def apply(state, trajectory, now):
        return now.value, (now.value, now.value, {"bonus": now.value})

    row = Entry(
        Algorithm(Running(init, apply), estimators.surrogate(losses.actor_critic(losses.ppo_clip)), optimizers.adam),
        SMALL,
    )
    pgjax.run(row, "CartPole-v1", updates=1, progress=False)
    assert seen[-1].advantage == (8, 4) and seen[-1].trajectory.obs == (8, 4, 4)
