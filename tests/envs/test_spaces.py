"""Spaces of worlds: each kind is right, or one clear line, wherever a world or a network is made."""

import re

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from gymnasium import spaces as theirs
from gymnax.environments import environment
from gymnax.environments import spaces as ours

from pgjax import algorithms, envs, policies
from pgjax.cli.main import main
from pgjax.config import Config
from pgjax.envs import images, spaces
from pgjax.render import frames
from pgjax.sweeps import environment as sweeps_environment
from pgjax.sweeps import plan
from pgjax.types import Env, Step

UNKNOWN = [theirs.Text(4), theirs.Sequence(theirs.Discrete(2)), theirs.Graph(theirs.Box(0, 1, (2,)), None)]
UNIT = ours.Box(-1.0, 1.0, (2,))


def by_hand(observation=UNIT, action=ours.Discrete(2), shown=None, max_steps=5):  # noqa: B008
    shown = jnp.zeros(observation.shape, observation.dtype) if shown is None else shown
    step = lambda key, params, state, action: (state, Step(shown, jnp.float32(0), jnp.bool_(False), jnp.bool_(False)))  # noqa: E731
    return Env({}, lambda key, params: ((), shown), step, observation, action, max_steps)


@struct.dataclass
class State(environment.EnvState):
    time: jax.Array


@struct.dataclass
class Params(environment.EnvParams):
    max_steps_in_episode: int = 5


class World(environment.Environment):
    """A gymnax world of any spaces, whose class may be given in place of a function."""

    default_params = Params()
    observation, action, shown = UNIT, ours.Discrete(2), None

    def see(self):
        return jnp.zeros(self.observation.shape, self.observation.dtype) if self.shown is None else self.shown

    def reset_env(self, key, params):
        return self.see(), State(time=jnp.int32(0))

    def step_env(self, key, state, action, params):
        return self.see(), state.replace(time=state.time + 1), jnp.float32(1), jnp.bool_(False), {}

    def is_terminated(self, state, params):
        return jnp.bool_(False)

    def action_space(self, params=None):
        return self.action

    def observation_space(self, params):
        return self.observation


def from_gymnax(**what):
    return envs.from_gymnax(type("Mine", (World,), what)())


class Hosted(gymnasium.Env):
    def __init__(self, observation=theirs.Box(-1, 1, (2,)), action=theirs.Discrete(2)):  # noqa: B008
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        return self.observation_space.low, 1.0, False, False, {}


@pytest.mark.parametrize("space", UNKNOWN, ids=lambda x: type(x).__name__)
def test_a_space_of_another_kind_is_one_clear_line_everywhere(space):
    kind = type(space).__name__
    of_observations = rf"observations must be of a Discrete, a MultiDiscrete or a Box, .*, got {kind}"
    of_actions = rf"actions must be of a Discrete, a MultiDiscrete or a Box, .*, got {kind}"
    for check, line in ((spaces.check_observations, of_observations), (spaces.check_actions, of_actions)):
        with pytest.raises(ValueError, match=f"^mine: {line}; "):
            check(space, "mine")
    with pytest.raises(ValueError, match=of_observations):
        policies.make(by_hand(space, shown={"a": jnp.zeros(2)}))
    for network in ("auto", "mlp", "gru", "table", "cnn"):
        with pytest.raises(ValueError, match=of_actions):
            policies.make(by_hand(action=space), Config(network=network))
    for action in (space, theirs.MultiDiscrete([2, 3]), theirs.MultiBinary(3)):
        with pytest.raises(ValueError, match=f"^Mine: actions of {type(action).__name__} can't be drawn in JAX; give"):
            from_gymnax(action=action)
    for wrong, line in ((dict(observation=space), of_observations), (dict(action=space), of_actions)):
        with pytest.raises(ValueError, match=f"my world: {line}"):
            envs.from_gymnasium(lambda wrong=wrong: Hosted(**wrong), 5, "my world")


@pytest.mark.parametrize("algorithm", sorted(algorithms.ROSTER))
def test_every_algorithm_refuses_what_it_can_not_act_in_or_see(algorithm):
    empty = ours.Tuple([])
    for env, line in (
        (by_hand(action=empty), "actions are Tuple.*, which leaves nothing to do; give one part or more"),
        (by_hand(action=ours.Box(0, 3, (1,), jnp.int32)), "a Box of actions must be of real numbers"),
        (by_hand(ours.Dict({}), shown={}), "observations are Dict.*, which holds nothing to see; give one array"),
    ):
        with pytest.raises(ValueError, match=line):
            plan.plan(algorithm, env)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, bool])
def test_a_box_of_whole_numbers_is_no_action_space(dtype):
    line = f"a Box of actions must be of real numbers, got Box of shape (1,) and type {np.dtype(dtype)}; "
    line += "let the environment"
    hosted = line.replace("int64", "int32")  # JAX has no int64 by default
    with pytest.raises(ValueError, match=re.escape(f"order: {hosted}")):
        envs.from_gymnasium(lambda: Hosted(action=theirs.Box(0, 1, (1,), dtype)), 5, "order")
    for make in (from_gymnax, lambda action: sweeps_environment.made(by_hand(action=action), {})):
        with pytest.raises(ValueError, match=re.escape(line)):
            make(action=ours.Box(0, 1, (1,), dtype))
    for real in (np.float32, np.float64):
        assert envs.from_gymnasium(lambda real=real: Hosted(action=theirs.Box(0, 1, (1,), real)), 5).max_steps == 5


def test_bounds_that_leave_no_action_are_refused():
    for low, high in ((1.0, 0.0), (np.nan, 1.0), (np.array([0.0, 2.0]), np.array([1.0, 1.0]))):
        with pytest.raises(ValueError, match="a Box of actions must have low <= high"):
            from_gymnax(action=ours.Box(low, high, (2,)))
    assert from_gymnax(action=ours.Box(-jnp.inf, jnp.inf, (2,))).action_space.shape == (2,)
    with pytest.raises(ValueError, match="actions must be 1 or more, got Discrete"):
        from_gymnax(action=ours.Discrete(0))


def test_what_is_shown_is_what_the_space_says():
    for shown, got in ((jnp.zeros(3), r"an array \[3\]"), ({"a": jnp.zeros(2)}, "a dict"), (jnp.zeros(()), r"\[\]")):
        with pytest.raises(ValueError, match=f"Mine: reset gives .*{got}.* its space is Box of shape \\(2,\\)"):
            from_gymnax(shown=shown)
        with pytest.raises(ValueError, match=f"reset gives .*{got}"):
            sweeps_environment.made(by_hand(shown=shown), {})


def test_an_env_by_hand_says_its_limit_and_its_spaces_rightly():
    for wrong in (0, -1, 2.5, True, None):
        with pytest.raises(ValueError, match=f"max_steps={wrong!r} is no time limit"):
            sweeps_environment.made(by_hand(max_steps=wrong), {})
    with pytest.raises(ValueError, match="the environment's action_space is one of Gymnasium; give one of gymnax"):
        sweeps_environment.made(by_hand(action=theirs.Discrete(2)), {})


@pytest.mark.parametrize("network", ["auto", "table"])
@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_a_box_of_actions_has_one_axis(network, shape):
    env = by_hand(ours.Discrete(3), ours.Box(-1.0, 1.0, shape), jnp.int32(0))
    with pytest.raises(ValueError, match=re.escape(f"a Box of actions must have one axis, got shape {shape}")):
        policies.make(env, Config(network=network)).init(jax.random.key(0))


def test_a_class_is_a_function_that_makes_a_world():
    assert sweeps_environment.made(World, {}).action_space.n == 2

    class Sized(World):
        def __init__(self, size):
            self.size = size

    for what, line in (
        (Sized, "env 'Sized' must be a function without arguments: missing a required argument: 'size'; give lambda"),
        (lambda size: World(), "must be a function without arguments: missing a required argument: 'size'"),
        (Env, "env 'Env' must be a function without arguments: missing a required argument: 'params'"),
        (lambda: (World(), Params()), r"returned tuple; .* return pgjax.envs.from_gymnax\(env, params\)"),
        (Hosted, r"returned Hosted; .* return pgjax.envs.from_gymnasium\(build, max_steps\)"),
        (Hosted(), r"env must be a name, .* return pgjax.envs.from_gymnasium\(build, max_steps\)"),
    ):
        with pytest.raises(TypeError, match=line):
            sweeps_environment.made(what, {})


WORLD_FILE = """
from gymnasium import spaces as theirs
from gymnax.environments import spaces
from test_spaces import World

class Pair(World):
    action = spaces.Tuple([spaces.Discrete(2), theirs.Text(4)])

class Sized(World):
    def __init__(self, size):
        self.size = size
"""


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("Pair", "pgjax: Pair: actions of Text can't be drawn in JAX; give a space of"),
        ("Sized", "pgjax: env 'Sized' must be a function without arguments"),
    ],
)
def test_the_command_line_says_it_in_one_line(name, line, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(".")
    (tmp_path / "pair.py").write_text(WORLD_FILE)
    assert main(["train", "ppo", "--env", f"{tmp_path}/pair.py:{name}", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(line) and said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def image(*shape, dtype=np.float32):
    return by_hand(ours.Box(0, 255, shape, dtype))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_image_is_convolved_over_its_places_alone(dtype):
    for shape in ((12, 10, 4), (12, 10, 1), (84, 84, 3)):
        assert kernel(image(*shape, dtype=dtype)) == (9 * shape[2], 16)  # 3 x 3 places of all channels


def kernel(env, **options):
    """The shape of the convolution's weights, None where there is none."""
    params = jax.eval_shape(policies.make(env, Config(hidden=(2,), **options)).init, jax.random.key(0))
    return params["eye"]["convolutions"][0]["layer"]["kernel"].shape if "eye" in params else None


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("network", ["auto", "cnn"])
@pytest.mark.parametrize("shape", [(4, 12, 10), (3, 84, 84), (1, 12, 10), (2, 12, 10)])
def test_channels_first_are_known_by_their_number(shape, network, dtype):
    for env in (
        image(*shape, dtype=dtype),
        from_gymnax(observation=ours.Box(0, 255, shape, dtype)),
        envs.from_gymnasium(lambda: Hosted(theirs.Box(0, 255, shape, dtype)), 5),
    ):
        assert kernel(env, network=network) == (9 * shape[0], 16)
        assert kernel(env, network="mlp") is None


@pytest.mark.parametrize("network", ["auto", "cnn"])
def test_channels_in_the_middle_are_refused(network):
    with pytest.raises(ValueError, match="channels in the middle; set layout = 'HWC' or 'CHW' .* network='mlp'"):
        policies.make(image(12, 4, 10), Config(network=network, hidden=(2,)))
    assert kernel(image(12, 4, 10), network="mlp") is None


def test_a_stack_of_grey_frames_is_seen_like_one_with_its_channels_last():
    env, moved = image(4, 12, 10, dtype=np.uint8), image(12, 10, 4, dtype=np.uint8)
    params = policies.make(env, Config(hidden=(2,))).init(jax.random.key(0))
    obs = jax.random.randint(jax.random.key(1), (3, 4, 12, 10), 0, 256).astype(jnp.uint8)
    first = policies.make(env, Config(hidden=(2,))).act(params, (), obs)[0]
    last = policies.make(moved, Config(hidden=(2,))).act(params, (), jnp.moveaxis(obs, 1, -1))[0]
    np.testing.assert_array_equal(first.logits, last.logits)


def test_where_sizes_do_not_tell_the_user_or_the_world_does():
    for shape in ((10, 10, 10), (16, 10, 10), (12, 7, 7), (7, 7, 20)):
        with pytest.raises(ValueError, match="sizes don't say which axis holds the channels; .* say network='cnn'"):
            policies.make(image(*shape))
        assert kernel(image(*shape), network="cnn") == (9 * shape[2], 16)
    known, first = image(5, 7, 20), image(12, 12, 12)
    images.declared(first.observation_space, "CHW")
    assert kernel(first) == (9 * 12, 16)
    images.declared(known.observation_space)
    for env, channels in ((known, 20), (envs.make("Seaquest-MinAtar"), 10)):
        assert kernel(env) == (9 * channels, 16)


def test_critics_with_replay_see_images_alike():
    for name in ("dqn", "sac"):
        with pytest.raises(ValueError, match="channels in the middle"):
            plan.plan(name, image(12, 4, 10), settings={"buffer_size": 64, "warmup": 8, "batch_size": 4})


def test_channels_first_are_drawn_by_channel():
    shape = (4, 12, 10)
    obs = np.random.default_rng(0).uniform(size=(3, *shape)).astype(np.float32)
    first = frames._observation(image(*shape), obs)((), obs[0])
    last = np.moveaxis(obs, 1, -1)
    np.testing.assert_array_equal(first, frames._observation(image(*last.shape[1:]), last)((), last[0]))
