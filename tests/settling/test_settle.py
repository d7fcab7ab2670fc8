"""Which of two algorithms is better: verdicts, folders that go on and replay, and bad input in one line."""

import functools
import json
import pathlib
import runpy
import shlex

import jax
import numpy as np
import pytest

import pgjax
from pgjax import report
from pgjax.cli import main
from pgjax.settling import rounds, settlement
from pgjax.settling.schedule import following
from pgjax.statistics.sequences import Sequence

EXPERIMENT = runpy.run_path(str(pathlib.Path(__file__).parents[2] / "experiments" / "settled.py"))
TINY = {"num_envs": 4, "num_steps": 8, "hidden": (4,), "eval_episodes": 8}
GOOD, BAD = "a2c learning_rate=.05", "a2c learning_rate=1e-6"


def ask(out, a=GOOD, b=BAD, **options):
    options = {"updates": 30, "batch": 10, "most": 60, "margin": 0.2, "settings": TINY, **options}
    return pgjax.settle(a, b, "PolicyProbe-pgjax", out=out, progress=False, **options)


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """The same programs again and again, compiled once; and what `settle` sets for its rounds is undone."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    for name, value in zip(names, (str(tmp_path_factory.mktemp("cache")), 0.0), strict=True):
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return ask(tmp_path_factory.mktemp("settle") / "whole")


def never(*_, **__):
    raise AssertionError("trains, though all is trained")


@pytest.mark.slow
def test_the_better_arm_is_found_and_the_folder_holds_the_proof(undisturbed):
    found = undisturbed
    assert found.verdict == f"A is better after {found.after} pairs" and found.mean.low[found.after - 1] > 0
    assert found.after <= len(found.seeds) < 60 and found.returns.shape == (2, len(found.seeds))
    assert len(found.seeds) in {following(n, 10, 60) for n in range(60)}
    for name, row in zip("ab", found.returns, strict=True):
        run = pgjax.load(found.path / name)
        np.testing.assert_allclose(run.metrics.final_return_stochastic.mean("episode").values.reshape(-1), row)
    written = json.loads((found.path / "verdict.json").read_text())
    assert written["verdict"] == found.verdict and written["a"] == found.returns[0].tolist()
    assert (found.path / "settle.png").stat().st_size > 10_000


@pytest.mark.slow
def test_the_same_question_again_trains_nothing_and_has_the_same_bits(undisturbed, monkeypatch):
    before = (undisturbed.path / "verdict.json").read_bytes()
    monkeypatch.setattr(rounds, "execute", never)
    again = ask(undisturbed.path)
    assert again.told == undisturbed.told and (undisturbed.path / "verdict.json").read_bytes() == before
    assert ask(undisturbed.path, most=10).told == undisturbed.told  # what was trained counts


@pytest.mark.slow
def test_a_question_that_was_cut_short_ends_as_if_it_had_not_been(undisturbed, tmp_path):
    out = tmp_path / "cut"
    first = ask(out, most=10)
    assert first.verdict == "undecided after 10 pairs" and len(first.seeds) == 10
    pgjax.extend(out / "a", seeds=following(10, 10, 60), progress=False)  # killed before b had its turn
    assert settlement.settlement(out).told == first.told  # whole rounds alone are read
    again = ask(out)
    np.testing.assert_array_equal(again.returns, undisturbed.returns)
    assert again.told == undisturbed.told
    assert (out / "verdict.json").read_bytes() == (undisturbed.path / "verdict.json").read_bytes()


@pytest.mark.slow
def test_a_run_that_is_stopped_in_a_round_is_read_without_it(undisturbed, tmp_path, monkeypatch):
    """A signal in the round: the verdict is that of the rounds before, and the same call goes on."""
    out, calls = tmp_path / "stopped", []
    ask(out, most=10)
    execute = rounds.execute

    def stopped(job, progress):
        calls.append(job)
        run = execute(job, progress)
        if len(calls) == 1:
            run.signal = 2
            run.summary["interrupted"] = True
        return run

    monkeypatch.setattr(rounds, "execute", stopped)
    found = ask(out)
    assert found.signal == 2 and len(found.seeds) == 10 and len(calls) == 1
    np.testing.assert_array_equal(ask(out).returns, undisturbed.returns)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"margin": 0.3}, "holds another question: margin is 0.2 there and 0.3 here"),
        ({"error": 0.1}, "holds another question: error is 0.05 there and 0.1 here"),
        ({"by": "iqm"}, "holds another question: by is 'mean' there and 'iqm' here"),
        ({"bounds": "-2,2"}, r"bounds is \[-1.0, 1.0\] there and \[-2.0, 2.0\] here"),
        (
            {"b": "a2c learning_rate=1e-5"},
            "b' holds another run: optimizer.learning_rate is 1e-06 there and 1e-05 here",
        ),
        ({"updates": 31}, r"a' holds another run: groups\[0\].updates is 30 there and 31 here"),
    ],
)
def test_another_question_in_the_folder_is_refused_with_the_first_difference(undisturbed, changed, message):
    with pytest.raises(ValueError, match=message):
        ask(undisturbed.path, **changed)


@pytest.mark.slow
def test_show_and_report_read_the_folder(undisturbed, capsys, tmp_path):
    assert main.main(["show", str(undisturbed.path)]) == 0
    said = capsys.readouterr().out
    assert f"A: {GOOD}" in said and undisturbed.told in said and "betting" in said
    assert f"{undisturbed.after} (decided)" in said
    page = report.write(undisturbed.path, tmp_path / "page.html").read_text()
    assert undisturbed.told in page and "Probability of improvement" not in page  # that of a fixed number of seeds
    assert page.count("<img") > 4 and "a: a2c on PolicyProbe" in page
    assert main.main(["show", str(undisturbed.path), "--watch"]) == 2
    assert "--watch shows one run" in capsys.readouterr().err


@pytest.mark.slow
def test_a_seed_that_failed_counts_as_the_lowest_return_or_its_pair_is_left_out_by_name(undisturbed, monkeypatch):
    finals = settlement._finals

    def failed(run):
        seeds, returns = finals(run)
        return seeds, np.where((seeds == 2) & (run.path.name == "b"), np.nan, returns)

    monkeypatch.setattr(settlement, "_finals", failed)
    found = settlement.settlement(undisturbed.path)
    assert found.lost == ([], [2]) and found.pairs[1, 2] == -1 and found.pairs.shape == found.returns.shape
    assert found.left_out == "seeds without a final return (B: 2): each counts as -1, the lowest there is"
    monkeypatch.setattr(settlement, "read", lambda path: {**undisturbed.question, "bounds": None})
    found = settlement.settlement(undisturbed.path)
    assert found.pairs.shape[1] == found.returns.shape[1] - 1
    assert found.left_out == "seeds without a final return (B: 2): these pairs are left out (no --bounds)"


@pytest.mark.slow
def test_a_return_outside_of_the_bounds_is_named(undisturbed, monkeypatch):
    monkeypatch.setattr(settlement, "read", lambda path: {**undisturbed.question, "bounds": [-1.0, 0.5]})
    with pytest.raises(
        ValueError, match=r"bounds: -1,0.5 don't hold the return [\d.]+ of A's seed \d+; ask in another"
    ):
        settlement.settlement(undisturbed.path)


def sequence(low, high):
    low, high = np.array(low, float), np.array(high, float)
    return Sequence((low + high) / 2, low, high)


@pytest.mark.parametrize(
    ("low", "high", "margin", "verdict"),
    [
        ([-5, -1, 1], [5, 4, 3], None, (3, "A is better after 3 pairs")),
        ([-5, -4, -3, 1], [5, -1, -2, 2], 1.0, (2, "B is better after 2 pairs")),
        ([-5, -2, -1], [5, 2, 1], 2.0, (2, "equivalent within the margin of 2 after 2 pairs")),
        ([-5, -2], [5, 2.5], 2.0, (None, "undecided after 2 pairs")),
        ([-5, 0], [5, 1], None, (None, "undecided after 2 pairs")),
        ([-5, -1], [5, 0], None, (None, "undecided after 2 pairs")),
        ([-5, 2], [5, 1], 4.0, (None, "undecided after 2 pairs")),  # ends that have crossed
        ([0.1], [0.2], 1.0, (1, "A is better after 1 pairs")),  # and by less than the margin
    ],
)
def test_the_first_interval_that_leaves_out_0_or_lies_within_the_margin_decides(low, high, margin, verdict):
    assert settlement.decided(sequence(low, high), margin) == verdict


def test_rounds_grow_by_half_in_whole_batches():
    step = functools.partial(following, batch=8, most=512)
    sizes = [step(0)]
    while sizes[-1] < 512:
        sizes.append(step(sizes[-1]))
    assert sizes == [8, 16, 24, 40, 64, 96, 144, 216, 328, 496, 512] and following(20, 8, 512) == 24


ARMS = ["ppo clip_eps=.1", "ppo clip_eps=.3"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([ARMS[0], "--env", "CartPole-v1"], "settle takes two arms, each in quotes"),
        (ARMS, "say which environment: --env NAME"),
        ([*ARMS, "ppo", "--env", "CartPole-v1"], "settle takes two arms, each in quotes"),
        (["ppo", "ppo clip_eps=.2", "--env", "CartPole-v1"], "A and B are the same: 'ppo' and 'ppo clip_eps=.2'"),
        (["pppo", "ppo", "--env", "CartPole-v1"], "no algorithm 'pppo'; did you mean 'ppo'?"),
        (["ppo clip_eps", "ppo", "--env", "CartPole-v1"], "A: after the algorithm come name=value, got 'clip_eps' in"),
        (["ppo", "ppo clip_eps=.1,.2", "--env", "CartPole-v1"], "B: clip_eps has several values, .1,.2; an arm is one"),
        (["ppo", "ppo loss=nowhere:f", "--env", "CartPole-v1"], "B: loss: can't import 'nowhere'"),
        ([*ARMS, "--env", "CartPole-v1", "--set", "clip_eps=.2"], "A: clip_eps was given for both arms too"),
        ([*ARMS, "--env", "CartPol-v1"], "no environment 'CartPol-v1'; did you mean 'CartPole-v1'?"),
        ([*ARMS, "--env", "CartPole-v1", "--error", "1"], "error must lie between 0 and 1, got 1; .05 is usual"),
        ([*ARMS, "--env", "CartPole-v1", "--error", "often"], "error must be a number, got 'often'"),
        ([*ARMS, "--env", "CartPole-v1", "--most", "1"], "most must be 2 or more, got 1"),
        ([*ARMS, "--env", "CartPole-v1", "--margin=-1"], "margin must be more than 0, got -1; leave it out"),
        (
            [*ARMS, "--env", "CartPole-v1", "--bounds", "500,0"],
            "bounds must be two numbers, the lower first, got 500,0",
        ),
        ([*ARMS, "--env", "CartPole-v1", "--bounds", "500"], "bounds must be two numbers, LO,HI, got '500'"),
        ([*ARMS, "--env", "CartPole-v1", "--by", "median"], "by must be one of mean, iqm; got 'median'"),
        ([*ARMS, "--env", "CartPole-v1", "--out", "."], "out: folder '.' exists and holds no settle.json"),
        ([*ARMS, "--env", "CartPole-v1", "--updates", "2", "--steps", "3"], "give steps or updates, not both"),
    ],
)
def test_bad_input_is_one_line_and_code_2_and_nothing_is_written(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))
    assert main.main(["settle", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pgjax: {message}") and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


POOL = np.random.default_rng(0).beta(4, 1, 64) * 500  # as returns of CartPole are, near their bound


def test_identical_algorithms_are_told_apart_no_more_often_than_the_level_and_by_peeking_far_more_often():
    repeats = 400
    found = EXPERIMENT["error"]({"pool": POOL}, repeats, most=200, steps=256)
    shares = {method: share for (_, method), share in found.items()}
    peeked = shares.pop("paired t test after each seed from 8 on")
    assert len(shares) == 3 and max(shares.values()) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert peeked > 0.15


def test_larger_differences_take_fewer_seeds_and_the_price_of_looking_is_bounded():
    found = EXPERIMENT["power"]({"pool": POOL}, 100, most=512, steps=256)
    for method in ("betting", "asymptotic"):
        quarter, half, whole = np.array(found["pool", method])[:, 0]
        assert quarter > half >= whole
        assert whole < 6 * EXPERIMENT["fixed"](1.0, 0.8) and half < 6 * EXPERIMENT["fixed"](0.5, 0.8)
    assert [EXPERIMENT["fixed"](effect, 0.8) for effect in (0.25, 0.5, 1.0)] == [128, 34, 10]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["questions", "error", "power"])
def test_the_experiment_runs_at_its_smoke_size(tmp_path, what):
    found = EXPERIMENT["main"](["--smoke", "--what", what, "--out", str(tmp_path)])
    if what == "questions":
        assert set(found) == set(EXPERIMENT["QUESTIONS"]) and all(len(one.seeds) == 2 for one in found.values())
        assert (tmp_path / "table.md").read_text().count("\n| ") == 5
        every = json.loads((tmp_path / "settled.json").read_text())
        assert len(every["weights"]["answer"]["a"]) == 2
    else:
        assert (tmp_path / f"{what}.md").is_file()


README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("command", [line for line in README.splitlines() if line.startswith("pgjax settle ")])
def test_the_readmes_command_is_valid(command, tmp_path, monkeypatch):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rounds, "carried_out", lambda question: asked.append(question) or never())
    with pytest.raises(AssertionError, match="trains"):
        main.main(shlex.split(command)[1:])
    assert len(asked) == 1 and not list(tmp_path.iterdir())
