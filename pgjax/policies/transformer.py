"""A decoder-only transformer over tokens as a Policy: it acts by cached decoding, and learns from all places at once.

Vaswani et al. 2017 in the form of Radford et al. 2019 (GPT-2): norms before each block and at the end, GELU, the
output layer tied to the embedding. Positions are learned, or rotary (Su et al. 2021, eq. 34).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from pgjax.config import Config
from pgjax.envs.spaces import layout
from pgjax.numerics.scans import any_lane
from pgjax.policies.distributions import Categorical
from pgjax.types import Array, Env, Evaluation, Policy, PyTree, Trajectory

Pair = tuple[Array, Array]  # a layer's keys and values


class Shape(NamedTuple):
    """The sizes of a transformer, which fix the shapes of its parameters."""

    vocabulary: int  # V
    length: int  # L, the most tokens of a sequence
    width: int = 64  # D
    layers: int = 2
    heads: int = 4
    positions: str = "learned"  # or "rotary"


class Cache(NamedTuple):
    """The memory of B unfinished sequences; an episode begins with an empty one."""

    keys: tuple[Array, ...]  # of each layer, [B, heads, L, D / heads]: each head's products read it as it lies
    values: tuple[Array, ...]
    length: Array  # [B] number of tokens in the cache


def checked_shape(shape: Shape) -> Shape:
    """Returns `shape`; ValueError where its numbers don't fit together."""
    if shape.positions not in ("learned", "rotary"):
        raise ValueError(f"positions must be one of learned, rotary; got {shape.positions!r}")
    if shape.heads < 1 or shape.width % shape.heads or (shape.positions == "rotary" and shape.width // shape.heads % 2):
        even = " into an even number" if shape.positions == "rotary" else ""
        raise ValueError(f"heads={shape.heads} must divide the width {shape.width}{even}; choose another number")
    return shape


def shape_of(env: Env, config: Config) -> Shape:
    """The Shape that a Config describes, sized for the environment's tokens; ValueError where none fits."""
    space = env.observation_space
    if layout(space) != "L":
        raise ValueError(f"network='transformer' needs observations of tokens, got {space!r}; use network='auto'")
    if len(set(config.hidden)) != 1:
        raise ValueError(f"hidden={config.hidden}: a transformer's layers all have one width; repeat one number")
    if config.critic != "value":
        raise ValueError(f"critic={config.critic!r} does not apply to network='transformer'; remove critic")
    return checked_shape(
        Shape(
            vocabulary=len(space.vocabulary),
            length=space.shape[0],
            width=config.hidden[0],
            layers=len(config.hidden),
            heads=config.heads,
            positions=config.positions,
        )
    )


def _norm(width: int, rngs: nnx.Rngs) -> nnx.LayerNorm:
    # The fast variance, the mean of squares less the square of the mean, loses all digits in float32 where numbers lie
    # far from 0.
    return nnx.LayerNorm(width, epsilon=1e-5, use_fast_variance=False, rngs=rngs)


class Block(nnx.Module):
    """Attention and a two-layer perceptron, each after a norm, and added to the residual stream."""

    def __init__(self, shape: Shape, *, rngs: nnx.Rngs):
        width, self.shape = shape.width, shape
        # Layers that write to the residual stream start smaller, since all their outputs add up there.
        added = nnx.initializers.variance_scaling(0.5 / shape.layers, "fan_in", "truncated_normal")
        self.norm_attention = _norm(width, rngs)
        self.qkv = nnx.Linear(width, 3 * width, rngs=rngs)
        self.project = nnx.Linear(width, width, kernel_init=added, rngs=rngs)
        self.norm_mlp = _norm(width, rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, kernel_init=added, rngs=rngs)

    def __call__(self, x: Array, places: Array, past: Pair | None = None) -> tuple[Array, Pair]:
        """The block's output [B, t, D] for x [B, t, D] at `places` [B, t] or [1, t], and its keys and values.

        `past` holds earlier keys and values [B, heads, L, D / heads]; those of x, then one token, are written into it
        first. Without `past`, x is the whole sequence from its first place on.
        """
        heads = (*x.shape[:2], self.shape.heads, -1)
        parts = jnp.split(self.qkv(self.norm_attention(x)), 3, axis=-1)
        q, k, v = (jnp.swapaxes(y.reshape(heads), 1, 2) for y in parts)  # [B, heads, t, D / heads]
        if self.shape.positions == "rotary":
            q, k = rotated(q, places), rotated(k, places)
        if past is not None:
            k, v = _write(past[0], k, places), _write(past[1], v, places)
        seen = jnp.arange(k.shape[2])[None, None] <= places[..., None]  # [B or 1, t, s]
        logits = jnp.einsum("bhtd,bhsd->bhts", q, k) / q.shape[-1] ** 0.5
        attention = jax.nn.softmax(jnp.where(seen[:, None], logits, -jnp.inf))
        read = jnp.einsum("bhts,bhsd->bhtd", attention, v)
        x = x + self.project(jnp.swapaxes(read, 1, 2).reshape(x.shape))
        return x + self.down(jax.nn.gelu(self.up(self.norm_mlp(x)))), (k, v)


def rotated(x: Array, places: Array) -> Array:
    """x [B, heads, t, d] rotated by angles that grow with the place, so that products depend on distances alone."""
    half = x.shape[-1] // 2
    angle = places[..., None] / 10_000 ** (jnp.arange(half) / half)[None, None]
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def _write(past: Array, new: Array, places: Array) -> Array:
    """`past` [B, heads, L, d] with `new` [B, heads, 1, d] written at `places` [B, 1], where it lies."""
    return jax.vmap(lambda past, new, place: jax.lax.dynamic_update_slice_in_dim(past, new, place[0], axis=1))(
        past, new, places
    )


class Transformer(nnx.Module):
    """Tokens to features [..., D]; features to logits [..., V] and to a value [...]."""

    def __init__(self, shape: Shape, *, rngs: nnx.Rngs):
        self.shape = checked_shape(shape)
        draw = nnx.initializers.normal(0.02)
        self.embedding = nnx.Param(draw(rngs.params(), (shape.vocabulary, shape.width)))
        if shape.positions == "learned":
            self.position = nnx.Param(draw(rngs.params(), (shape.length, shape.width)))
        self.blocks = nnx.List([Block(shape, rngs=rngs) for _ in range(shape.layers)])
        self.norm = _norm(shape.width, rngs)
        self.value_head = nnx.Linear(shape.width, 1, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(
        self, tokens: Array, places: Array | None = None, past: list[Pair] | None = None
    ) -> tuple[Array, list[Pair]]:
        """Features [B, t, D] of tokens [B, t], and each layer's keys and values; as in `Block`."""
        places = jnp.arange(tokens.shape[1])[None] if places is None else places
        x = self.embedded(tokens)
        if self.shape.positions == "learned":
            x = x + self.position[...][places]
        kept = []
        for i, block in enumerate(self.blocks):
            x, written = block(x, places, None if past is None else past[i])
            kept.append(written)
        return self.norm(x), kept

    def embedded(self, tokens: Array) -> Array:
        if self.shape.vocabulary > 256:
            return self.embedding[...][tokens]
        # A small product: gathers, and the scatters of their gradients, are slow on every backend.
        return jax.nn.one_hot(tokens, self.shape.vocabulary) @ self.embedding[...]

    def logits(self, features: Array) -> Array:
        return features @ self.embedding[...].T

    def value(self, features: Array) -> Array:
        return self.value_head(features)[..., 0]


Init = Callable[[Array], PyTree]  # key -> params
Merge = Callable[[PyTree], Transformer]  # params -> the module


def policy(init: Init, merge: Merge, shape: Shape, prompt: int) -> Policy:
    """A Policy over token sequences, whose memory is each layer's keys and values; observations are [B, L] tokens.

    `act` reads the prompt when its memory is fresh, and one token at a time from then on. `evaluate` reads whole
    episodes [T, B], each sequence once with all its places side by side. Both give the same distributions.

    Args:
      init, merge: key -> params; params -> Transformer.
      prompt: the largest number of tokens in a prompt.
    """

    def memory(batch: int) -> Cache:
        empty = jnp.zeros((batch, shape.heads, shape.length, shape.width // shape.heads))
        return Cache((empty,) * shape.layers, (empty,) * shape.layers, jnp.zeros(batch, jnp.int32))

    def act(params: PyTree, memory: Cache, obs: Array) -> tuple[Categorical, Cache]:
        module, fresh = merge(params), memory.length == 0
        past = list(zip(memory.keys, memory.values, strict=True))
        # Only the prompt's places, since a branch copies all its values.
        first = jax.tree.map(lambda x: x[:, :, :prompt], past)
        ours = fresh[:, None, None, None]

        def read(first: list[Pair]) -> list[Pair]:
            return jax.tree.map(lambda new, old: jnp.where(ours, new, old), module(obs[:, :prompt])[1], first)

        # Selected inside, so that what is written doesn't read where it is written: it is then written in place.
        begun = jax.lax.cond(any_lane(fresh), read, lambda first: first, first)
        past = jax.tree.map(lambda past, begun: past.at[:, :, :prompt].set(begun), past, begun)
        count = jnp.sum(obs != 0, axis=-1)
        last = jnp.maximum(count - 1, 0)
        token = _at(obs[..., None], last[None])[0, :, 0]
        features, past = module(token[:, None], last[:, None], past)
        keys, values = zip(*past, strict=True)
        return Categorical(module.logits(features[:, 0])), Cache(keys, values, count)

    def evaluate(params: PyTree, trajectory: Trajectory) -> Evaluation:
        module = merge(params)
        features, _ = module(written(trajectory))
        here, ahead = (jnp.sum(x != 0, axis=-1) - 1 for x in (trajectory.obs, trajectory.next_obs))
        value = module.value(features)[..., None]
        dist = Categorical(module.logits(_at(features, here)))
        return Evaluation(
            dist=dist,
            log_prob=dist.log_prob(trajectory.action),
            entropy=dist.entropy(),
            value=_at(value, here)[..., 0],
            next_value=_at(value, ahead)[..., 0],
        )

    return Policy(init=init, memory=memory, act=act, evaluate=evaluate, whole_episodes=True)


def written(trajectory: Trajectory) -> Array:
    """[B, L] the tokens of whole episodes [T, B], prompts and answers."""
    seen = jnp.maximum(trajectory.obs, trajectory.next_obs)
    # After an end the rows may hold further tokens, which don't count.
    return jnp.max(jnp.where(trajectory.mask[..., None] > 0, seen, 0), axis=0)


def reward_model(init: Init, merge: Merge) -> tuple[Init, Callable[[PyTree, Array], Array]]:
    """init(key) -> params; score(params, tokens [B, L]) -> [B]: a transformer's value at the last token.

    Args:
      init, merge: as in `policy`.
    """

    def score(params: PyTree, tokens: Array) -> Array:
        module = merge(params)
        value = module.value(module(tokens)[0])[..., None]
        return _at(value, jnp.sum(tokens != 0, axis=-1)[None] - 1)[0, :, 0]

    return init, score


def _at(x: Array, places: Array) -> Array:
    """x [B, L, ...] at places [T, B], [T, B, ...]: a product with one-hot rows, whose gradient is no scatter."""
    chosen = jax.nn.one_hot(places, x.shape[1], dtype=x.dtype)
    return jnp.einsum("tbl,bld->tbd", chosen, x)
