"""The gallery of methods: its table, the training of each, gradients of its losses."""

import ast
import itertools
import shlex
import statistics

import jax
import numpy as np
import papers
import pytest
from experience import B, episodes, experience, returns, same, softmax, spread
from gallery import ROOT, page, table

from pgjax.algorithms.replacement import with_plugs
from pgjax.algorithms.roster import ROSTER
from pgjax.cli import main
from pgjax.envs.registry import make
from pgjax.hyperparameters import bind, hyperparameters
from pgjax.policies import make as make_policy
from pgjax.running import running
from pgjax.runs import start
from pgjax.sweeps import plan
from pgjax.testing import check_loss

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


@pytest.mark.parametrize("name", [x for x in LOSSES if x != "pmpo"])  # of a whole batch
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


def test_a_critic_of_actions_refuses_a_box():
    entry, env = table.load("dae"), make("Pendulum-v1")
    with pytest.raises(ValueError, match="dae needs a finite number of actions, got"):
        entry.policy(env, entry.config)
