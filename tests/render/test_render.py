"""Videos: what they show is the episode that was played; bad input is one line, and nothing is written."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import pgjax
from pgjax import envs, policies
from pgjax.cli import main
from pgjax.config import Config
from pgjax.render import frames, play, video

CLASSIC = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"]


def untrained(name, **params):
    env = envs.make(name, **params)
    policy = policies.make(env, Config(hidden=(4,)))
    return env, policy, policy.init(jax.random.key(0))


def alone(state, obs):
    """An episode of one state."""
    state, obs = jax.tree.map(lambda x: np.asarray(x)[None], (state, obs))
    return play.Episode(state, obs, np.zeros(0), np.zeros(0), False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "one"
    settings = {"hidden": (4,), "num_steps": 4, "num_envs": 2, "eval_episodes": 2, "learning_rate": [1e-3, 1e-2]}
    pgjax.run(
        "a2c", "PolicyProbe-pgjax", seeds=[3, 5], updates=2, snapshots=1, settings=settings, out=out, progress=False
    )
    return str(out)


@pytest.fixture
def captions(monkeypatch):
    """The two lines of text of every picture."""
    seen, draw = [], frames.captioned
    monkeypatch.setattr(frames, "captioned", lambda picture, lines: seen.append(lines) or draw(picture, lines))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize(("greedy", "limit"), [(False, 500), (True, 15)])
def test_an_episode_is_what_the_policy_and_the_world_say_step_by_step(greedy, limit):
    env, policy, params = untrained("CartPole-v1", max_steps_in_episode=limit)
    key = jax.random.key(3)
    played = play.play(key, env, policy, params, greedy)

    key_start, key_steps = jax.random.split(key)
    state, obs = env.reset(key_start, env.params)
    states, rewards, done = [state], [], False
    keys = iter(jax.random.split(key_steps, env.max_steps))
    step = jax.jit(env.step)
    while not done:
        key_action, key_env = jax.random.split(next(keys))
        dist, _ = policy.act(params, (), obs[None])
        action = (dist.mode() if greedy else dist.sample(key_action))[0]
        state, seen = step(key_env, env.params, state, action)
        obs, done = seen.obs, bool(seen.terminated | seen.truncated)
        states.append(state)
        rewards.append(float(seen.reward))
    assert played.terminated == (len(rewards) < limit) == (not greedy)
    np.testing.assert_array_equal(played.reward, rewards)
    for field in ("x", "theta_dot", "time"):
        expected = [float(getattr(s, field)) for s in states]
        np.testing.assert_allclose(getattr(played.states, field), expected, rtol=1e-5, atol=1e-6)


def test_a_gif_has_the_first_state_and_every_step_and_shows_the_return_of_its_episode(tmp_path, captions):
    env, policy, params = untrained("Pendulum-v1", max_steps_in_episode=12)
    path = tmp_path / "a.gif"
    made = video.write(path, env, policy, params, seed=2, episodes=2, title="world")
    played = [play.play(jax.random.fold_in(jax.random.key(2), i), env, policy, params) for i in (0, 1)]
    sums = [float(np.sum(one.reward)) for one in played]
    np.testing.assert_allclose(made.returns, sums, rtol=1e-6)
    assert made.frames == 26 and list(tmp_path.iterdir()) == [path]
    with Image.open(path) as gif:
        assert gif.n_frames == 26
        pictures = []
        for i in range(26):
            gif.seek(i)
            pictures.append(np.asarray(gif.convert("RGB")))
    # Not the captions alone differ: the pendulum moves.
    assert all((a[44:] != b[44:]).any() for a, b in zip(pictures, pictures[1:], strict=False))
    assert captions[0] == ("world   episode 1 of 2", f"step 0 of 12   return 0 of {sums[0]:.5g}")
    half = float(np.sum(played[0].reward[:6]))
    assert captions[6][1] == f"step 6 of 12   return {half:.5g} of {sums[0]:.5g}"
    assert captions[25] == (
        "world   episode 2 of 2",
        f"step 12 of 12, truncated   return {sums[1]:.5g} of {sums[1]:.5g}",
    )


def test_an_mp4_has_as_many_frames(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    env, policy, params = untrained("CartPole-v1")
    made = video.write(tmp_path / "a.mp4", env, policy, params)
    assert imageio_ffmpeg.count_frames_and_secs(str(made.path))[0] == made.frames == made.returns[0] + 1


def test_what_ffmpeg_complains_of_is_said(tmp_path):
    pytest.importorskip("imageio_ffmpeg")
    with pytest.raises(OSError, match="ffmpeg: .*No such file"):
        video._mp4(tmp_path / "nowhere" / "a.mp4", iter(np.zeros((3, 8, 8, 3), np.uint8)), 10)


@pytest.mark.parametrize("name", CLASSIC)
def test_classic_control_looks_as_gymnasium_draws_it(name):
    pytest.importorskip("pygame")
    vis_gym = pytest.importorskip("gymnax.visualize.vis_gym")
    env = envs.make(name)
    state, obs = env.reset(jax.random.key(1), env.params)
    step = jax.jit(env.step)
    for i in range(5):
        state, seen = step(jax.random.key(i), env.params, state, env.action_space.sample(jax.random.key(i)))
    (picture,) = frames.pictures(env, alone(state, seen.obs)).every
    np.testing.assert_array_equal(picture, vis_gym.render_gym_frame(name, state, env.params))


def test_parameters_that_change_the_picture_change_it():
    pytest.importorskip("pygame")
    pictures = []
    for length in (0.5, 1.0):
        env = envs.make("CartPole-v1", length=length)
        pictures += frames.pictures(env, alone(*env.reset(jax.random.key(1), env.params))).every
    assert (pictures[0] != pictures[1]).any()


def test_without_pygame_the_observation_is_drawn_and_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygame", None)
    env = envs.make("CartPole-v1")
    shown = frames.pictures(env, alone(*env.reset(jax.random.key(1), env.params)))
    assert 'pip install -e ".[video]"' in shown.note and next(shown.every).shape == (400, 400, 3)


@pytest.mark.parametrize(
    "name", ["Breakout-MinAtar", "Catch-bsuite", "TabularMDP-pgjax", "PolicyProbe-pgjax", "Reacher-misc"]
)
def test_any_other_world_is_drawn_by_what_the_policy_sees(name):
    env, policy, params = untrained(name, **({"max_steps_in_episode": 5} if name == "Reacher-misc" else {}))
    played = play.play(jax.random.key(0), env, policy, params)
    drawn = [picture[44:] for picture in video.captioned(env, played, name).every]
    assert len(drawn) == len(played.reward) + 1 and len({picture.shape for picture in drawn}) == 1
    assert all(side % 2 == 0 for side in drawn[0].shape[:2])
    for t, picture in enumerate(drawn):
        # Equal pictures exactly where observations are equal.
        assert (picture == drawn[0]).all() == (played.obs[t] == played.obs[0]).all()


def test_channels_have_their_colours_and_trees_their_bars():
    obs = np.zeros((1, 4, 4, 2), np.float32)
    obs[0, 0, 0, 0] = obs[0, 1, 1] = 1.0
    (picture,) = frames.pictures(envs.make("Breakout-MinAtar"), play.Episode((), obs, obs[1:], obs[1:], True)).every
    corners = picture[50::100, 50::100]
    assert corners.shape == (4, 4, 3)
    assert len({tuple(x) for x in (corners[0, 0], corners[1, 1], corners[3, 3])}) == 3
    tree = {"a": np.linspace(-1, 1, 6).reshape(3, 2), "b": np.zeros(3)}
    played = play.Episode((), tree, np.zeros(2), np.zeros(2), True)
    first, _, last = frames.pictures(envs.make("Pendulum-v1"), played).every
    assert (first != last).any()


def test_a_world_on_the_host_makes_its_own_pictures(tmp_path):
    pytest.importorskip("pygame")
    gymnasium = pytest.importorskip("gymnasium")
    env = envs.make("gymnasium:CartPole-v1")
    policy = policies.make(env, Config(hidden=(4,)))
    params = policy.init(jax.random.key(0))
    played = play.play(jax.random.key(1), env, policy, params)
    drawn = list(frames.pictures(env, played).every)
    assert played.terminated and len(drawn) == len(played.reward) + 1
    world = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    world.reset(seed=played.seed)
    for action, picture in zip(played.action, drawn, strict=False):
        np.testing.assert_array_equal(picture, world.render())
        assert not world.unwrapped.steps_beyond_terminated
        world.step(int(action))
    np.testing.assert_array_equal(drawn[-1], world.render())  # where it fell, not where the next begins
    made = video.write(tmp_path / "a.gif", env, policy, params)
    assert made.frames == made.returns[0] + 1


@pytest.mark.slow
def test_a_policy_with_memory_plays_too(tmp_path):
    env = envs.make("PolicyProbe-pgjax")
    policy = policies.make(env, Config(hidden=(4,), network="gru"))
    made = video.write(tmp_path / "a.gif", env, policy, policy.init(jax.random.key(0)))
    assert made.frames == 2


def test_render_says_file_frames_and_returns(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = tmp_path / "a.gif"
    words = ["render", folder, "--lane", "learning_rate=1e-2,seed=5", "--update", "0", "--episodes", "2", "--greedy"]
    assert main.main([*words, "--out", str(path)]) == 0
    env, policy, params = pgjax.load(folder).lane(learning_rate=1e-2, seed=5, update=0)
    keys = [jax.random.fold_in(jax.random.key(0), i) for i in (0, 1)]
    returns = [float(jnp.sum(play.play(key, env, policy, params, True).reward)) for key in keys]
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"{path}: 4 frames, return {returns[0]:g}, {returns[1]:g}"


LACKING = 'out: .mp4: the package imageio-ffmpeg isn\'t installed; pip install -e ".[video]", or write a .gif'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "a.avi"], "out: 'a.avi' must end in .mp4 or .gif"),
        (["--out", "there.gif"], "out: file 'there.gif' exists; choose another or remove it"),
        (["--out", "no/a.gif"], "out: there is no folder 'no'"),
        (["--out", "a.mp4"], LACKING),
        (["--fps", "60"], "fps: a .gif shows 50 pictures a second at most, got 60; write an .mp4"),
        (["--fps", "0"], "fps must be more than 0, got 0"),
        (["--episodes", "0"], "episodes must be 1 or more, got 0"),
        (["--lane", "seed=4"], "--lane: seed must be one of 3, 5; got 4"),
        (["--lane", "sed=3"], "--lane: the run has no axis 'sed'; did you mean 'seed'?"),
        (["--update", "1"], "lane {'learning_rate': 0.001, 'seed': 3} was not saved at update 1; choose from [0, 2]"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(folder, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    (tmp_path / "there.gif").write_text("")
    assert main.main(["render", folder, *words]) == 2
    assert capsys.readouterr().err == f"pgjax: {message}\n"
    assert [file.name for file in tmp_path.iterdir()] == ["there.gif"]


def test_a_world_that_paints_into_one_picture_of_its_own_is_filmed_to_its_end(monkeypatch):
    gymnasium = pytest.importorskip("gymnasium")

    class Painter(gymnasium.Env):
        metadata = {"render_modes": ["rgb_array"]}
        observation_space = gymnasium.spaces.Box(0, 100, (1,), np.float32)
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, render_mode=None):
            self.render_mode, self.place = render_mode, np.zeros(1, np.float32)
            self.picture = np.zeros((8, 8, 3), np.uint8)

        def render(self):
            self.picture[:] = self.place[0]
            return self.picture

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.place[:] = 0
            self.render()
            return self.place, {}

        def step(self, action):
            self.place += 1
            return self.place, 1.0, bool(self.place[0] == 3), False, {}

    monkeypatch.setitem(gymnasium.registry, "Painter-v0", gymnasium.envs.registration.EnvSpec("Painter-v0", Painter))
    env = envs.from_gymnasium(lambda: gymnasium.make("Painter-v0", disable_env_checker=True), 9)
    policy = policies.make(env, Config(hidden=(2,)))
    played = play.play(jax.random.key(0), env, policy, policy.init(jax.random.key(0)))
    np.testing.assert_array_equal(played.obs[:, 0], [0, 1, 2, 3])
    assert played.terminated
    shown = list(frames.pictures(env, played).every)
    assert [int(picture[0, 0, 0]) for picture in shown] == [0, 1, 2, 3]
