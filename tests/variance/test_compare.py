"""The laboratory against exact moments: every row within 5 standard errors, and planted biases found."""

import io
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import worlds
from worlds import FITTED, GAMMA, ROWS, World, correct

from pgjax import envs, losses, policies, rollout, variance
from pgjax.advantages import gae, monte_carlo
from pgjax.config import Config
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.testing import check_unbiased
from pgjax.testing.unbiased import small_world
from pgjax.types import Running
from pgjax.variance.estimators import custom
from pgjax.variance.findings import table
from pgjax.variance.measurement import streaming_moments

# Where a table gives nothing to bootstrap from, or the world can't say what a pilot would.
EPISODES = 8192


class Measured:
    """The rows of the grid in the small world of `worlds`, measured and enumerated."""

    def __init__(self, off_policy):
        self.world = world = World(off_policy)
        env, policy, params = _enumerated(world)
        behaviour = {**params, "preference": jnp.asarray(np.log(world.behaviour), jnp.float32)}
        self.report = variance.compare(
            {name: row for name, row in ROWS.items() if row.precondition == "none"},
            env,
            policy,
            params,
            behaviour=behaviour if off_policy else None,
            discount=GAMMA,
            episodes=EPISODES,
            batch=(1, 4, 16),
            pilot=256,
        )
        self.off_policy = off_policy


@pytest.fixture(
    scope="module", params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["on policy", "off policy"]
)
def measured(request):
    return Measured(request.param)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.precondition == "none"])
class TestEveryRow:
    def test_mean_and_variance_are_the_enumerated_ones(self, name, measured):
        row, found = ROWS[name], measured.report.summary["estimators"][name]
        fitted = {k: np.asarray(v, float) for k, v in measured.report.fitted[name]._asdict().items()}
        numbers = {k: np.broadcast_to(fitted[k], np.shape(v)) for k, v in FITTED.items()}
        mean, spread = measured.world.moments(row, numbers)
        trace = spread.sum() * row.batch
        if name == "all_action":
            # Its Q is one draw of the next state; what is enumerated is the mean over them.
            spread = measured.report.data["variance"].sel(estimator=name).values
            assert found["trace"]["value"] > trace
        else:
            assert abs(found["trace"]["value"] - trace) < 5 * found["trace"]["se"]
        # Products of importance ratios have long tails.
        assert found["trace"]["se"] < (0.5 if row.surrogate.startswith("is_") else 0.15) * trace
        if "exact_trace" in found:
            np.testing.assert_allclose(found["exact_trace"]["value"], trace, rtol=1e-4)
        measured_mean = measured.report.data["mean"].sel(estimator=name).values
        count = measured.report.summary["episodes"] / row.batch
        seen = spread > 1e-12
        z = (measured_mean - mean)[seen] / np.sqrt(spread[seen] / count)
        assert np.abs(z).max() < 5
        np.testing.assert_allclose(measured_mean[~seen], mean[~seen], atol=1e-5)

    def test_the_test_of_bias_finds_what_there_is(self, name, measured):
        row, found = ROWS[name], measured.report.summary["estimators"][name]
        if correct(row, measured.off_policy):
            assert found["bias_z"] < 5
            assert found["bias"]["value"] < 5 * found["bias"]["se"]
        else:
            fitted = {k: np.asarray(v, float) for k, v in measured.report.fitted[name]._asdict().items()}
            numbers = {k: np.broadcast_to(fitted[k], np.shape(v)) for k, v in FITTED.items()}
            bias = np.linalg.norm(measured.world.moments(row, numbers)[0] - measured.world.gradient)
            assert abs(found["bias"]["value"] - bias) < 5 * found["bias"]["se"]

    def test_the_error_falls_as_bias_and_variance_say(self, name, measured):
        found = measured.report.summary["estimators"][name]
        bias2 = found["bias"]["value"] ** 2
        for size, point in zip(measured.report.summary["batch"], found["mse"], strict=True):
            if size < found["batch"]:
                assert np.isnan(point["value"])
                continue
            expected = bias2 + found["trace"]["value"] / size
            se = np.hypot(found["trace"]["se"] / size, 2 * found["bias"]["value"] * found["bias"]["se"])
            assert abs(point["value"] - expected) < 5 * np.hypot(se, point["se"])


class TestReport:
    def test_what_is_off_policy_is_said(self, measured):
        summary = measured.report.summary
        assert ("effective_sample_share" in summary) == measured.off_policy
        if measured.off_policy:
            world = measured.world
            ratio = np.prod(
                np.where(
                    world.trajectory.mask > 0,
                    (world.pi / world.behaviour)[world.trajectory.obs, world.trajectory.action],
                    1,
                ),
                axis=0,
            )
            share = 1 / (world.probability @ ratio**2)
            found = summary["effective_sample_share"]
            assert abs(found["value"] - share) < 5 * found["se"]
            assert 0 < summary["estimators"]["ppo_clip"]["clip_fraction"]["value"] < 1
        else:
            assert summary["estimators"]["ppo_clip"]["clip_fraction"]["value"] == 0

    def test_layers_and_parameters_add_up_to_the_trace(self, measured):
        data = measured.report.data
        for found in (data["variance"].sum("parameter"), data["layer_variance"].sum("layer")):
            np.testing.assert_allclose(found, data["trace"], rtol=1e-6)

    def test_cosines_are_cosines(self, measured):
        data = measured.report.data
        pairwise = data["pairwise_cosine"].sel(batch=16).values
        np.testing.assert_allclose(np.diagonal(pairwise), 1, atol=1e-5)
        np.testing.assert_allclose(pairwise, pairwise.T, atol=1e-6)
        assert (np.abs(pairwise) < 1 + 1e-5).all()
        same = data["pairwise_cosine"].sel(estimator="exact_value", other="exact_v_trace", batch=1)
        assert measured.off_policy or same > 0.99999

    def test_the_table_shows_every_estimator(self, measured):
        from rich.console import Console

        shown = io.StringIO()
        Console(width=300, file=shown).print(table.table(measured.report.summary))
        text = shown.getvalue()
        assert all(name in text for name in measured.report.summary["estimators"])
        json.dumps(measured.report.summary)


@pytest.fixture(scope="module")
def random_world():
    """The MDP and the policy parameters of the known figures."""
    g = np.random.default_rng(0)
    g.dirichlet(np.ones(5), size=(5, 3)), g.normal(size=(5, 3)), g.dirichlet(np.ones(5))
    env = envs.make("TabularMDP-pgjax")
    params = {"preference": jnp.asarray(g.normal(size=(5, 3)), jnp.float32), "value": jnp.zeros(5)}
    return env, policies.make(env), params


@pytest.mark.slow
def test_the_known_figures_by_sampling(random_world):
    """Full return, reward-to-go, reward-to-go minus exact V: traces, and the norm of the gradient."""
    rows = ["full", "to_go", "exact_value", "no_gamma_t"]
    summary = variance.compare(rows, *random_world, discount=0.9, episodes=8192, batch=(1, 64)).summary
    np.testing.assert_allclose(summary["gradient_norm"]["value"], 1.098609058672, rtol=1e-6)
    assert summary["gradient_norm"]["exact"]
    found = summary["estimators"]
    for name, trace in (("full", 27.6115314628), ("to_go", 9.5191950272), ("exact_value", 9.2637979665)):
        np.testing.assert_allclose(found[name]["exact_trace"]["value"], trace, rtol=1e-6)
        assert abs(found[name]["trace"]["value"] - trace) < 5 * found[name]["trace"]["se"] < 0.2 * trace
        assert found[name]["bias_z"] < 5
    assert found["no_gamma_t"]["bias_z"] > 5
    np.testing.assert_allclose(found["no_gamma_t"]["exact_bias"]["value"], 0.5398770296, rtol=1e-6)


@pytest.mark.slow
def test_samples_for_a_cosine_are_where_the_curve_crosses(random_world):
    env, policy, params = random_world
    first = variance.compare(["to_go"], env, policy, params, discount=GAMMA, episodes=8192, batch=(1,))
    n = round(first.summary["estimators"]["to_go"]["samples_90"]["value"])
    report = variance.compare(["to_go"], env, policy, params, discount=GAMMA, episodes=512 * n, batch=(1, n))
    found = report.summary["estimators"]["to_go"]
    assert abs(found["cosine"][-1]["value"] - 0.9) < 0.03  # the curve between its points is a law of large batches
    # From 1 / cosine^2 - 1 falling as 1 / n: (1 / .81 - 1) / (1 / .9801 - 1) times as many.
    ratio = found["samples_99"]["value"] / found["samples_90"]["value"]
    assert 0.7 < ratio / 11.55 < 1.4


@pytest.mark.slow
def test_a_reference_stands_in_for_the_exact_gradient(random_world):
    """Hide the tables: bias, error and cosine agree with those against the exact gradient."""
    env, policy, params = random_world
    hidden = env._replace(
        params=(),
        reset=lambda key, _: env.reset(key, env.params),
        step=lambda k, _, s, a: env.step(k, env.params, s, a),
    )
    rows = ["to_go", "gae", "no_gamma_t"]
    options = dict(discount=GAMMA, episodes=8192, batch=(1, 16, 64))
    exact = variance.compare(rows, env, policy, params, **options).summary
    found = variance.compare(rows, hidden, policy, params, **options).summary
    assert exact["reference_episodes"] == "exact" and found["reference_episodes"] == 4 * 8192
    norm = found["gradient_norm"]
    assert abs(norm["value"] - exact["gradient_norm"]["value"]) < 5 * norm["se"]
    for name in rows:
        a, b = exact["estimators"][name], found["estimators"][name]
        assert abs(a["bias"]["value"] - b["bias"]["value"]) < 5 * np.hypot(a["bias"]["se"], b["bias"]["se"])
        for curve in ("mse", "cosine"):
            for p, q in zip(a[curve], b[curve], strict=True):
                assert abs(p["value"] - q["value"]) < 5 * np.hypot(p["se"], q["se"])
    assert found["estimators"]["to_go"]["bias_z"] < 5
    assert found["estimators"]["no_gamma_t"]["bias_z"] > 5


def test_an_estimator_that_remembers_is_measured_in_its_first_state():
    env = envs.make("TabularMDP-pgjax")
    policy = policies.make(env)
    params = policy.init(jax.random.key(0))
    rows, _ = rollout.episodes(jax.random.key(1), env, policy, params, 4, 8)

    def twice(state, key, policy, params, batch):
        gradient, metrics = REINFORCE.estimator(key, policy, params, batch)
        return state + 1, (jax.tree.map(lambda x: (2 + state) * x, gradient), metrics)

    remembering = REINFORCE._replace(estimator=Running(lambda *_: jnp.zeros(()), twice))
    found, plain = (
        custom.estimates(jax.random.key(2), "mine", one, policy, params, rows) for one in (remembering, REINFORCE)
    )
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, 2 * y, rtol=1e-5), found, plain)


REINFORCE = variance.Plugs(bind(monte_carlo, discount=0.9, gamma_t=True), surrogate(losses.policy_gradient, "episode"))


def _of_the_action(trajectory, now, *, discount: float = 0.9):
    """A baseline that knows the action that was taken: no baseline at all."""
    _, (advantage, target) = REINFORCE.advantage.apply(REINFORCE.advantage.init(), trajectory, now)
    return advantage - 0.3 * trajectory.action, target


class TestConformance:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        "estimator",
        [
            "value",
            REINFORCE,
            variance.Plugs(bind(REINFORCE.advantage, baseline="leave_one_out"), REINFORCE.estimator, batch=4),
            variance.Sampler(lambda key, params: _reinforce(key, params)),
            REINFORCE._replace(advantage=bind(monte_carlo, gamma_t=True)),
        ],
        ids=["grid", "plugs", "leave one out", "gradient", "its own discount"],
    )
    def test_the_unbiased_pass(self, estimator):
        check_unbiased(estimator)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("estimator", "least"),
        [
            (REINFORCE._replace(estimator=surrogate(losses.policy_gradient, "step"), batch=4), 5),
            (REINFORCE._replace(advantage=_of_the_action), 5),
            (REINFORCE._replace(advantage=bind(REINFORCE.advantage, gamma_t=False)), 5),
            (REINFORCE._replace(advantage=bind(gae, discount=0.9)), 5),
            (variance.Sampler(lambda key, params: jax.tree.map(lambda x: 1.1 * x, _reinforce(key, params))), 5),
        ],
        ids=["mean over steps", "baseline of the action", "no gamma^t", "learned critic", "a factor"],
    )
    def test_a_planted_bias_is_found(self, estimator, least):
        with pytest.raises(AssertionError, match="biased: its mean is .* away from the exact gradient") as caught:
            check_unbiased(estimator)
        assert float(str(caught.value).split(", ")[1].split(" ")[0]) > least


def _reinforce(key, params):
    """The gradient of one episode, written out."""
    from pgjax import rollout

    env, policy, _ = small_world()
    trajectory, _ = rollout.episodes(key, env, policy, params, 1)
    reward, decay = trajectory.reward[:, 0], 0.9 ** jnp.arange(len(trajectory.reward))
    weight = jnp.cumsum((reward * decay)[::-1])[::-1]
    return jax.grad(lambda p: jnp.sum(weight * trajectory.mask[:, 0] * policy.evaluate(p, trajectory).log_prob[:, 0]))(
        params
    )


@pytest.fixture(scope="module")
def world():
    return World(False)


@pytest.fixture(scope="module")
def report(world):
    rows = ["to_go", "optimal", "optimal_time", "optimal_state", "natural", "no_gamma_t", "time", "running_mean"]
    options = dict(discount=GAMMA, episodes=16_384, batch=(1, 8, 512), pilot=8192)
    return variance.compare(rows, *_enumerated(world), **options)


class TestFigures:
    """What follows from the exact moments, in the small world of `worlds`."""

    def test_ratios(self, world, report):
        trace = world.moments(ROWS["to_go"])[1].sum()
        square = world.gradient @ world.gradient
        length = world.probability @ world.trajectory.mask.sum(axis=0)
        found = report.summary["estimators"]["to_go"]
        wanted = {
            "trace": trace,
            "snr": square / trace,
            "noise_scale": trace / square,
            "variance_per_step": trace * length,
            "mean_cosine": 1.0,
        }
        for name, value in wanted.items():
            assert abs(found[name]["value"] - value) < 5 * found[name]["se"] + 1e-3 * value, name
        discounted = report.summary["discounted_return"]
        assert abs(discounted["value"] - float(world.j)) < 5 * discounted["se"]

    def test_the_chance_to_ascend(self, world, report):
        estimates, probability = world.estimates(ROWS["to_go"])
        chance = probability @ (estimates @ world.gradient > 1e-9)
        first, *_, last = report.summary["estimators"]["to_go"]["ascends"]
        assert abs(first["value"] - chance) < 5 * first["se"] + 1e-3
        assert last["value"] == 1

    def test_a_bias_bends_the_mean(self, world, report):
        mean = world.moments(ROWS["no_gamma_t"])[0]
        cosine = mean @ world.gradient / np.linalg.norm(mean) / np.linalg.norm(world.gradient)
        found = report.summary["estimators"]["no_gamma_t"]["mean_cosine"]
        assert abs(found["value"] - cosine) < 5 * found["se"]

    def test_parameters_have_their_variance_and_its_error(self, world, report):
        spread = world.moments(ROWS["to_go"])[1]
        found, error = (report.data[name].sel(estimator="to_go").values for name in ("variance", "variance_se"))
        seen = spread > 1e-9
        z = (found[seen] - spread[seen]) / error[seen]
        assert np.abs(z).max() < 5 and (error[seen] < 0.05 * spread[seen]).all()

    @pytest.mark.parametrize("name", ["optimal", "optimal_time", "optimal_state"])
    def test_optimal_baselines_have_least_variance(self, name, world, report):
        """No other baseline of the kind does better: the enumerated variance is a parabola around it."""
        fitted = report.fitted[name]
        numbers = {k: np.broadcast_to(np.asarray(getattr(fitted, k), float), np.shape(v)) for k, v in FITTED.items()}
        least = world.moments(ROWS[name], numbers)[1].sum()
        assert least < world.moments(ROWS["to_go"])[1].sum()
        for index in np.ndindex(np.shape(numbers[name])):
            if name == "optimal_state" and world.mdp.terminal[index]:
                continue
            for step in (-0.2, 0.2):
                moved = np.array(numbers[name], float)
                moved[index] += step
                assert world.moments(ROWS[name], {**numbers, name: moved})[1].sum() > least

    def test_means_of_the_pilot(self, world, report):
        """The mean return of a step, at each t and over all, and how many steps it was taken over."""
        mask, decay = world.trajectory.mask, GAMMA ** np.arange(3)
        reward = world.trajectory.reward * decay[:, None]
        to_go = np.cumsum(reward[::-1], axis=0)[::-1] / decay[:, None]
        alive = mask @ world.probability
        by_time = (mask * to_go) @ world.probability / alive
        for name in ("time", "running_mean"):
            fitted = report.fitted[name]
            np.testing.assert_allclose(fitted.by_time, by_time, atol=0.05)
            np.testing.assert_allclose(fitted.mean, by_time @ alive / alive.sum(), atol=0.03)
            np.testing.assert_allclose(fitted.steps, 8192 * alive.sum(), rtol=0.03)
        assert np.ptp(by_time) > 0.2

    def test_the_natural_gradient_is_that_of_the_fisher_matrix(self, world, report):
        visits = world.exact.occupancy.sum(axis=0)[:, None] * world.pi
        fisher = np.einsum("sa,sap,saq->pq", visits, world.scores, world.scores) / visits.sum()
        ridge = 1e-3 * np.trace(fisher) / len(fisher)
        wanted = np.linalg.solve(fisher + ridge * np.eye(len(fisher)), world.gradient)
        found = report.data["target"].sel(estimator="natural").values
        assert np.linalg.norm(found - wanted) < 0.1 * np.linalg.norm(wanted)
        row = report.summary["estimators"]["natural"]
        assert row["bias_z"] < 5
        assert abs(row["trace"]["value"] - row["exact_trace"]["value"]) < 5 * row["trace"]["se"]

    @pytest.mark.slow
    def test_batches_larger_than_a_chunk(self, world, monkeypatch):
        """The mean of several chunks: the squared error is still the variance over the size."""
        from pgjax.variance import checks

        monkeypatch.setattr(checks, "chunk", lambda *_: 8)
        report = variance.compare(["to_go"], *_enumerated(world), discount=GAMMA, episodes=8192, batch=(1, 8, 64))
        trace = world.moments(ROWS["to_go"])[1].sum()
        for size, point in zip((1, 8, 64), report.summary["estimators"]["to_go"]["mse"], strict=True):
            assert abs(point["value"] - trace / size) < 5 * point["se"] < trace / size

    def test_the_test_of_bias_is_calibrated(self):
        """Folds without bias: a z beyond 3 is as rare as it should be, with few parameters and with many."""
        from pgjax.variance.findings.jackknife_folds import surprise

        g = np.random.default_rng(0)
        for parameters, folds in ((1, 16), (10, 32), (300, 32)):
            z = np.array([surprise(g.normal(size=(folds, parameters)), None) for _ in range(4000)])
            assert 0.8 < z.std() < 1.2 and abs(z.mean()) < 0.1
            assert (z > 3).mean() < 0.005
        z = []
        for _ in range(2000):
            reference = g.normal(size=(32, 50))
            mean = reference.mean(axis=0)
            z.append(surprise(g.normal(size=(32, 50)) - mean, reference - mean))
        assert 0.8 < np.std(z) < 1.2 and np.mean(np.array(z) > 3) < 0.005


def _enumerated(world):
    """The world as an environment, its policy and parameters."""
    names = ("transition", "reward", "start", "terminal", "horizon")
    env = envs.make("TabularMDP-pgjax", **{name: getattr(world.mdp, name) for name in names})
    params = {"preference": np.log(world.pi), "value": world.value}
    return env, policies.make(env), jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)


class TestSums:
    def test_merging_is_sound_far_from_zero(self):
        """Deviations of 1 around a million: squares would lose all of float32."""
        g = np.random.default_rng(0)
        values = (1e6 + g.normal(size=(64, 50, 3))).astype(np.float32)
        total = None
        for chunk in values:
            one = jax.tree.map(np.asarray, streaming_moments.moments({"x": jnp.asarray(chunk)}))
            total = one if total is None else streaming_moments.merge(total, one)
        flat = values.reshape(-1, 3).astype(np.float64)
        np.testing.assert_allclose(total["x"]["mean"], flat.mean(0), rtol=1e-7)
        np.testing.assert_allclose(total["x"]["m2"] / len(flat), flat.var(0), rtol=2e-2)
        assert total["x"]["count"] == len(flat)
        expected = flat.std(0, ddof=1) / np.sqrt(len(flat))
        np.testing.assert_allclose(streaming_moments.standard_error(total["x"]), expected, rtol=2e-2)

    def test_the_same_seed_gives_the_same_numbers(self):
        run = variance.prepare(["to_go"], *small_world(), discount=GAMMA, episodes=512, batch=(1, 4))
        params = small_world()[2]
        first, again, other = run(params), run(params), run(params, seed=1)
        np.testing.assert_array_equal(first.data["mean"], again.data["mean"])
        assert (first.data["mean"] != other.data["mean"]).any()


SHARDED = """
import sys, numpy as np, jax
from pgjax import variance
from pgjax.testing.unbiased import small_world
found = [
    variance.compare(["to_go", "gae", "leave_one_out"], *small_world(), discount=.9, episodes=2048, batch=(1, 16, 64),
                     devices=jax.devices()[:n]).data for n in (1, 8)
]
assert len(jax.devices()) == 8
for name in ("mean", "variance", "mse", "cosine", "pairwise_cosine"):
    np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5, atol=1e-6)
print("equal")
"""


@pytest.mark.slow
def test_a_linear_change_of_the_units_of_actions_changes_no_number():
    names = ("to_go", "gae", "natural")

    def measured(middle, half):
        env = worlds.stretched(middle, half)
        policy = policies.make(env, Config(hidden=(4,)))
        options = {"episodes": 256, "batch": (1, 4), "pilot": 64, "reference_episodes": 256}
        return variance.compare(names, env, policy, policy.init(jax.random.key(0)), **options).summary["estimators"]

    here, there = measured((0, 0), (1, 1)), measured((500, -0.3), (500, 0.01))
    for name in names:
        # An action of the second kind has 5 digits of its range.
        np.testing.assert_allclose(there[name]["bias_z"], here[name]["bias_z"], atol=0.02)
        for number in ("trace", "noise_scale", "mean_cosine"):
            np.testing.assert_allclose(there[name][number]["value"], here[name][number]["value"], rtol=0.01)


@pytest.mark.slow
def test_eight_devices_measure_what_one_does(tmp_path):
    import os

    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env={**os.environ, "XLA_FLAGS": flags}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


class TestMistakes:
    @pytest.mark.parametrize(
        ("estimators", "options", "message"),
        [
            (["to_goo"], {}, "no estimator 'to_goo'; did you mean 'to_go'"),
            ([], {}, "estimators: none was given"),
            (["to_go", "to_go"], {}, "'to_go' was given twice"),
            ({"mine": 3}, {}, "estimator 'mine' must be a name, a ScoreFunction"),
            ("to_go", {}, "estimators must be a list of names or a dict, got 'to_go'"),
            (["to_go"], dict(batch=(1, 4, 6)), "each size must divide the next, got 1, 4, 6"),
            (["to_go"], dict(batch=(0,)), "batch must be a tuple of whole numbers of 1 or more"),
            (["to_go"], dict(episodes=100), "episodes=100 makes fewer than 8 batches of 256; take 2048"),
            (["to_go"], dict(discount=1.5), r"discount must lie in \[0, 1\], got 1.5"),
            (["to_go"], dict(pilot=0), "pilot must be 1 or more, got 0"),
            (["to_go"], dict(states=-1), "states must be 0 or more, got -1"),
            (["to_go"], dict(batch=4), "batch must be a tuple of whole numbers of 1 or more, got 4"),
            (["to_go"], dict(reference_episodes=0), "reference_episodes must be 256 or more, got 0"),
            ({"mine": lambda key: 3}, {}, "positional argument"),
        ],
    )
    def test_one_clear_line(self, estimators, options, message):
        with pytest.raises((ValueError, TypeError), match=message):
            variance.prepare(estimators, *small_world(), **options)

    @pytest.mark.parametrize(
        ("env", "config", "name", "message"),
        [
            ("Pendulum-v1", Config(), "all_action", "'all_action' sums over actions, and the action space is"),
            ("CartPole-v1", Config(), "exact_value", "'exact_value' needs exact values, and the environment is no"),
            ("CartPole-v1", Config(), "optimal_state", "has a baseline per state, and states are"),
            ("CartPole-v1", Config(network="gru"), "optimal", "looks at single steps, and the policy has a memory"),
            ("CartPole-v1", Config(hidden=(128, 128)), "natural", "8192 parameters are the limit"),
        ],
    )
    def test_what_cannot_be_is_refused(self, env, config, name, message):
        env = envs.make(env)
        policy = policies.make(env, config)
        params = policy.init(jax.random.key(0))
        with pytest.raises(ValueError, match=message):
            variance.prepare([name], env, policy, params)

    def test_a_gradient_of_another_shape(self):
        env, policy, params = small_world()
        for wrong in (lambda key, params: params["preference"], lambda key, params: jax.tree.map(jnp.ravel, params)):
            with pytest.raises(ValueError, match="estimator 'mine' must return a tree like params"):
                variance.compare({"mine": wrong}, env, policy, params, episodes=64, batch=(1, 4))
