"""Writes a video of whole episodes that a policy plays."""

import contextlib
import itertools
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from pgjax.dependencies import PackageError, importing
from pgjax.render import frames
from pgjax.render.play import Episode, play
from pgjax.sweeps.values import local_place, seed_number, whole
from pgjax.types import Env, Policy, PyTree

SUFFIXES = (".mp4", ".gif")


EPISODES = 1000  # of one video at most: all are played before the first is drawn


class Written(NamedTuple):
    """A video that was written."""

    path: pathlib.Path
    frames: int
    returns: list[float]  # of each episode, undiscounted
    note: str  # how to get better pictures; "" where these are the best


def captioned(env: Env, played: Episode, title: str) -> frames.Pictures:
    """The pictures of an episode under two lines: the title; the step and the return so far."""
    shown = frames.pictures(env, played)
    length, so_far = len(played.reward), np.concatenate([[0.0], np.cumsum(played.reward, dtype=np.float64)])
    end = "terminated" if played.terminated else "truncated"

    def draw():
        for t, picture in enumerate(shown.every):
            last = f", {end}" if t == length else ""
            line = f"step {t} of {length}{last}   return {so_far[t]:.5g} of {so_far[-1]:.5g}"
            yield frames.captioned(picture, (title, line))

    return shown._replace(every=draw())


def write(
    path: str | pathlib.Path,
    env: Env,
    policy: Policy,
    params: PyTree,
    *,
    episodes: int = 1,
    greedy: bool = False,
    seed: int = 0,
    fps: float | None = None,
    title: str = "",
) -> Written:
    """Play whole episodes and write them as a .gif or an .mp4.

    Args:
      greedy: take the mode of each distribution; otherwise actions are sampled.
      seed: of the episodes; episode i has the key fold_in(key(seed), i).
      fps: pictures per second; by default the environment's own speed.

    Raises:
      ValueError: for a path or an fps that is impossible, before anything is played.
    """
    path = checked_path(path, fps)
    episodes, seed = whole("episodes", episodes, most=EPISODES), seed_number(seed)
    played = [play(jax.random.fold_in(jax.random.key(seed), i), env, policy, params, greedy) for i in range(episodes)]
    counted = [f"   episode {i + 1} of {episodes}" if episodes > 1 else "" for i in range(episodes)]
    shown = [captioned(env, one, title + count) for one, count in zip(played, counted, strict=True)]
    every = (picture for one in shown for picture in one.every)
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        (_gif if path.suffix == ".gif" else _mp4)(draft, every, fps or shown[0].fps)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    count = sum(len(one.reward) + 1 for one in played)
    return Written(path, count, [float(np.sum(one.reward, dtype=np.float64)) for one in played], shown[0].note)


def checked_path(path: str | pathlib.Path, fps: float | None = None) -> pathlib.Path:
    """The path of a video.

    Raises:
      ValueError: where no video can be written there, or not with this fps.
    """
    path = local_place("out", path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"out: {str(path)!r} must end in {' or '.join(SUFFIXES)}")
    if path.exists():
        raise ValueError(f"out: file {str(path)!r} exists; choose another or remove it")
    if not path.parent.is_dir():
        raise ValueError(f"out: there is no folder {str(path.parent)!r}")
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps must be more than 0, got {fps:g}")
    if path.suffix == ".mp4":
        try:
            with importing("imageio_ffmpeg", "video", "out: .mp4"):
                import imageio_ffmpeg  # noqa: F401
        except PackageError as error:
            raise PackageError(f"{error}, or write a .gif") from error
    elif fps is not None and fps > 50:
        raise ValueError(f"fps: a .gif shows 50 pictures a second at most, got {fps:g}; write an .mp4")
    return path


def _gif(path: pathlib.Path, every: Iterator[np.ndarray], fps: float) -> None:
    with importing("PIL"):
        from PIL import Image

    # Each picture has its own palette: a common one would need all pictures at once.
    first, *rest = (Image.fromarray(picture).quantize(64) for picture in every)
    first.save(path, save_all=True, append_images=rest, duration=1000 / fps, loop=0)


def _mp4(path: pathlib.Path, every: Iterator[np.ndarray], fps: float) -> None:
    with importing("imageio_ffmpeg", "video"):
        import imageio_ffmpeg

    first = next(every)
    size, rate = f"{first.shape[1]}x{first.shape[0]}", str(fps)
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
    # A format that every browser plays, and starts before it has the whole file.
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "20", "-movflags", "+faststart", str(path)]
    # imageio's own writer would fork this process, which has threads of JAX; Popen doesn't.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *coded]
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said) as coder:
            assert coder.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # ffmpeg's own message follows below
                for picture in itertools.chain([first], every):
                    coder.stdin.write(np.ascontiguousarray(picture).data)
                coder.stdin.close()
        if coder.returncode:
            said.seek(0)
            raise OSError(f"ffmpeg: {said.read().decode(errors='replace').strip().splitlines()[-1:]}")
