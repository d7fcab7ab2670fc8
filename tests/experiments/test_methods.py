"""The gallery of methods: its table, the training of each, gradients of its losses and of its algorithms of groups."""

import ast
import itertools
import shlex
import statistics

import jax
import numpy as np
import papers
import pytest
from experience import LENGTHS, B, T, episodes, experience, returns, same, softmax, spread
from gallery import ROOT, page, table
from gymnax.environments import spaces

from pgjax.algorithms.replacement import with_plugs
from pgjax.algorithms.roster import ROSTER
from pgjax.cli import main
from pgjax.config import Config
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.policies import make as make_policy
from pgjax.running import running
from pgjax.runs import start
from pgjax.sweeps import plan
from pgjax.testing import check_loss

SAMPLES = 4
KEY = jax.random.key(0)
LOSSES = [name for name, method in table.METHODS.items() if method.plug == "loss"]


def test_the_page_is_that_of_the_readme():
    assert page.page() in (table.HERE / "README.md").read_text()
    files = {path.stem for path in table.HERE.glob("*.py")} - {"rows", "table", "__main__"}
    assert files == set(table.METHODS)


@pytest.mark.parametrize("name", table.METHODS)
def test_the_file_shows_its_command_and_has_one_public_name(name):
    source = (table.HERE / f"{name}.py").read_text()
    assert table.command(name) in source.replace(" \\\\\n       ", "")
    defined = set()
    for node in ast.parse(source).body:
        defined |= {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else set()
        defined |= {target.id for target in node.targets} if isinstance(node, ast.Assign) else set()
    assert {x for x in defined if not x.startswith("_")} == {name}


@pytest.mark.slow
@pytest.mark.parametrize("name", table.METHODS)
def test_its_command_is_one_program_of_both_values(name, monkeypatch):
    planned = []

    def plan_only(*arguments, **options):
        planned.append(plan.plan(*arguments, **options))
        raise ValueError("planned")

    monkeypatch.setattr(start, "plan", plan_only)
    monkeypatch.chdir(ROOT)
    assert main.main(shlex.split(table.command(name))[1:]) == 2
    assert [len(one.groups) for one in planned] == [1] and list(planned[0].axes) == list(table.METHODS[name].sweep)


def test_lines_are_those_of_code():
    source = '"""Doc."""\n\nimport a\nfrom b import (\n    c,\n)\n\n\n@c\ndef f(\n    x,  # x\n):\n    """Doc."""\n'
    source += "    # no\n    return [\n        x\n    ]\n"
    assert page.lines(source) == 4  # def f(, x, return [ and x
    assert statistics.median(map(page.count, table.METHODS)) <= 8


@pytest.mark.slow
@pytest.mark.parametrize("name", table.METHODS)
def test_it_trains_and_what_it_sweeps_is_one_program(name):
    run = table.train(name)
    assert len(run.plan.groups) == 1
    assert {key: list(map(float, values)) for key, values in run.axes.items()} == table.METHODS[name].sweep
    for metric in ("grad_norm", "final_return_stochastic"):
        assert np.isfinite(run.metrics[metric]).all()
    assert (run.metrics.grad_norm > 0).all()


@pytest.fixture(scope="module")
def policy():
    return make_policy(make("TabularMDP-pgjax"))


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_of_a_loss_is_that_of_its_paper(name, policy):
    oracle, hypers, branches = papers.ORACLES[name]
    method, loss = table.METHODS[name], table.load(name)
    assert set(hypers) == set(hyperparameters(loss))
    params, batch = experience(policy, alike=method.of_groups)
    estimator = with_plugs(ROSTER[method.base], loss=loss).algorithm.estimator
    off = {"value_coef": 0.0, "entropy_coef": 0.0, "normalize_advantage": False}
    estimator = bind(estimator, **hypers, **{k: v for k, v in off.items() if k in hyperparameters(estimator)})
    plug = running(estimator)
    state = plug.init(KEY, policy, params, batch)
    found, _ = jax.jit(lambda params: plug.apply(state, KEY, policy, params, batch)[1])(params)
    steps, states, actions = episodes(params, batch)
    pushes = oracle(steps, **hypers)
    assert {push.branch for episode in pushes for push in episode} == branches
    same(found, pushes, states, actions, params, {"grpo": "episode_mean", "rloo": "episode"}.get(method.base, "step"))


@pytest.mark.parametrize("name", [x for x in LOSSES if x not in ("pmpo", "v_mpo")])  # of a whole batch
def test_a_loss_keeps_the_rules_of_losses(name):
    check_loss(table.load(name))


def test_pmpos_two_means_are_over_the_steps_of_the_whole_batch():
    with pytest.raises(AssertionError, match="pmpo: a step's loss depends on another step's .*mask, batch.advantage: "):
        check_loss(table.load("pmpo"))


def test_the_mean_of_the_sampled_mdpo_over_the_old_policys_actions_is_mdpo():
    g = np.random.default_rng(0)
    pi, old = softmax(g.normal(size=(2, 4)))
    step = papers.Step(1.0, 0.0, pi, old, 0.0, 0.0)
    ((exact,),) = papers.mdpo([[step]], step_size=0.7)
    pushes = [papers.mdpo_sampled([[step._replace(ratio=pi[a] / old[a])]], step_size=0.7)[0][0] for a in range(4)]
    mean = sum(old[a] * push.score * (np.eye(4)[a] - pi) for a, push in enumerate(pushes))
    np.testing.assert_allclose(mean, exact.logits, rtol=1e-10)


def test_gspo_with_equal_bounds_is_the_shipped_sequence_clip(policy):
    from pgjax.losses import sequence_clip

    params, batch = experience(policy, alike=True)
    now = policy.evaluate(params, batch.trajectory)
    found = table.load("gspo")(now, batch, eps_low=0.1, eps_high=0.1)[0]
    np.testing.assert_allclose(found, sequence_clip(now, batch, clip_eps=0.1)[0], rtol=1e-6)


def algorithm(name, policy, params, batch, **hypers):
    """(advantage, gradient) of a whole algorithm's plugs, groups of SAMPLES."""
    plugs, now = table.load(name).algorithm, policy.evaluate(params, batch.trajectory)
    known = hyperparameters(plugs.advantage)
    plug = bind(plugs.advantage, **{k: v for k, v in ({"samples": SAMPLES} | hypers).items() if k in known})
    output = (
        plug.apply(plug.init(), batch.trajectory, now)[1] if hasattr(plug, "apply") else plug(batch.trajectory, now)
    )
    batch = batch._replace(advantage=output[0], target=output[1], extra=output[2] if len(output) == 3 else ())
    estimator = bind(plugs.estimator, **{k: v for k, v in hypers.items() if k in hyperparameters(plugs.estimator)})
    return np.asarray(output[0]), jax.jit(estimator, static_argnums=1)(KEY, policy, params, batch)[0]


def test_opo_weighs_its_baseline_by_length(policy):
    params, batch = experience(policy)
    batch = batch._replace(trajectory=batch.trajectory._replace(reward=batch.trajectory.reward + 0.3 * batch.target))
    found, _ = table.load("opo")(batch.trajectory, policy.evaluate(params, batch.trajectory), samples=SAMPLES)
    total, expected = returns(batch), np.zeros(B)
    for b in range(B):
        group = range(b - b % SAMPLES, b - b % SAMPLES + SAMPLES)
        expected[b] = total[b] - sum(LENGTHS[i] * total[i] for i in group) / sum(LENGTHS[i] for i in group)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_pass_at_k_is_the_mean_over_all_groups_of_k_answers(policy, k):
    params, batch = experience(policy)
    found, _ = table.load("pass_at_k")(batch.trajectory, policy.evaluate(params, batch.trajectory), samples=6, k=k)
    right, expected = returns(batch) > 0.5, np.zeros(B)
    assert 0 < right[:6].sum() < 6
    for first in range(0, B, 6):
        groups = [group for group in itertools.combinations(range(first, first + 6), k)]
        passed = np.array([any(right[i] for i in group) for group in groups], float)
        for i in range(first, first + 6):
            mine = [x for x, group in zip(passed, groups, strict=True) if i in group]
            if passed.std() > 0:
                expected[i] = (np.mean(mine) - passed.mean()) / passed.std()
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=f"pass_at_k: k must be below samples={k}, got {k}"):
        table.load("pass_at_k")(batch.trajectory, batch.then, samples=k, k=k)
    alike = batch.trajectory._replace(reward=0 * batch.trajectory.reward)
    assert (table.load("pass_at_k")(alike, policy.evaluate(params, alike), samples=6, k=k)[0] == 0).all()


def test_dr_grpo_divides_by_no_spread_and_no_length(policy):
    params, batch = experience(policy)
    batch = batch._replace(trajectory=batch.trajectory._replace(reward=batch.trajectory.reward + 0.3 * batch.target))
    total = returns(batch)
    expected = total - np.repeat(total.reshape(-1, SAMPLES).mean(axis=1), SAMPLES)
    found, gradient = algorithm("dr_grpo", policy, params, batch, clip_eps=0.3)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)
    steps, states, actions = episodes(params, batch, spread(expected))
    pushes = papers.clip_higher(steps, eps_low=0.3, eps_high=0.3)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(gradient, pushes, states, actions, params, "episode")


def test_reinforce_pp_penalises_each_token_and_normalises_over_the_batch(policy):
    params, batch = experience(policy)
    tr, beta = batch.trajectory, 0.2
    expected, counted = np.zeros((T, B)), []
    for b, n in enumerate(LENGTHS):
        for t in range(n):
            kl = np.float64(tr.log_prob[t:n, b]) - np.float64(tr.reference[t:n, b])
            expected[t, b] = np.float64(tr.reward[:n, b]).sum() - beta * kl.sum()
            counted.append(expected[t, b])
    expected = (expected - np.mean(counted)) / np.std(counted)
    found, gradient = algorithm("reinforce_pp", policy, params, batch, reference_penalty=beta, clip_eps=0.3)
    counts = np.asarray(tr.mask) > 0
    np.testing.assert_allclose(found[counts], expected[counts], rtol=1e-4, atol=1e-5)
    steps, states, actions = episodes(params, batch, expected)
    pushes = papers.clip_higher(steps, eps_low=0.3, eps_high=0.3)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(gradient, pushes, states, actions, params, "step")


def test_dapo_is_a_mean_over_tokens_of_groups_whose_returns_differ(policy):
    params, batch = experience(policy)
    reward = batch.trajectory.reward.at[:, 4:8].set(0.0).at[7, 4].set(0.0)  # the second group fails as one
    reward = reward.at[LENGTHS[0] - 1, 0].set(0.0).at[LENGTHS[1] - 1, 1].set(1.0).at[LENGTHS[2] - 1, 2].set(0.5)
    reward = reward.at[LENGTHS[3] - 1, 3].set(0.5)  # returns 0, 1, 1/2, 1/2: two are their group's mean, and count
    batch = batch._replace(trajectory=batch.trajectory._replace(reward=reward))
    total = returns(batch).reshape(-1, SAMPLES)
    kept = np.repeat(total.std(axis=1) > 0, SAMPLES)
    assert kept.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    deviation = np.where(total.std(axis=1) > 0, total.std(axis=1), 1.0)[:, None]
    expected = ((total - total.mean(axis=1, keepdims=True)) / deviation).reshape(-1)
    found, gradient = algorithm("dapo", policy, params, batch, eps_low=0.2, eps_high=0.4)
    np.testing.assert_allclose(found, spread(expected), rtol=1e-5, atol=1e-6)
    chosen = [
        [x for x, keep in zip(part, kept, strict=True) if keep] for part in episodes(params, batch, spread(expected))
    ]
    pushes = papers.clip_higher(chosen[0], eps_low=0.2, eps_high=0.4)
    assert {push.branch for episode in pushes for push in episode} == papers.PPO
    same(gradient, pushes, *chosen[1:], params, "step")


@pytest.mark.parametrize(("name", "env"), [("beta_policy", "CartPole-v1"), ("mixture_policy", "CartPole-v1")])
def test_a_policy_over_a_box_refuses_other_actions(name, env):
    with pytest.raises(ValueError, match=f"{name} needs a.* Box of actions, got"):
        table.load(name)(make(env), Config())


def test_the_beta_policy_refuses_a_box_without_bounds():
    env = make("Pendulum-v1")
    env = env._replace(action_space=spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(ValueError, match="beta_policy needs a finite Box of actions, got"):
        table.load("beta_policy")(env, Config())


@pytest.mark.parametrize("name", ["dae", "pqn"])
def test_a_critic_of_actions_refuses_a_box(name):
    entry, env = table.load(name), make("Pendulum-v1")
    with pytest.raises(ValueError, match=f"{name} needs a finite number of actions, got"):
        entry.policy(env, entry.config)
