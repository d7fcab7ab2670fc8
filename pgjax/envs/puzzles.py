"""Token environments whose answers can be checked: sums, sorting, brackets, a countdown, copying.

They are gymnax environments, registered on import.
"""

import itertools

import jax
import jax.numpy as jnp
from gymnax.registration import register, registered_envs

from pgjax.envs.tokens import END, TokenWorld
from pgjax.types import Array


class Addition(TokenWorld):
    """Two numbers of `digits` digits each, and their sum, its first digit first: "47+85=" asks for "132"."""

    def __init__(self, digits: int = 2):
        if digits not in (1, 2):
            raise ValueError(f"addition: digits must be 1 or 2, got {digits}")
        numbers = range(10 ** (digits - 1) if digits > 1 else 0, 10**digits)
        problems = [(f"{a}+{b}=", str(a + b)) for a in numbers for b in numbers]
        super().__init__(problems, END + "0123456789+=", "addition", self.numbers)

    @staticmethod
    def numbers(prompt: str) -> str:
        """Both numbers, in order of size: a + b gives b + a away."""
        return " ".join(sorted(prompt[:-1].split("+")))


class Sorting(TokenWorld):
    """`count` digits, to be put in ascending order: "3142=" asks for "1234"."""

    def __init__(self, count: int = 4):
        if not 2 <= count <= 5:
            raise ValueError(f"sorting: count must lie between 2 and 5, got {count}")
        rows = itertools.product("0123456789", repeat=count)
        problems = [("".join(row) + "=", "".join(sorted(row))) for row in rows]
        super().__init__(problems, END + "0123456789=", "sorting", lambda prompt: "".join(sorted(prompt)))


class Brackets(TokenWorld):
    """The first `length` brackets of a balanced sequence, to be completed in as many places: "([" asks for "])".

    Every completion that balances is right, "()])" too where there is room for it.
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

    def score(self, problem: Array, answer: Array) -> Array:
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

    An expression is evaluated from left to right, whatever its signs, and uses each number once. Every expression that
    equals the target is right.
    """

    SIGNS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}

    def __init__(self):
        problems: dict[str, str] = {}
        for numbers in itertools.combinations_with_replacement(range(1, 10), 3):
            for a, b, c in sorted(set(itertools.permutations(numbers))):
                for first, second in itertools.product(self.SIGNS, repeat=2):
                    value = self.SIGNS[second](self.SIGNS[first](a, b), c)
                    if 1 <= value <= 99:
                        prompt = "".join(map(str, numbers)) + f"={value}:"
                        problems.setdefault(prompt, f"{a}{first}{b}{second}{c}")
        super().__init__(list(problems.items()), END + "0123456789=:+-*", "countdown")

    def score(self, problem: Array, answer: Array) -> Array:
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
    """One or two of `letters` letters, to be repeated: "ab=" asks for "ab". Every answer can be enumerated."""

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
