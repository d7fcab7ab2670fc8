"""Language environments: a prompt is a reset, a token an action, and the finished answer earns a reward.

The observation is the tokens so far, [L] int32, with zeros after them. Token 0 as an action ends the answer, and so
does its last place. The package's own token environments, all of them gymnax environments, are in `puzzles`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from gymnax.environments import environment, spaces

from pgjax.types import Array, PyTree

END = "."  # token 0 of every vocabulary


class Tokens(spaces.Box):
    """Sequences [L] of tokens: a prompt of at most `prompt` of them, then an answer, then zeros."""

    def __init__(self, vocabulary: str, prompt: int, length: int):
        super().__init__(0, len(vocabulary) - 1, (length,), jnp.int32)
        self.vocabulary, self.prompt = vocabulary, prompt

    def __repr__(self) -> str:
        return f"Tokens({self.vocabulary!r}, {self.shape[0]})"


@struct.dataclass
class TokenState(environment.EnvState):
    """The sequence so far, and which problem it answers."""

    tokens: Array  # [L]
    problem: Array  # [] its row in the table of problems
    done: Array  # [] bool
    time: Array


@struct.dataclass
class TokenParams(environment.EnvParams):
    """Where the prompts come from, and the time limit."""

    _held_out: bool = False  # whether prompts come from the problems kept from training; no setting of a run
    max_steps_in_episode: int = 1


class TokenWorld(environment.Environment):
    """Problems (prompt, answer), each a string over `vocabulary`; the reward is 1 for the right answer, else 0.

    A fifth of the problems, the same on every machine, is kept from training, and final returns are measured on it.
    A subclass overrides `score` if several answers are right, or if answers are right by degrees.

    Args:
      problems: with different prompts; the answer is the one that `expert` gives for supervised learning.
      vocabulary: one character for each token, all different, the first of them the end.
      name: the environment's name in gymnax and in messages.
      kin: prompt -> the family of its problem, whose members give each other's answers away; a family is kept from
        training as a whole.
    """

    def __init__(self, problems: list[tuple[str, str]], vocabulary: str, name: str, kin: Callable[[str], Any] = str):
        super().__init__()
        if len(set(vocabulary)) < len(vocabulary):
            raise ValueError(f"{name}: the vocabulary's characters must all be different, got {vocabulary!r}")
        if len(problems) < 2 or len({prompt for prompt, _ in problems}) < len(problems):
            raise ValueError(f"{name}: needs two problems or more, their prompts all different; got {len(problems)}")
        if not all(prompt for prompt, _ in problems) or not any(answer for _, answer in problems):
            raise ValueError(f"{name}: every prompt needs a token or more, and so does some answer")
        self.vocabulary, self._name = vocabulary, name
        self.most_prompt, self.most_answer = (max(len(p[i]) for p in problems) for i in (0, 1))
        families = sorted({kin(prompt) for prompt, _ in problems})
        rank = dict(zip(families, np.random.default_rng(0).permutation(len(families)), strict=True))
        order = sorted(range(len(problems)), key=lambda n: rank[kin(problems[n][0])])
        last = len(families) - max(1, len(families) // 5)
        self.prompts, self.answers = (
            np.stack([self.encode(problems[n][i], length) for n in order])
            for i, length in ((0, self.most_prompt), (1, self.most_answer))
        )
        self.prompt_lengths = np.array([len(problems[n][0]) for n in order], np.int32)
        # The last problems of the table are kept from training.
        self.kept = sum(int(rank[kin(prompt)] >= last) for prompt, _ in problems)

    def encode(self, text: str, length: int) -> np.ndarray:
        """[length] tokens, with zeros after the text."""
        if unknown := set(text) - set(self.vocabulary[1:]):
            raise ValueError(f"{self._name}: {sorted(unknown)[0]!r} is not in the vocabulary {self.vocabulary[1:]!r}")
        tokens = [self.vocabulary.index(c) for c in text]
        return np.array(tokens + [0] * (length - len(tokens)), np.int32)

    def decode(self, tokens: np.ndarray) -> str:
        return "".join(self.vocabulary[int(t)] for t in np.asarray(tokens) if t)

    def score(self, problem: Array, answer: Array) -> Array:
        """[] float: the reward for `answer`, [A] tokens with zeros after them."""
        return jnp.all(answer == jnp.asarray(self.answers)[problem]).astype(jnp.float32)

    def begin(self, problem: Array) -> TokenState:
        tokens = jnp.zeros(self.most_prompt + self.most_answer, jnp.int32)
        tokens = tokens.at[: self.most_prompt].set(jnp.asarray(self.prompts)[problem])
        return TokenState(tokens=tokens, problem=problem, done=jnp.bool_(False), time=jnp.int32(0))

    def reset_env(self, key: Array, params: TokenParams) -> tuple[Array, TokenState]:
        training = len(self.prompts) - self.kept
        first = jnp.where(params._held_out, training, 0)
        size = jnp.where(params._held_out, self.kept, training)
        state = self.begin(first + jax.random.randint(key, (), 0, size))
        return state.tokens, state

    def step_env(
        self, key: Array, state: TokenState, action: Array, params: TokenParams
    ) -> tuple[Array, PyTree, Array, Array, dict[str, Any]]:
        places = jnp.arange(self.most_prompt + self.most_answer)
        start = jnp.asarray(self.prompt_lengths)[state.problem]
        written = jnp.where(places == start + state.time, action, state.tokens)
        tokens = jnp.where(state.done, state.tokens, written).astype(jnp.int32)
        done = state.done | (action == 0) | (state.time + 1 >= self.most_answer)
        answer = jax.lax.dynamic_slice(tokens, (start,), (self.most_answer,))
        reward = jnp.where(done & ~state.done, self.score(state.problem, answer), 0.0)
        state = TokenState(tokens=tokens, problem=state.problem, done=done, time=state.time + 1)
        return tokens, state, reward, done, {}

    def expert(self, params: TokenParams, state: TokenState) -> Array:
        """The next token of the problem's given answer."""
        answer = jnp.concatenate([jnp.asarray(self.answers)[state.problem], jnp.zeros(1, jnp.int32)])
        return answer[jnp.minimum(state.time, self.most_answer)]

    def held_out(self, params: TokenParams) -> TokenParams:
        """The parameters with the problems that were kept from training."""
        return params.replace(_held_out=True)

    def is_terminated(self, state: TokenState, params: TokenParams) -> Array:
        return state.done

    @property
    def default_params(self) -> TokenParams:
        return TokenParams(max_steps_in_episode=self.most_answer)

    @property
    def name(self) -> str:
        return self._name

    @property
    def num_actions(self) -> int:
        return len(self.vocabulary)

    def action_space(self, params: PyTree = None) -> spaces.Discrete:
        return spaces.Discrete(self.num_actions)

    def observation_space(self, params: TokenParams) -> Tokens:
        return Tokens(self.vocabulary, self.most_prompt, self.most_prompt + self.most_answer)
