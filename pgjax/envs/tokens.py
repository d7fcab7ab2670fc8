"""Worlds of language: a prompt is a reset, a token an action, and the finished answer earns a reward.

Gymnax environments, registered on import. What is seen are the tokens so far, [L] int32, and 0 behind them; token 0
as an action ends the answer, as does the last place that there is for it.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces
from gymnax.registration import register, registered_envs

END = "."  # token 0 of every vocabulary


class Tokens(spaces.Box):
    """Sequences [L] of tokens: a prompt of at most `prompt` of them, an answer behind it, zeros behind that."""

    def __init__(self, vocabulary: str, prompt: int, length: int):
        super().__init__(0, len(vocabulary) - 1, (length,), jnp.int32)
        self.vocabulary, self.prompt = vocabulary, prompt

    def __repr__(self):
        return f"Tokens({self.vocabulary!r}, {self.shape[0]})"


@struct.dataclass
class TokenState(environment.EnvState):
    tokens: jax.Array  # [L]
    problem: jax.Array  # [] its row in the table of problems
    done: jax.Array  # [] bool
    time: jax.Array


@struct.dataclass
class TokenParams(environment.EnvParams):
    held_out: bool = False  # whether prompts are those kept from training
    max_steps_in_episode: int = 1


class TokenWorld(environment.Environment):
    """Problems (prompt, answer), each a string over `vocabulary`; the reward is 1 for the right answer, else 0.

    A fifth of the problems, the same on every machine, is kept from training; final returns are of these. Subclasses
    in which more than one answer is right, or an answer more or less so, override `score`.

    Args:
      problems: all different in their prompts; the answer is what `expert` shows a learner by supervision.
      vocabulary: one character for each token, the first of them the end.
      name: what gymnax and messages call the world.
    """

    def __init__(self, problems: list[tuple[str, str]], vocabulary: str, name: str):
        super().__init__()
        if len(problems) < 2 or len({prompt for prompt, _ in problems}) < len(problems):
            raise ValueError(f"{name}: needs two problems or more, their prompts all different; got {len(problems)}")
        if not all(prompt for prompt, _ in problems) or not any(answer for _, answer in problems):
            raise ValueError(f"{name}: every prompt needs a token or more, and so does some answer")
        self.vocabulary, self._name = vocabulary, name
        self.most_prompt, self.most_answer = (max(len(p[i]) for p in problems) for i in (0, 1))
        order = np.random.default_rng(0).permutation(len(problems))
        self.prompts, self.answers = (
            np.stack([self.encode(problems[n][i], length) for n in order])
            for i, length in ((0, self.most_prompt), (1, self.most_answer))
        )
        self.prompt_lengths = np.array([len(problems[n][0]) for n in order], np.int32)
        self.kept = max(1, len(problems) // 5)  # from training: the last of the table

    def encode(self, text: str, length: int) -> np.ndarray:
        """[length] tokens, zeros behind the text."""
        if unknown := set(text) - set(self.vocabulary[1:]):
            raise ValueError(f"{self._name}: {sorted(unknown)[0]!r} is not in the vocabulary {self.vocabulary[1:]!r}")
        tokens = [self.vocabulary.index(c) for c in text]
        return np.array(tokens + [0] * (length - len(tokens)), np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        return "".join(self.vocabulary[int(t)] for t in np.asarray(tokens) if t)

    def score(self, problem: jax.Array, answer: jax.Array) -> jax.Array:
        """[] float: what `answer`, [A] tokens and zeros behind them, is worth."""
        return jnp.all(answer == jnp.asarray(self.answers)[problem]).astype(jnp.float32)

    def begin(self, problem: jax.Array) -> TokenState:
        tokens = jnp.zeros(self.most_prompt + self.most_answer, jnp.int32)
        tokens = tokens.at[: self.most_prompt].set(jnp.asarray(self.prompts)[problem])
        return TokenState(tokens=tokens, problem=problem, done=jnp.bool_(False), time=jnp.int32(0))

    def reset_env(self, key, params):
        training = len(self.prompts) - self.kept
        first = jnp.where(params.held_out, training, 0)
        size = jnp.where(params.held_out, self.kept, training)
        state = self.begin(first + jax.random.randint(key, (), 0, size))
        return state.tokens, state

    def step_env(self, key, state, action, params):
        places = jnp.arange(self.most_prompt + self.most_answer)
        start = jnp.asarray(self.prompt_lengths)[state.problem]
        written = jnp.where(places == start + state.time, action, state.tokens)
        tokens = jnp.where(state.done, state.tokens, written).astype(jnp.int32)
        done = state.done | (action == 0) | (state.time + 1 >= self.most_answer)
        answer = jax.lax.dynamic_slice(tokens, (start,), (self.most_answer,))
        reward = jnp.where(done & ~state.done, self.score(state.problem, answer), 0.0)
        state = TokenState(tokens=tokens, problem=state.problem, done=done, time=state.time + 1)
        return tokens, state, reward, done, {}

    def expert(self, params, state):
        """The next token of the answer that the problem came with."""
        answer = jnp.concatenate([jnp.asarray(self.answers)[state.problem], jnp.zeros(1, jnp.int32)])
        return answer[jnp.minimum(state.time, self.most_answer)]

    def held_out(self, params):
        """The parameters of the same world with the problems that were kept from training."""
        return params.replace(held_out=True)

    def is_terminated(self, state, params):
        return state.done

    @property
    def default_params(self):
        return TokenParams(max_steps_in_episode=self.most_answer)

    @property
    def name(self):
        return self._name

    @property
    def num_actions(self):
        return len(self.vocabulary)

    def action_space(self, params=None):
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params):
        return Tokens(self.vocabulary, self.most_prompt, self.most_prompt + self.most_answer)


class Addition(TokenWorld):
    """Two numbers of `digits` digits each, and their sum, its first digit first: "47+85=" asks for "132"."""

    def __init__(self, digits: int = 2):
        if not 1 <= digits <= 3:
            raise ValueError(f"addition: digits must be 1, 2 or 3, got {digits}")
        numbers = range(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
        problems = [(f"{a}+{b}=", str(a + b)) for a in numbers for b in numbers]
        super().__init__(problems, END + "0123456789+=", "addition")


class Sorting(TokenWorld):
    """`count` digits, to be put in ascending order: "3142=" asks for "1234"."""

    def __init__(self, count: int = 4):
        if not 2 <= count <= 5:
            raise ValueError(f"sorting: count must lie between 2 and 5, got {count}")
        rows = itertools.product("0123456789", repeat=count)
        problems = [("".join(row) + "=", "".join(sorted(row))) for row in rows]
        super().__init__(problems, END + "0123456789=", "sorting")


class Brackets(TokenWorld):
    """The first `length` brackets of a balanced sequence, to be completed in as many places: "([" asks for "])".

    Whatever balances is right, "()])" too where there is room for it.
    """

    PAIRS = {"(": ")", "[": "]"}

    def __init__(self, length: int = 6):
        if not 1 <= length <= 8:
            raise ValueError(f"brackets: length must lie between 1 and 8, got {length}")
        problems = []
        for row in itertools.product("()[]", repeat=length):
            open_ = []
            for c in row:
                if c in self.PAIRS:
                    open_.append(self.PAIRS[c])
                elif not open_ or open_.pop() != c:
                    break
            else:
                if open_:
                    problems.append(("".join(row), "".join(reversed(open_))))
        super().__init__(problems, END + "()[]", "brackets")

    def score(self, problem, answer):
        def step(carry, token):
            stack, depth, right = carry
            opens = (token == 1) | (token == 3)
            closes = (token == 2) | (token == 4)
            fits = (depth > 0) & (stack[jnp.maximum(depth - 1, 0)] == token)
            stack = jnp.where(opens & (jnp.arange(len(stack)) == depth), token + 1, stack)
            return (stack, depth + opens - (closes & fits), right & (~closes | fits)), None

        tokens = jnp.concatenate([jnp.asarray(self.prompts)[problem], answer])
        start = (jnp.zeros(len(tokens), jnp.int32), jnp.int32(0), jnp.bool_(True))
        (_, depth, right), _ = jax.lax.scan(step, start, tokens)
        return (right & (depth == 0)).astype(jnp.float32)


class Countdown(TokenWorld):
    """Three numbers and a target between 1 and 99: "258=21:" asks for "8*2+5".

    An expression is worked from left to right, whatever its signs, and uses each number once; each that comes to the
    target is right.
    """

    SIGNS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}

    def __init__(self):
        problems = {}
        for numbers in itertools.combinations_with_replacement(range(1, 10), 3):
            for a, b, c in sorted(set(itertools.permutations(numbers))):
                for first, second in itertools.product(self.SIGNS, repeat=2):
                    value = self.SIGNS[second](self.SIGNS[first](a, b), c)
                    if 1 <= value <= 99:
                        prompt = "".join(map(str, numbers)) + f"={value}:"
                        problems.setdefault(prompt, f"{a}{first}{b}{second}{c}")
        super().__init__(list(problems.items()), END + "0123456789=:+-*", "countdown")

    def score(self, problem, answer):
        digit = lambda token: token - 1  # noqa: E731
        prompt = jnp.asarray(self.prompts)[problem]
        given, rest = jnp.sort(digit(prompt[:3])), prompt[4:]
        target = jnp.where(digit(rest[1]) < 10, 10 * digit(rest[0]) + digit(rest[1]), digit(rest[0]))
        numbers, signs = digit(answer[0::2]), answer[1::2] - self.vocabulary.index("+")
        value = numbers[0]
        for sign, number in zip(signs, numbers[1:], strict=True):
            worked = jnp.stack([work(value, number) for work in self.SIGNS.values()])
            value = worked[jnp.clip(sign, 0, 2)]
        formed = jnp.all((signs >= 0) & (signs <= 2)) & jnp.all(jnp.sort(numbers) == given)
        return (formed & (value == target)).astype(jnp.float32)


class Copying(TokenWorld):
    """One or two of `letters` letters, to be said again: "ab=" asks for "ab". Every answer can be enumerated."""

    def __init__(self, letters: int = 2):
        if not 2 <= letters <= 4:
            raise ValueError(f"copying: letters must lie between 2 and 4, got {letters}")
        alphabet = "abcd"[:letters]
        words = ["".join(word) for n in (1, 2) for word in itertools.product(alphabet, repeat=n)]
        super().__init__([(word + "=", word) for word in words], END + alphabet + "=", "copying")


WORLDS = {"addition": Addition, "sorting": Sorting, "brackets": Brackets, "countdown": Countdown, "copying": Copying}

for _name, _world in WORLDS.items():
    if _name not in registered_envs:
        register(_name, _world)
