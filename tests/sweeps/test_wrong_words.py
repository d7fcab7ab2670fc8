"""Words that can't be meant are one line, whatever option they stand behind; nothing is trained, nothing is left."""

import jax
import numpy as np
import pytest

import pgjax
from pgjax import algorithms
from pgjax.cli import main
from pgjax.engine import chunks, memory, stages
from pgjax.hyperparameters import hyperparameters, ranges
from pgjax.sweeps import names as sweeps_names
from pgjax.sweeps import plan as sweeps_plan
from pgjax.sweeps import search
from pgjax.sweeps import values as sweeps_values
from pgjax.sweeps.search import Range

WORLD = ("a2c", "PolicyProbe-pgjax")
TINY = "--updates 2 --num-steps 4 --set eval_episodes=2".split()
DIGITS = "numbers are written in the digits 0 to 9, got "

# Options of `pgjax train` and `pgjax sweep`, and how the line begins.
TRAIN = [
    ("--set learning_rate=inf", "optimizer.learning_rate must be above 0 and finite in float32, got inf"),
    ("--set learning_rate=0", "optimizer.learning_rate must be above 0 and finite in float32, got 0"),
    ("--set learning_rate=1e300", "optimizer.learning_rate must be above 0 and finite in float32, got 1e300"),
    ("--set learning_rate=1e-50", "optimizer.learning_rate must be above 0 and finite in float32, got 1e-50"),
    ("--set learning_rate=nan", "optimizer.learning_rate must be a number, got 'nan'"),
    ("--set learning_rate=1e-3,0.001", "optimizer.learning_rate has the same value twice: 0.001, 0.001"),
    ("--set learning_rate=0.1,0.10000000001", "optimizer.learning_rate has the same value twice: 0.1, 0.10000000001"),
    ("--set learning_rate=１e-3", "optimizer.learning_rate: " + DIGITS),
    ("--set entropy_coef=inf", "estimator.entropy_coef must be finite in float32, got inf"),
    ("--set value_coef=inf", "estimator.value_coef must be 0 or more and finite in float32, got inf"),
    ("--set max_grad_norm=0", "optimizer.max_grad_norm must be above 0, got 0"),
    ("--set discount=1e-50", "advantage.discount=1e-50 becomes 0 in float32"),
    ("--set temperature=inf", "config.temperature must be above 0 and finite in float32, got inf"),
    ("--set hidden=６4", "config.hidden: " + DIGITS),
    ("--set hidden=1000000000000", "config.hidden must be 2147483647 or less"),
    ("--set hidden=100000000x100000000", "num_envs=16 and the network: the states of 1 lanes at once take "),
    ("--set lag=1000000000", "num_envs=16, lag=1000000000 and the network: the states of 1 lanes at once take "),
    ("--set=learning_rate=1e-2 --set=learning_rate=1e-2", "--set learning_rate was given twice"),
    ("--seeds 4294967295", "seeds=4294967295 is more than the 1,000,000 lanes that one run may have"),
    ("--seeds 2 --seeds 3", "--seeds was given twice; give it once"),
    ("--seeds ８", "--seeds: " + DIGITS),
    ("--seed -1", "seeds must lie in [0, 2**32), got -1"),
    ("--steps 1e30", "steps must be 9007199254740992 or less, got 1e30"),
    ("--steps nan", "steps must be a whole number, got 'nan'"),
    ("--num-envs 1e12", "config.num_envs must be a whole number"),
    ("--num-envs 2147483648", "config.num_envs must be 2147483647 or less, got 2147483648"),
    ("--num-envs 4,4", "config.num_envs has the same value twice: 4, 4"),
    ("--snapshots 3", "snapshots=3 is more than the 2 updates of the run; give less"),
    ("--loss :", "--loss must be module:name or file.py:name, got ':'"),
    ("--out a --out b", "--out was given twice; give it once"),
    ("--out p/q/" + 300 * "x", "out: can't make folder 'p/q/xxx"),
]
RANGE = "--set learning_rate=log:1e-4:1e-2 "
SWEEP = [
    (RANGE + "--samples 1e12", "samples=1000000000000, 1,000,000,000,000 settings in all, is more than the 1,000,000"),
    (RANGE + "--samples 1e5 --seeds 1000", "100,000 settings x 1,000 seeds is more than the 1,000,000 lanes"),
    (RANGE + "discount=.1,0.10 --samples 2", "discount has the same value twice: .1, 0.10"),
    ("--set learning_rate=log:１:2 --samples 2", "learning_rate must be log:LOW:HIGH, uniform:LOW:HIGH or int:"),
    ("--search random", "search='random' needs a range among the settings and samples; or leave it out"),
    ("--memory 900TB", "memory=900,000 GB is more than the "),
    ("--memory nan", "memory must be a size such as 4GB or 500MiB, got 'nan'"),
    ("--width 100000000000", "width=100000000000: the states of 100,000,000,000 lanes at once take "),
    ("--width 1e30", "width must be 9007199254740992 or less, got 1e30"),
    ("--width ８", "--width: " + DIGITS),
    ("--checkpoint nan", "checkpoint must be a number of seconds, 0 or more, got nan"),
    ("--log tensorboard --log wandb", "--log was given twice; give it once"),
    ("--log punchcard", "log: no logger 'punchcard'; choose from tensorboard, wandb"),
    (
        "--distributed --coordinator localhost:1 --processes 0 --process 0",
        "--process must lie in [0, --processes), got 0 of 0",
    ),
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, tmp_path_factory, monkeypatch):
    """In an empty folder; whatever would be trained fails the test."""

    def trained(*_):
        raise AssertionError("accepted")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for command in ("train", "resume"):
        monkeypatch.setattr(f"pgjax.cli.{command}.execute", trained)


def refused(words, message, capsys, tmp_path):
    assert main.main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pgjax: {message}") and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "message"), TRAIN, ids=[words[:40] for words, _ in TRAIN])
def test_train(words, message, capsys, tmp_path):
    given = [word for word in TINY if word not in ("--updates", "2")] if words.startswith("--steps") else TINY
    refused(["train", *WORLD, *words.split(), *given], message, capsys, tmp_path)


@pytest.mark.parametrize(("words", "message"), SWEEP, ids=[words[:60] for words, _ in SWEEP])
def test_sweep(words, message, capsys, tmp_path):
    refused(["sweep", *WORLD, *words.split(), *TINY], message, capsys, tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", *WORLD, "--out", ""], "out must be a path without a NUL, and not empty; got ''"),
        (["train", *WORLD, "--out", "a\0b"], r"out must be a path without a NUL, and not empty; got 'a\x00b'"),
        (["train", *WORLD, "--loss", ""], "no loss ''; choose from policy_gradient, "),
        (["train", *WORLD, "--env", ""], "say which environment"),
        (["sweep", *WORLD, "--log", ""], "log: no logger ''"),
        (["sweep", *WORLD, "--search", ""], "search must be one of sobol, random; got ''"),
        (
            ["sweep", *WORLD, "--updates", "1", "--num-envs", "2,4", "--halving", "2"],
            "halving=2 leaves no rung in 1 updates; give more, or leave it out",
        ),
        (["replay", "run", "--lane", "seed=0", "--lane", "seed=1"], "--lane was given twice; give it once"),
        (["show", ""], "path must be a path without a NUL, and not empty; got ''"),
        (["resume", "a\0b"], "path must be a path without a NUL"),
        (["report", "a\0b"], "folders must be a path without a NUL"),
        (["report", "run", "--out", ""], "out must be a path without a NUL"),
        (["render", "run", "--out", "\0.gif"], "out must be a path without a NUL"),
        (["render", "run", "--episodes", "1e9"], "episodes must be 1000 or less, got 1e9"),
        (["render", "run", "--seed", "-1"], "seed must be 0 or more, got -1"),
        (["variance", "--params", ""], "path must be a path without a NUL"),
        (["variance", "--params", "."], "path: '.' holds no config.json"),
        (["variance", "TabularMDP-pgjax", "--seed", "99999999999999999999"], "seed must be 4294967295 or less"),
        (["variance", "TabularMDP-pgjax", "--batch", "4,4"], "batch has the same value twice: 4, 4"),
        (["variance", "TabularMDP-pgjax", "--grid", "constant=1,1.0"], "constant has the same value twice: 1.0, 1.0"),
        (["variance", "TabularMDP-pgjax", "--episodes", "1e12"], "episodes must be 2147483647 or less, got 1e12"),
        (["variance", "TabularMDP-pgjax", "--set", "hidden=0"], "hidden must be widths of 1 or more, got 0"),
        (["variance", "TabularMDP-pgjax", "--discount", "０.9"], "--discount: " + DIGITS),
    ],
)
def test_other_commands(words, message, capsys, tmp_path):
    refused(words, message, capsys, tmp_path)


def test_every_number_of_the_roster_says_where_it_makes_sense():
    """Each float has its range; inf is taken where it turns something off, and nowhere else."""
    off = {
        "advantage.clip_rho",
        "advantage.clip_c",
        "estimator.clip_eps",
        "estimator.clip_low",
        "estimator.clip_high",
        "estimator.value_clip",
        "estimator.huber_delta",
        "estimator.stop_kl",
        "optimizer.max_grad_norm",
        "optimizer.anneal_steps",
    }
    names = {}
    for row in map(algorithms.entry, algorithms.ROSTER):
        for part in ("advantage", "estimator", "optimizer"):
            plug = getattr(row.algorithm, part)
            found = ranges(plug)
            swept = [name for name, x in hyperparameters(plug).items() if isinstance(x, float)]
            names |= {f"{part}.{name}": found[name] for name in swept}
    for name, allowed in names.items():
        if name in off:
            assert sweeps_values.convert(name, "inf", 1.0, allowed) == np.inf
        else:
            with pytest.raises(ValueError, match=f"^{name} must .*, got inf$"):
                sweeps_values.convert(name, "inf", 1.0, allowed)
    assert sweeps_values.convert("estimator.beta", "inf", 1.0) == np.inf  # of a loss of one's own nothing is known


def test_the_smallest_and_the_largest_of_float32_are_numbers_and_what_is_beyond_is_none():
    for value in (2.0**-126, 3.4e38, -3.4e38):
        assert sweeps_values.convert("estimator.beta", value, 1.0) == value
        assert np.isfinite(np.float32(value)) and np.float32(value) != 0
    for value, became in ((1e-46, "0"), (-1e300, "-inf"), (1e300, "inf")):
        with pytest.raises(ValueError, match=f"becomes {became} in float32"):
            sweeps_values.convert("estimator.beta", value, 1.0)
    for value in (float("inf"), 10**400):
        with pytest.raises(ValueError, match="^config.num_envs must be a whole number"):
            sweeps_values.convert("config.num_envs", value, 16)


def test_a_value_twice_is_found_in_any_spelling():
    for values in (["1e-3", "0.001"], [0.1, 0.1 + 1e-9], [1, 1.0], [(4, 4), (4, 4)], ["tanh", "tanh"]):
        with pytest.raises(ValueError, match="^x has the same value twice"):
            sweeps_values.distinct("x", values)
    for values in ([0.1, 0.1 + 1e-7], ["relu", "tanh"], [(4, 4), (4, 8)], [1e300, float("inf")]):
        sweeps_values.distinct("x", values)
    sweeps_values.distinct("x", [0.1, 0.1 + 1e-9], single=False)  # not of lanes: float64 tells them apart


def test_no_list_is_made_of_what_is_too_many():
    known = {"optimizer": {"learning_rate": 1e-3}}
    with pytest.raises(ValueError, match="is more than the 1,000,000 lanes"):
        sweeps_names.settings({"optimizer.learning_rate": range(1, 10**12)}, known, lambda full: None)
    with pytest.raises(ValueError, match="is more than the 1,000,000 lanes"):
        search.sample({"x": Range("log", 1e-3, 1e-2), "y": range(10**12)}, 1)
    plan = sweeps_plan.plan(*WORLD, updates=1)
    schedule = chunks.Schedule([1], [1], [0], [1], [chunks.Chunk(0, 0, 0, 1, ((0, 0),))])
    with pytest.raises(ValueError, match="^seeds=1000000000 of 1 settings is more than"):
        stages.extended(plan, schedule, None, None, 10**9)


def test_half_of_the_memory_is_memory_and_twice_is_not():
    devices = jax.local_devices()
    most = memory.there(devices)
    assert memory.checked_budget(memory.parse(str(most / 2)), devices) == most / 2
    assert memory.checked_budget(None, devices) is None
    with pytest.raises(ValueError, match="GB of the device; give less"):
        memory.checked_budget(2 * most, devices)


def test_what_only_compiling_can_tell_leaves_no_folder(tmp_path):
    options = {"updates": 1, "memory": "1KB", "progress": False, "settings": {"hidden": (4,), "num_steps": 4}}
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="^memory: one lane needs"):
        pgjax.run(*WORLD, out=tmp_path / "mine" / "new" / "one", **options)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_a_memory_that_is_full_is_one_line(capsys, monkeypatch):
    errors = [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 8 TiB")]
    for error in errors:

        def act(*_, error=error):
            raise error

        monkeypatch.setattr("pgjax.cli.show.show", act)
        assert main.main(["show", "run"]) == 1
        said = capsys.readouterr().err
        assert said.startswith("pgjax: the memory isn't enough") and said.count("\n") == 1
