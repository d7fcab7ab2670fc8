"""Token worlds: prompts, answers and what these are worth, against checkers in plain Python."""

import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax import envs, testing
from pgjax.envs.puzzles import WORLDS
from pgjax.envs.tokens import END, TokenWorld

SMALL = {"addition": {"digits": 1}, "sorting": {"count": 2}, "brackets": {"length": 4}, "countdown": {}, "copying": {}}
DEFAULTS = {name: {} for name in ("addition", "sorting", "brackets")}
SIZES = [*SMALL.items(), *DEFAULTS.items()]


@functools.cache
def made(name, **options):
    """The world, its Env, and (problems [N], actions [N, T]) -> Step [N, T]."""
    world = WORLDS[name](**options)
    env = envs.from_gymnax(world)

    def play(problem, actions):
        step = lambda state, action: env.step(jax.random.key(0), env.params, state, action)  # noqa: E731
        return jax.lax.scan(step, world.begin(problem), actions)[1]

    return world, env, jax.jit(jax.vmap(play))


def small(name):
    return made(name, **SMALL[name])


def texts(world):
    """[(prompt, answer)] of every problem, in the order of the table."""
    return [(world.decode(p), world.decode(a)) for p, a in zip(world.prompts, world.answers, strict=True)]


def earned(name, pairs):
    """What each (problem, answer as text) comes to; an answer shorter than there is room is ended."""
    world, _, play = small(name)
    problems = jnp.asarray([problem for problem, _ in pairs])
    seen = play(problems, np.stack([world.encode(answer, world.most_answer) for _, answer in pairs]))
    return np.asarray(seen.reward).sum(axis=1)


def balanced(text):
    while "()" in text or "[]" in text:
        text = text.replace("()", "").replace("[]", "")
    return not text


def solves(prompt, answer):
    numbers, target = prompt.split("=")
    found = re.fullmatch(r"(\d)([-+*])(\d)([-+*])(\d)", answer)
    if not found or sorted(found.group(1, 3, 5)) != sorted(numbers):
        return False
    a, first, b, second, c = found.groups()
    return eval(f"({a}{first}{b}){second}{c}") == int(target[:-1])


CHECKERS = {
    "addition": lambda prompt, answer: str(eval(prompt[:-1])) == answer,
    "sorting": lambda prompt, answer: "".join(sorted(prompt[:-1])) == answer,
    "brackets": lambda prompt, answer: balanced(prompt + answer),
    "countdown": solves,
    "copying": lambda prompt, answer: prompt[:-1] == answer,
}


def candidates(name, g, count=3000):
    """(problem, answer) at random, among them many that are right or nearly so, as the expert's or otherwise."""
    world = small(name)[0]
    known = texts(world)
    pairs = []
    for _ in range(count):
        problem = int(g.integers(len(known)))
        prompt, answer = known[problem]
        kind = g.integers(3)
        if kind == 0:
            answer = "".join(g.choice(list(world.vocabulary[1:]), size=g.integers(world.most_answer + 1)))
        elif kind == 1 and name == "countdown":
            a, b, c = g.permutation(list(prompt[:3]))
            answer = "{}{}{}{}{}".format(a, g.choice(list("+-*")), b, g.choice(list("+-*")), c)
        elif kind == 1 and name == "brackets" and len(answer) + 2 <= world.most_answer:
            at = g.integers(len(answer) + 1)
            answer = answer[:at] + g.choice(["()", "[]", "(]"]) + answer[at:]
        elif answer:
            at = g.integers(len(answer))
            answer = answer[:at] + g.choice(["", *world.vocabulary[1:]]) + answer[at + 1 :]
        pairs.append((problem, answer))
    return pairs


@pytest.mark.parametrize("name", WORLDS)
def test_worlds_conform(name):
    testing.check_env(envs.make(name))


@pytest.mark.parametrize(("name", "options"), SIZES, ids=lambda x: x if isinstance(x, str) else str(len(x)))
def test_the_expert_earns_1_for_every_problem(name, options):
    world, env, _ = made(name, **options)

    def play(problem):
        def step(state, _):
            action = env.expert(env.params, state)
            return env.step(jax.random.key(0), env.params, state, action)

        return jax.lax.scan(step, world.begin(problem), length=env.max_steps)[1]

    seen = jax.jit(jax.vmap(play))(jnp.arange(len(world.prompts)))
    np.testing.assert_array_equal(np.asarray(seen.reward).sum(axis=1), 1.0)
    assert np.asarray(seen.terminated)[:, -1].all()


@pytest.mark.parametrize("name", WORLDS)
def test_what_earns_1_is_what_a_checker_in_plain_python_calls_right(name):
    known = texts(small(name)[0])
    pairs = candidates(name, np.random.default_rng(0))
    right = np.array([CHECKERS[name](known[problem][0], answer) for problem, answer in pairs])
    np.testing.assert_array_equal(earned(name, pairs), right)
    others = [p for p, r in zip(pairs, right, strict=True) if r and known[p[0]][1] != p[1]]
    assert right.any() and not right.all() and bool(others) is (name in ("brackets", "countdown"))


@pytest.mark.parametrize("name", ["addition", "sorting", "copying"])
def test_any_change_of_the_one_right_answer_is_wrong(name):
    world = small(name)[0]
    pairs = []
    for problem, (_, answer) in enumerate(texts(world)):
        pairs += [(problem, answer[:i]) for i in range(len(answer))]
        for i, c in itertools.product(range(world.most_answer), world.vocabulary[1:]):
            if i == len(answer) or (i < len(answer) and answer[i] != c):
                pairs.append((problem, answer[:i] + c + answer[i + 1 :]))
    np.testing.assert_array_equal(earned(name, pairs), 0.0)


def test_the_worlds_ask_what_they_say():
    assert ("47+85=", "132") in texts(made("addition")[0])
    assert ("3142=", "1234") in texts(made("sorting")[0])
    assert ("([", "])") in texts(made("brackets", length=2)[0])
    world, _, play = small("countdown")
    problem = [prompt for prompt, _ in texts(world)].index("258=21:")
    assert earned("countdown", [(problem, "8*2+5"), (problem, "5+8*2"), (problem, "2*8+5")]).tolist() == [1, 0, 1]
    assert sorted(prompt for prompt, _ in texts(small("copying")[0])) == ["a=", "aa=", "ab=", "b=", "ba=", "bb="]
    assert len(made("addition")[0].prompts) == 90**2 and len(made("sorting")[0].prompts) == 10**4


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "countdown"])
def test_prompts_are_kept_from_training_or_in_it_and_each_comes_up(name):
    world, env, _ = small(name)
    reset = jax.jit(jax.vmap(env.reset, (0, None)))
    keys = jax.random.split(jax.random.key(0), 6000)
    train, kept = (
        {
            world.decode(obs): n
            for obs, n in zip(*np.unique(reset(keys, params)[1], axis=0, return_counts=True), strict=True)
        }
        for params in (env.params, env.held_out(env.params))
    )
    assert all(min(counts.values()) > 0.4 * np.mean(list(counts.values())) for counts in (train, kept))
    train, kept = set(train), set(kept)
    assert not train & kept and train | kept == {prompt for prompt, _ in texts(world)}
    assert abs(len(kept) - len(world.prompts) / 5) <= max(1, 0.02 * len(world.prompts))


@pytest.mark.parametrize("name", ["addition", "sorting"])
def test_no_problem_of_training_gives_a_kept_one_away(name):
    world = made(name)[0]
    told = {"addition": lambda p: frozenset(p[:-1].split("+")), "sorting": lambda p: "".join(sorted(p))}[name]
    known = [told(prompt) for prompt, _ in texts(world)]
    assert not set(known[: -world.kept]) & set(known[-world.kept :])
    assert len(set(known)) < len(known)


def test_the_same_problems_are_kept_in_every_process():
    a, b = (WORLDS["copying"](letters=3) for _ in range(2))
    np.testing.assert_array_equal(a.prompts, b.prompts)
    assert [prompt for prompt, _ in texts(a)] != sorted(prompt for prompt, _ in texts(a))


@pytest.mark.parametrize("name", WORLDS)
def test_an_episode_ends_once_at_its_end_or_last_place_and_stands_still_behind_it(name):
    world, env, play = small(name)
    g = np.random.default_rng(1)
    count, steps = 400, env.max_steps + 3
    problems = g.integers(len(world.prompts), size=count)
    actions = g.integers(env.action_space.n, size=(count, steps))
    actions[: count // 2, : env.max_steps] = world.answers[problems[: count // 2]]
    seen = jax.tree.map(np.asarray, play(jnp.asarray(problems), jnp.asarray(actions)))
    first = np.minimum(np.argmax(actions == 0, axis=1) + 1000 * (actions != 0).all(axis=1), env.max_steps - 1)
    done = np.arange(steps)[None] >= first[:, None]
    np.testing.assert_array_equal(seen.terminated, done)
    assert not seen.truncated.any() and env.max_steps == world.most_answer
    assert set(zip(*np.nonzero(seen.reward), strict=True)) <= set(enumerate(first)) and seen.reward.sum() >= count / 2
    for i in range(count):
        prompt = world.decode(world.prompts[problems[i]])
        for t in range(steps):
            said = world.decode(actions[i, : min(t, first[i]) + 1])
            expected = world.encode(prompt + said, seen.obs.shape[-1])
            np.testing.assert_array_equal(seen.obs[i, t], expected)


class TestMistakes:
    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            ("addition", {"digits": 0}, "addition: digits must be 1 or 2, got 0"),
            ("addition", {"digits": 3}, "addition: digits must be 1 or 2, got 3"),
            ("sorting", {"count": 1}, "sorting: count must lie between 2 and 5, got 1"),
            ("sorting", {"count": 6}, "sorting: count must lie between 2 and 5, got 6"),
            ("brackets", {"length": 9}, "brackets: length must lie between 1 and 8, got 9"),
            ("copying", {"letters": 5}, "copying: letters must lie between 2 and 4, got 5"),
        ],
    )
    def test_sizes(self, name, options, message):
        with pytest.raises(ValueError, match=message):
            envs.make(name, **options)

    @pytest.mark.parametrize(
        ("problems", "message"),
        [
            ([("a", "b")], "mine: needs two problems or more, their prompts all different; got 1"),
            ([("a", "b"), ("a", "a")], "mine: needs two problems or more, their prompts all different; got 2"),
            ([("a", "b"), ("c", "a")], "mine: 'c' is not in the vocabulary 'ab'"),
            ([("a", "b"), ("b", "a.")], "mine: '.' is not in the vocabulary 'ab'"),
        ],
    )
    def test_problems_of_ones_own(self, problems, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            TokenWorld(problems, END + "ab", "mine")


@pytest.mark.parametrize("name", WORLDS)
def test_no_prompt_begins_as_another_does_with_its_answer(name):
    # What is seen are the tokens alone: else one text would stand for two states.
    known = texts(small(name)[0])
    begun = {prompt + answer[:n] for prompt, answer in known for n in range(1, len(answer) + 1)}
    assert not begun & {prompt for prompt, _ in known}


def test_a_problem_without_a_prompt_is_refused():
    with pytest.raises(ValueError, match="every prompt needs a token"):
        TokenWorld([("", "a"), ("b", "a")], ".ab", "mine")
