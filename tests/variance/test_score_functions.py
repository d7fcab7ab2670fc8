"""Every row of the grid against full enumeration: its weights, what it states of its bias, its exact variance."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from worlds import EXTRA, FITTED, GAMMA, HORIZON, ROWS, STATES, Now, World, correct

from pgjax import oracle
from pgjax.advantages import monte_carlo
from pgjax.advantages.baselines import BASELINES, Fitted
from pgjax.hyperparameters import bind
from pgjax.variance.estimators.score_functions import ESTIMATORS, ScoreFunction, contradiction, named, product
from pgjax.variance.estimators.weights import weights
from pgjax.variance.measurement import exact


@pytest.fixture(scope="module", params=[False, True], ids=["on policy", "off policy"])
def world(request):
    return World(request.param)


@pytest.mark.parametrize("name", ROWS)
def test_the_row_is_what_it_states(name, world, request):
    row = ROWS[name]
    off_policy = not np.array_equal(world.pi, world.behaviour)
    mean, _ = world.moments(row)
    distance = np.linalg.norm(mean - world.gradient) / np.linalg.norm(world.gradient)
    if correct(row, off_policy):
        assert distance < 1e-12
    else:
        assert distance > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_the_recursion_has_the_enumerated_moments(name, world):
    row = ROWS[name]
    fitted = Fitted(**{k: np.asarray(v) for k, v in FITTED.items()})
    found = exact.moments(row, exact.World(world.mdp, world.pi, world.behaviour, world.value, world.scores), fitted)
    off_policy = not np.array_equal(world.pi, world.behaviour)
    impossible = row.depends_on_batch or name == "all_action" or (name == "ppo_clip" and off_policy)
    assert (found is None) == impossible
    if found is not None:
        mean, variance = world.moments(row)
        np.testing.assert_allclose(found.mean, mean, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(found.variance, variance, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(found.trace, variance.sum(), rtol=1e-11)


class TestKnownBias:
    """What a biased row's expectation is, in closed form."""

    def test_without_gamma_t_each_time_counts_in_full(self):
        world = World(False)
        update = np.einsum("ts,sa,tsa,sap->p", world.exact.occupancy, world.pi, world.exact.advantage, world.scores)
        for row in (ScoreFunction(gamma_t=False), EXTRA["no_gamma_t_exact"]):
            np.testing.assert_allclose(world.moments(row)[0], update, rtol=1e-11, atol=1e-13)

    def test_a_learned_critic_is_off_by_what_it_bootstraps(self):
        """One step: the sum over t and (s, a) of gamma^t (r + gamma V(s')) scores, with the wrong V."""
        world = World(False)
        ahead = world.mdp.reward + GAMMA * world.mdp.transition @ np.where(world.mdp.terminal, 0, world.value)
        decay = GAMMA ** np.arange(HORIZON)
        update = np.einsum("t,ts,sa,sa,sap->p", decay, world.exact.occupancy, world.pi, ahead, world.scores)
        for row in (ScoreFunction(returns="n_step", n=1), ScoreFunction(returns="all_action")):
            np.testing.assert_allclose(world.moments(row)[0], update, rtol=1e-11, atol=1e-13)

    def test_the_own_return_in_the_mean_shortens_the_gradient(self):
        """Where every episode has 3 steps, the batch mean of G_0 takes 1 / B of the gradient away."""
        world = World(False)
        world.mdp = world.mdp._replace(terminal=np.zeros(STATES, bool))
        world.trajectory, world.probability = oracle.trajectories(world.mdp, world.pi)
        truth = world.moments(ScoreFunction(returns="full"))[0]
        mean = world.moments(ScoreFunction(returns="full", normalize="mean", batch=2))[0]
        np.testing.assert_allclose(mean, truth / 2, rtol=1e-10)
        # With the pilot's 7 steps beside the batch's 6, the own 3 count for 3 / 13.
        running = world.moments(ScoreFunction(returns="full", baseline="running_mean", batch=2))[0]
        np.testing.assert_allclose(running, truth * (1 - 3 / 13), rtol=1e-10)

    def test_behind_the_clip_no_step_counts(self):
        world = World(True)
        loose = dataclasses.replace(ESTIMATORS["ppo_clip"], clip_eps=1e9)
        np.testing.assert_allclose(world.moments(loose)[0], world.moments(ESTIMATORS["ratio"])[0], rtol=1e-12)
        assert np.abs(world.moments(ESTIMATORS["ppo_clip"])[0] - world.moments(loose)[0]).max() > 1e-3


@pytest.mark.parametrize("baseline", [name for name, row in BASELINES.items() if row.trains and not row.pilot])
@pytest.mark.parametrize("options", [dict(returns="full"), dict(), dict(gamma_t=False)])
def test_the_weights_are_those_that_train(baseline, options):
    """The laboratory measures what `monte_carlo` gives the learners."""
    world = World(False)
    few = jax.tree.map(lambda x: jnp.asarray(x)[:, 5:11], world.trajectory)
    value = jnp.asarray(world.value, jnp.float32)
    now = Now(few.log_prob, value[few.obs], value[few.next_obs])
    plug = bind(
        monte_carlo,
        discount=GAMMA,
        baseline=baseline,
        reward_to_go=options.get("returns") != "full",
        gamma_t=options.get("gamma_t", True) and "returns" not in options,
    )
    _, (trained, _) = plug.apply(plug.init(), few, now)
    row = ScoreFunction(baseline=baseline, batch=6, **options)
    measured = weights(row, few, now, Fitted.none(), GAMMA)
    np.testing.assert_allclose(measured, trained * few.mask, rtol=1e-5, atol=1e-6)


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(returns="fulll"), "returns has no choice 'fulll'; did you mean 'full'?"),
            (dict(baseline="valu"), "did you mean 'value'"),
            (dict(returns="gae", baseline="value"), "takes no baseline"),
            (dict(returns="full", gamma_t=False), "discounted from the start already"),
            (dict(returns="all_action", surrogate="ratio"), "takes surrogate='score'"),
            (dict(returns="all_action", normalize="std"), "no advantages to normalise"),
            (dict(baseline="optimal", normalize="std"), "least variance only with"),
            (dict(surrogate="is_decision", returns="gae"), "needs returns='to_go'"),
            (dict(critic="exact"), "changes nothing"),
            (dict(n=0), "n must be 1 or more, got 0"),
            (dict(lambda_=1.5), r"lambda_ must lie in \[0, 1\], got 1.5"),
            (dict(batch=-1), "got -1"),
            (dict(baseline="leave_one_out", batch=1), "batch must be 2 or more"),
        ],
    )
    def test_a_row_that_means_nothing(self, options, message):
        with pytest.raises(ValueError, match=message):
            ScoreFunction(**options)

    def test_names(self):
        assert named("gae") == ESTIMATORS["gae"]
        with pytest.raises(ValueError, match="no estimator 'gea'; did you mean 'gae'?"):
            named("gea")

    def test_the_product_leaves_out_what_means_nothing(self):
        rows, left_out = product(returns=["full", "to_go"], gamma_t=[True, False])
        assert list(rows) == ["full gamma_t=True", "to_go gamma_t=True", "to_go gamma_t=False"]
        assert left_out == ["full gamma_t=False"]
        assert not any(contradiction(row) for row in rows.values())
        with pytest.raises(ValueError, match="the grid has no axis 'baselines'; did you mean 'baseline'"):
            product(baselines=["none"])
        with pytest.raises(ValueError, match="grid axis baseline has no choice 'nil'"):
            product(baseline=["nil"])
        with pytest.raises(ValueError, match="none of 1 combinations means anything"):
            product(returns=["gae"], baseline=["value"])
