"""Draws each state of an episode as a picture, [H, W, 3] uint8.

Classic control is drawn by Gymnasium's own renderer, from the gymnax state. Every other environment is drawn by its
observations: images by channel (for MinAtar the picture that gymnax's visualiser paints too), vectors as bars,
tokens as text, discrete observations as cells. An environment that is stepped in Python makes its own pictures.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax.dependencies import PackageError, importing
from pgjax.envs import images, observations, spaces
from pgjax.render.play import Episode
from pgjax.types import Env, PyTree

SIZE = 400  # about how many pixels wide and high an observation is drawn


WHITE, INK, MARKED, FAINT = (255, 255, 255), (60, 60, 60), (220, 70, 60), (225, 225, 225)


# The gymnax module of a state -> Gymnasium's name of the environment, and the parameters that it draws: its attribute
# -> gymnax's name. The state decides, so that an environment of the user's own factory is drawn too.
CLASSIC: dict[str, tuple[str, dict[str, str | None]]] = {
    "cartpole": ("CartPole-v1", {"x_threshold": "x_threshold", "length": "length"}),
    "pendulum": ("Pendulum-v1", {}),
    "acrobot": ("Acrobot-v1", {"LINK_LENGTH_1": "link_length_1", "LINK_LENGTH_2": "link_length_2"}),
    "mountain_car": ("MountainCar-v0", dict.fromkeys(("min_position", "max_position", "goal_position"))),
    "continuous_mountain_car": (
        "MountainCarContinuous-v0",
        dict.fromkeys(("min_position", "max_position", "goal_position")),
    ),
}


class Pictures(NamedTuple):
    """The pictures of an episode."""

    every: Iterator[np.ndarray]  # T + 1 times [H, W, 3] uint8, all of one size, each drawn when it is needed
    fps: int  # frames per second at which the environment moves naturally
    note: str  # how to get better pictures; "" where these are the best


def pictures(env: Env, played: Episode) -> Pictures:
    """A picture of each state of an episode, the first one included."""
    seen = _each(_observation(env, played.obs), played)
    if env.host:
        return _filmed(env, played) or Pictures(seen, 15, "observations; the environment has no pictures of its own")
    module, _, world = type(played.states).__module__.rpartition(".")
    if module != "gymnax.environments.classic_control" or world not in CLASSIC:
        return Pictures(seen, 15, "")
    if lacking := _pygame():
        return Pictures(seen, 15, f"observations; for pictures of {CLASSIC[world][0]}: {lacking}")
    return _classic(*CLASSIC[world], env.params, played)


def _each(draw: Callable[[Any, Any], np.ndarray], played: Episode) -> Iterator[np.ndarray]:
    for t in range(len(played.reward) + 1):
        yield draw(*jax.tree.map(lambda x, t=t: x[t], (played.states, played.obs)))


def _pygame() -> str:
    """Why Gymnasium's pictures can't be drawn; "" where they can."""
    # SDL looks for a screen and a sound card otherwise, even for pictures that are never shown.
    for name in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(name, "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with importing("pygame", "video"):
            import pygame  # noqa: F401
    except PackageError as error:
        return str(error)
    return ""


def _classic(name: str, attributes: dict[str, str | None], params: Any, played: Episode) -> Pictures:
    with importing("gymnasium", "gymnasium"):
        import gymnasium

    world: Any = gymnasium.make(name, render_mode="rgb_array").unwrapped
    for attribute, parameter in attributes.items():
        setattr(world, attribute, float(getattr(params, parameter or attribute)))

    def draw(state: Any, obs: Any) -> np.ndarray:
        # The fields of a gymnax state have the order of Gymnasium's vector.
        values = {field: float(x) for field, x in vars(state).items() if field != "time"}
        if "last_u" in values:
            world.last_u = values.pop("last_u")
        world.state = np.array(list(values.values()))
        return np.array(world.render(), np.uint8)

    return Pictures(_each(draw, played), world.metadata["render_fps"], "")


def _filmed(env: Env, played: Episode) -> Pictures | None:
    """The pictures of an environment stepped in Python, as it plays the actions again; None where it makes none."""
    with importing("gymnasium", "gymnasium"):
        import gymnasium

    from pgjax.envs.gymnasium_simulators import Simulators

    class Filmed(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action):
            came = super().step(action)
            self.picture = np.array(self.render(), np.uint8)  # before the reset of an episode that has ended
            return came

    _pygame()
    assert env.host is not None
    with contextlib.closing(env.host(1)) as shown:
        if not isinstance(shown, Simulators):
            return None
        spec, metadata = shown.block.worlds[0].spec, shown.block.worlds[0].metadata
    if spec is None or "rgb_array" not in metadata.get("render_modes", ()):
        return None
    build = lambda: Filmed(gymnasium.make(spec, render_mode="rgb_array"))  # noqa: E731

    def film():
        with contextlib.closing(Simulators(build, 1, env.max_steps)) as world:
            one = world.block.worlds[0]
            world.reset(np.array([played.seed]))
            yield np.array(one.render(), np.uint8)
            for t in range(len(played.reward)):
                _, seen = world.step(jax.tree.map(lambda x, t=t: x[t : t + 1], played.action))
                pairs = zip(jax.tree.leaves(seen.obs), jax.tree.leaves(played.obs), strict=True)
                if not all(np.array_equal(x[0], y[t + 1]) for x, y in pairs):
                    raise ValueError(
                        f"the environment went another way at step {t + 1} when it played the same actions again"
                    )
                yield one.picture

    return Pictures(film(), metadata.get("render_fps") or 30, "")


def _observation(env: Env, obs: PyTree) -> Callable[[Any, Any], np.ndarray]:
    """The function that draws an observation; shapes and scales are those of the episode's `obs` [T + 1, ...].

    Of a tree it draws the first image, and where there is none all numbers side by side.
    """
    parts = list(observations.leaves(env.observation_space))
    if pictured := [(path, part) for path, part in parts if path and (len(parts) == 1 or images.is_image(part))]:
        path, part = pictured[0]
        draw = _observation(env._replace(observation_space=part), observations.at(obs, path))
        return lambda state, now: draw(state, observations.at(now, path))
    shape = np.shape(obs)[1:] if isinstance(obs, np.ndarray) else None
    if spaces.is_discrete(env.observation_space) and shape == ():
        return lambda state, now: _cells(int(now), int(env.observation_space.n))
    if vocabulary := getattr(env.observation_space, "vocabulary", ""):
        return lambda state, now: _text("".join(vocabulary[token] for token in now if token), len(now))
    if shape is not None and (len(shape) == 2 and min(shape) > 1 or len(shape) == 3 and sorted(shape)[1] > 1):
        low, high = float(obs.min()), float(obs.max())
        at = images.channels(env.observation_space) if len(shape) == 3 else None
        return lambda state, now: _image(now if at is None else np.moveaxis(now, at, -1), low, high)
    rows = _vectors(obs, 1)
    low, high = np.minimum(rows.min(0), 0), np.maximum(rows.max(0), 0)
    return lambda state, now: _bars(_vectors(now, 0), low, high)


def _vectors(tree: PyTree, axes: int) -> np.ndarray:
    """The numbers of a tree after its first `axes` axes, side by side."""
    leaves = [np.asarray(x, float) for x in jax.tree.leaves(tree)]
    return np.concatenate([x.reshape(*x.shape[:axes], -1) for x in leaves], axis=-1)


def _image(now: np.ndarray, low: float, high: float) -> np.ndarray:
    """Draws [H, W] as greys, [H, W, 3] bytes unchanged, [H, W, C] in the colour of the last channel that is on."""
    if now.ndim == 3 and now.shape[-1] == 3 and now.dtype == np.uint8:
        picture = now
    else:
        value = (np.asarray(now, float) - low) / (high - low if high > low else 1.0)
        if value.ndim == 3 and value.shape[-1] == 1:
            value = value[..., 0]
        if value.ndim == 2:
            value = np.repeat(value[..., None], 3, axis=-1)
        else:
            with importing("matplotlib"):
                import matplotlib

            colours = matplotlib.colormaps["tab10"](np.arange(value.shape[-1]) % 10)[:, :3]
            last = value.shape[-1] - 1 - np.argmax(value[..., ::-1] > 0, axis=-1)
            value = np.take_along_axis(value, last[..., None], axis=-1) * colours[last]
        picture = np.asarray(255 * value, np.uint8)
    scale = max(1, SIZE // max(picture.shape[:2]))
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _text(words: str, length: int) -> np.ndarray:
    """Draws a line of tokens, with room for `length` of them."""
    side = max(12, SIZE // length)
    picture, draw = _canvas(side * length, 2 * side)
    for i, token in enumerate(words):
        draw.text(((i + 0.5) * side, side), token, fill=INK, anchor="mm", font_size=0.8 * side)
    return np.asarray(picture)


def _bars(now: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Draws one bar for each number, from zero, on the number's own scale in the episode."""
    picture, draw = _canvas(SIZE, SIZE)
    width = SIZE / len(now)
    span = np.where(high > low, high - low, 1.0)
    inner = SIZE - 40
    for i, value in enumerate(now):
        left, right = i * width + 0.15 * width, (i + 1) * width - max(0.15 * width, 1)
        heights = [20 + inner * float((high[i] - y) / span[i]) for y in (high[i], low[i], 0.0, value)]
        draw.rectangle((left, heights[0], right, heights[1]), fill=FAINT)
        draw.rectangle((left, min(heights[2:]), right, max(heights[2:])), fill=MARKED)
        draw.line((left, heights[2], right, heights[2]), fill=INK)
        if len(now) <= 8:
            draw.text((left, SIZE - 18), f"{value:.3g}", fill=INK)
    return np.asarray(picture)


def _cells(now: int, count: int) -> np.ndarray:
    """Draws a cell for each observation, the current one marked."""
    columns = min(count, max(10, int(np.ceil(np.sqrt(count)))))
    side = SIZE // columns
    picture, draw = _canvas(SIZE, max(side * -(-count // columns), 80))
    for i in range(count):
        x, y = i % columns * side, i // columns * side
        draw.rectangle((x + 1, y + 1, x + side - 2, y + side - 2), fill=MARKED if i == now else FAINT)
        if side > 24:
            draw.text((x + side / 2, y + side / 2), str(i), fill=WHITE if i == now else INK, anchor="mm")
    return np.asarray(picture)


def _canvas(width: int, height: int) -> tuple[Any, Any]:
    with importing("PIL"):
        from PIL import Image, ImageDraw

    picture = Image.new("RGB", (width, height), WHITE)
    return picture, ImageDraw.Draw(picture)


def captioned(picture: np.ndarray, lines: tuple[str, str]) -> np.ndarray:
    """The picture under two lines of text; even sides, as a video needs them."""
    with importing("PIL"):
        from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    whole = Image.new("RGB", (max(width, 300) // 2 * 2, (height + 45) // 2 * 2), WHITE)
    whole.paste(Image.fromarray(picture), ((whole.width - width) // 2, 44))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(16)
    for i, line in enumerate(lines):
        draw.text((6, 2 + 20 * i), line, fill=INK, font=font)
    return np.asarray(whole)
