"""The horizon experiment at its smoke size; its optima against brute force, its variances against the laboratory."""

import itertools
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, oracle, policies, variance

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "horizon.py"


@pytest.fixture(scope="module")
def horizon():
    return runpy.run_path(str(PATH))


@pytest.mark.slow
def test_the_experiment(horizon, tmp_path):
    found = horizon["main"](["--smoke", "--out", str(tmp_path)])
    assert (tmp_path / "horizon.png").stat().st_size > 10_000
    best, start = found["best"]["random MDP"], found["objective"][0]
    top = max(best["deterministic"], best["climbed"])
    assert best["clock"] > top
    np.testing.assert_allclose(best["climbed"], best["deterministic"], rtol=1e-3)  # here the best is deterministic
    for name, one in found["found"].items():
        assert one["J"].max() < top + 1e-3, name
        np.testing.assert_allclose(one["J"][0], start, rtol=1e-5)
        for value, se in one["end"]:
            assert value - start > 10 * se, name
    # Less variance, and at the larger rate less is missing in the end, and the goal is reached sooner.
    full, to_go, value = (found["found"][name] for name in horizon["CASES"])
    traces = found["traces"]
    assert np.all(traces["full"] > traces["to_go"]) and np.all(traces["to_go"] > traces["value"])
    ends = [one["end"][-1] for one in (full, to_go, value)]
    for (worse, a), (better, b) in itertools.pairwise(ends):
        assert better - worse > 2 * np.hypot(a, b)
    assert value["episodes"][-1][0] < 0.6 * full["episodes"][-1][0]
    assert value["J"][-1].mean() > 0.9 * top


def test_the_optima_are_those_of_brute_force(horizon):
    """Every policy that looks at the clock, and every one that doesn't, of 2 states and 2 actions for 3 steps."""
    g = np.random.default_rng(2)
    mdp = oracle.MDP(
        g.dirichlet(np.ones(2), size=(2, 2)), g.normal(size=(2, 2)), np.array([0.3, 0.7]), np.zeros(2, bool), 3, 1.0
    )

    def worth(plan):
        """plan[t][s]: the action; forwards in time, where dynamic programming goes backwards."""
        here, earned = mdp.start, 0.0
        for actions in plan:
            earned += sum(here[s] * mdp.reward[s, actions[s]] for s in range(2))
            here = sum(here[s] * mdp.transition[s, actions[s]] for s in range(2))
        return earned

    rows = list(itertools.product(range(2), repeat=2))
    found = horizon["optima"](mdp, starts=8, steps=1000)
    best = max(worth(plan) for plan in itertools.product(rows, repeat=3))
    np.testing.assert_allclose(found["clock"], best, rtol=1e-9)
    np.testing.assert_allclose(found["deterministic"], max(worth([row] * 3) for row in rows), rtol=1e-9)
    assert found["deterministic"] - 1e-3 < found["climbed"] < found["clock"]


def test_the_best_stationary_policy_of_a_limited_time_may_be_stochastic(horizon):
    """J(p) = 1.2 + .2 p - .4 p^2 where the choice comes twice: 1.225 at p = .25; with a clock 1.6."""
    found = horizon["optima"](oracle.from_env(horizon["cash"](), 1.0), starts=8, steps=1000)
    np.testing.assert_allclose([found[k] for k in ("clock", "deterministic", "climbed")], [1.6, 1.2, 1.225], rtol=1e-5)


def test_total_is_the_oracles_objective(horizon):
    mdp = oracle.from_env(envs.make("TabularMDP-pgjax"), 1.0)
    pi = np.random.default_rng(3).dirichlet(np.ones(3), size=5)
    objective = jax.jit(lambda pi: horizon["total"](mdp, pi))(jnp.asarray(pi, jnp.float32))
    np.testing.assert_allclose(objective, oracle.values(mdp, pi).objective, rtol=1e-5)


@pytest.mark.slow
def test_its_exact_variances_are_the_laboratorys(horizon):
    env = envs.make("TabularMDP-pgjax")
    _, traces = horizon["variances"](env, oracle.from_env(env, 1.0), (0.0,))
    policy = policies.make(env)
    params = policy.init(jax.random.key(0))
    report = variance.compare(["full", "to_go"], env, policy, params, discount=1.0, episodes=2048, batch=(1, 16))
    for name in ("full", "to_go"):
        row = report.summary["estimators"][name]
        np.testing.assert_allclose(traces[name], row["exact_trace"]["value"], rtol=1e-6)
        assert abs(row["trace"]["value"] - traces[name][0]) < 5 * row["trace"]["se"]
