"""A run read back from its folder is the run that was written; a folder that is none says so in one line."""

import json
import shutil
import signal
import types

import jax
import numpy as np
import pytest

import pgjax
from pgjax import algorithms, policies
from pgjax.algorithms import roster
from pgjax.engine import chunks, progress
from pgjax.runs import load
from pgjax.training import vectorised

TINY = {"hidden": (4,), "num_steps": 4, "eval_episodes": 2}
GRID = {"env.g": [8.0, 10.0], "num_envs": [2, 4], "env.max_steps_in_episode": 7, "normalize_obs": True}


def world():
    return pgjax.envs.make("PolicyProbe-pgjax")


def loss(now, batch, *, beta=1.0):
    return -beta * now.log_prob * batch.advantage, {}


def policy(env, config):
    return policies.make(env, config)


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    # 8 updates with 2 environments, 4 with 4.
    options = {"seeds": [3, 5], "steps": 64, "snapshots": 3, "settings": {**TINY, **GRID}}
    return pgjax.run("a2c", "Pendulum-v1", out=out, progress=False, **options)


@pytest.fixture(scope="module")
def run(result):
    return load.load(result.path)


@pytest.fixture
def copy(result, tmp_path):
    """The folder, to be spoilt; and what changes its config.json."""
    folder = tmp_path / "copy"
    shutil.copytree(result.path, folder)

    def edit(change):
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return types.SimpleNamespace(path=folder, edit=edit)


def test_axes_seeds_and_saved_points_are_the_runs(result, run):
    assert run.axes == result.plan.axes == {"g": [8.0, 10.0], "num_envs": [2, 4]}
    assert run.seeds == [3, 5]
    assert run.lane_updates(g=8.0, num_envs=2) == [0, 3, 5, 8]
    assert run.lane_updates(g=8.0, num_envs=4) == [0, 1, 3, 4]
    assert run.updates == [0, 1, 3, 4, 5, 8]
    assert [group.updates for group in run.plan.groups] == [group.updates for group in result.plan.groups]
    assert run.summary == json.loads((result.path / "summary.json").read_text())


@pytest.mark.parametrize("g", [8.0, 10.0])
@pytest.mark.parametrize("num_envs", [2, 4])
def test_every_lane_is_what_the_result_has_bit_for_bit(result, run, g, num_envs):
    for seed in result.plan.seeds:
        lane = {"seed": seed, "g": g, "num_envs": num_envs}
        env, policy, params = result.lane(**lane)
        env_read, policy_read, params_read = run.lane(**lane)
        assert_same(params_read, params)
        assert_same(env_read.params, env.params)
        assert float(env_read.params.g) == g and env_read.max_steps == 7
        # The policy carries the moments that normalise its observations.
        obs = env.reset(jax.random.key(0), env.params)[1][None]
        assert_same(policy_read.act(params, (), obs)[0], policy.act(params, (), obs)[0])


def test_hyperparameters_are_those_of_the_lane(result, run):
    for g, group in enumerate(result.plan.groups):
        for setting, hypers in zip(group.settings, group.hypers, strict=True):
            assert_same(run.hypers(**setting), hypers)
        assert run.plan.groups[g].config == group.config
    assert float(run.hypers(g=8.0, num_envs=2).advantage["discount"]) == pytest.approx(0.99)


def test_the_first_snapshot_is_what_training_starts_from(result, run):
    group = result.plan.groups[0]
    start = jax.jit(lambda keys, hypers: vectorised.init(keys, group.learner, hypers))
    params = start(*vectorised.lanes(group.hypers, result.plan.seeds)).learner.params
    for index, (g, seed) in enumerate([(8.0, 3), (8.0, 5), (10.0, 3), (10.0, 5)]):
        first = run.lane(seed=seed, g=g, num_envs=2, update=0)[2]
        assert_same(first, jax.tree.map(lambda x: x[index], params))  # noqa: B023


def test_a_snapshot_is_where_a_shorter_run_ends(run):
    shorter = {**TINY, **GRID, "num_envs": 2}
    ended = pgjax.run("a2c", "Pendulum-v1", seeds=[3, 5], updates=3, settings=shorter, progress=False)
    env, policy, params = ended.lane(seed=5, g=10.0)
    policy_read, params_read = run.lane(seed=5, g=10.0, num_envs=2, update=3)[1:]
    assert_same(params_read, params)
    obs = env.reset(jax.random.key(0), env.params)[1][None]
    assert_same(policy_read.act(params, (), obs)[0], policy.act(params, (), obs)[0])


def test_snapshots_differ_from_each_other_and_from_the_end(run):
    at = [run.lane(seed=3, g=8.0, num_envs=2, update=u)[2] for u in (0, 3, 5, 8)]
    leaves = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)]) for params in at]
    assert len({tuple(row) for row in leaves}) == 4
    assert_same(at[-1], run.lane(seed=3, g=8.0, num_envs=2)[2])


@pytest.mark.parametrize(
    ("updates", "snapshots", "points"),
    [
        (8, 1, {0}),
        (8, 4, {0, 2, 4, 6}),
        (1000, 4, {0, 250, 500, 750}),
        (400, 3, {0, 130, 270}),  # segments of 10
        (2, 100, {0, 1, 2}),  # the end is no snapshot: training never comes to update 2
    ],
)
def test_snapshots_are_spread_evenly_over_whole_segments(updates, snapshots, points):
    assert chunks.points(updates, chunks.segment(updates), snapshots) == points


@pytest.mark.slow
def test_objects_of_ones_own_are_imported_again(tmp_path):
    options = {"loss": loss, "policy": policy, "updates": 2, "snapshots": 2, "progress": False}
    settings = {**TINY, "num_envs": 2, "beta": [0.5, float("inf")], "shared": [False, True], "hidden": (3, 2)}
    result = pgjax.run("a2c", world, out=tmp_path / "own", settings=settings, **options)
    run = load.load(tmp_path / "own")
    assert run.updates == [0, 1, 2]
    assert run.axes == {"beta": [0.5, float("inf")], "shared": [False, True]}
    assert run.plan.groups[0].config.hidden == (3, 2)
    lane = {"seed": 0, "beta": 0.5, "shared": True}
    assert_same(run.lane(**lane)[2], result.lane(**lane)[2])
    assert run.hypers(beta=float("inf"), shared=False).estimator["beta"] == float("inf")


def test_an_algorithm_of_ones_own_and_a_text_axis(tmp_path):
    mine = algorithms.entry("a2c").algorithm
    settings = {"num_steps": 4, "num_envs": 2, "eval_episodes": 2, "hidden": [(4, 3)]}
    options = {"updates": 1, "out": tmp_path / "own", "progress": False, "settings": settings}
    result = pgjax.run(mine, "PolicyProbe-pgjax", **options)
    with pytest.raises(ValueError, match=r"algorithm: .* can't be imported again; pass algorithm= to load\(\)"):
        load.load(tmp_path / "own")
    run = load.load(tmp_path / "own", algorithm=mine)
    assert run.updates == [1] and run.axes == {"hidden": [(4, 3)]}
    assert_same(run.lane(seed=0, hidden=(4, 3))[2], result.lane(seed=0, hidden="4x3")[2])


@pytest.mark.slow
def test_interruption_keeps_the_snapshots_written(tmp_path, monkeypatch):
    update, calls = progress.Progress.update, []

    def interrupt(self, *arguments):
        update(self, *arguments)
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(progress.Progress, "update", interrupt)
    settings = {**TINY, "num_envs": [2, 4]}
    options = {"updates": 8, "snapshots": 4, "out": tmp_path / "run", "settings": settings, "progress": False}
    result = pgjax.run("a2c", "PolicyProbe-pgjax", **options)
    assert result.interrupted
    run = load.load(tmp_path / "run")
    assert run.updates == [0, 2, 3]
    assert_same(run.lane(seed=0, num_envs=4)[2], result.lane(seed=0, num_envs=4)[2])
    for lanes in (run, result):
        with pytest.raises(ValueError, match=r"lane .* has no parameters: the run stopped before its turn"):
            lanes.lane(seed=0, num_envs=2)
    # As a killed run leaves it.
    (tmp_path / "run" / "summary.json").unlink()
    killed = load.load(tmp_path / "run")
    assert killed.updates == [0, 2, 3] and killed.summary == {}
    assert_same(killed.lane(seed=0, num_envs=4, update=3)[2], killed.lane(seed=0, num_envs=4)[2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"seed": 4, "g": 8.0, "num_envs": 2}, r"no lane .*'seed': 4.*; the axes are .*\[3, 5\]"),
        ({"seed": 3, "g": 9.0, "num_envs": 2}, r"no lane .*'g': 9.0.*; the axes are .*\[8.0, 10.0\]"),
        ({"seed": 3, "g": 8.0}, r"no lane .*; the axes are .*'num_envs': \[2, 4\]"),
        ({"seed": 3, "gg": 8.0, "num_envs": 2}, r"no lane .*'gg'.*; the axes are"),
        ({"seed": 3, "g": 8.0, "num_envs": 4, "update": 5}, r"not saved at update 5; choose from \[0, 1, 3, 4\]"),
    ],
)
def test_a_lane_that_is_not_there_is_one_line(run, labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        run.lane(**labels)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_run_is_one_line(result, copy, tmp_path):
    with pytest.raises(ValueError, match=r"path: no folder '.*coppy'; did you mean '.*copy'"):
        load.load(tmp_path / "coppy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"path: '.*empty' holds no config.json, only nothing"):
        load.load(str(tmp_path / "empty"))
    shutil.rmtree(copy.path / "chunks")
    with pytest.raises(
        ValueError, match=r"path: '.*copy' holds no parameters, only chunks.json, config.json, curve.pn"
    ):
        load.load(copy.path)
    copy.edit(lambda config: config.pop("execution"))
    with pytest.raises(ValueError, match=r"path: '.*config.json' has no 'execution'; an older pgjax wrote it"):
        load.load(copy.path)
    (copy.path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"path: '.*config.json' can't be read: "):
        load.load(copy.path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"spec": None}, r"env: 'Pendulum-v1' of '.*copy' can't be imported again; pass env= to load\(\)"),
        ({"spec": "nowhere:world"}, r"env: can't import 'nowhere'.*; pass env= to load\(\)"),
        ({"spec": "/nowhere.py:world"}, r"env: no file '/nowhere.py'; pass env= to load\(\)"),
    ],
)
def test_an_object_that_is_gone_must_be_passed(copy, entry, message):
    copy.edit(lambda config: config["objects"].update(env=entry))
    with pytest.raises(ValueError, match=message):
        load.load(copy.path)
    assert load.load(copy.path, env="Pendulum-v1").updates == [0, 1, 3, 4, 5, 8]


def test_another_world_or_network_is_refused(copy, result):
    copy.edit(lambda config: config["groups"][0]["env"].update(m=2.0))
    with pytest.raises(ValueError, match=r"env: parameter 'm' was 2.0 in the run and is 1.0 now; pass the same env="):
        load.load(copy.path)
    wider = lambda env, config: policies.make(env, pgjax.Config(hidden=(5,)))  # noqa: E731
    with pytest.raises(ValueError, match=r"policy: the parameters in '.*chunks.*' don't fit the network; pass policy="):
        load.load(result.path, policy=wider).lane(seed=3, g=8.0, num_envs=2)
    deeper = lambda env, config: policies.make(env, pgjax.Config(hidden=(4, 4)))  # noqa: E731
    with pytest.raises(ValueError, match=r"policy: the parameters in '.*chunks.*' don't fit the network; pass policy="):
        load.load(result.path, policy=deeper).lane(seed=3, g=8.0, num_envs=2)


def test_a_setting_survives_a_change_of_defaults(copy, run, monkeypatch):
    row = algorithms.entry("a2c")
    other = row.algorithm._replace(advantage=pgjax.hyperparameters.bind(row.algorithm.advantage, discount=0.5, n=2))
    monkeypatch.setitem(algorithms.ROSTER, "a2c", roster.Entry(other, steps=7))
    again = load.load(copy.path)
    assert_same(again.hypers(g=8.0, num_envs=2), run.hypers(g=8.0, num_envs=2))
    assert pgjax.hyperparameters.hyperparameters(again.plan.groups[0].algorithm.advantage)["n"] == 5
    assert again.plan.groups[0].config == run.plan.groups[0].config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"snapshots": 4}, "snapshots=4 needs a run folder to be written to; give out"),
        ({"snapshots": -1}, "snapshots must be 0 or more, got -1"),
        ({"snapshots": 1.5}, "snapshots must be a whole number, got 1.5"),
    ],
)
def test_snapshots_that_cannot_be_are_one_line(options, message):
    with pytest.raises(ValueError, match=message):
        pgjax.run("a2c", "PolicyProbe-pgjax", updates=1, **options)


def test_policies_in_the_units_of_an_earlier_version_are_refused(copy):
    """Pendulum's torque lies in [-2, 2], in whose units the parameters of its Gaussians are from format 2 on."""
    copy.edit(lambda config: config.pop("format"))
    with pytest.raises(ValueError, match="not in the units of their Box of actions; use the pgjax that wrote it"):
        load.load(copy.path)


def test_a_run_that_makes_other_groups_by_now_is_one_line(copy):
    copy.edit(lambda config: config.update(groups=config["groups"][:1]))
    with pytest.raises(ValueError, match="has 1 groups of settings and would have 2 now; use the pgjax that wrote it"):
        load.load(copy.path)


def test_a_value_that_is_refused_by_now_is_read_back(copy):
    copy.edit(lambda config: config["fixed"].update({"optimizer.learning_rate": 0.0}))
    assert load.load(copy.path).hypers(g=8.0, num_envs=2).optimizer["learning_rate"] == 0.0
