"""pgx's games for one player against pgx itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from package_loops import allowed, ends, played

from pgjax import envs, rollout, testing
from pgjax.config import Config
from pgjax.envs import observations, registry
from pgjax.envs.suites import pgx as ours
from pgjax.policies.registry import make

pgx = pytest.importorskip("pgx")

GOES_ON, TERMINATED, TRUNCATED = (False, False), (True, False), (False, True)


def own(name, **arguments):
    """The reset and step of pgx."""
    world = pgx.make(name)
    world = type(world)(**arguments) if arguments else world
    masked = name == "2048"

    def shown(game):
        seen = game.observation
        return {"observation": seen, observations.MASK: game.legal_action_mask} if masked else seen

    def reset(key):
        game = world.init(key)
        return game, shown(game)

    def step(key, game, action):
        game = world.step(game, action, key)
        return game, shown(game), game.rewards, game.terminated

    return reset, step


def test_an_episode_is_pgxs_own_until_the_ball_falls_which_terminates():
    env = envs.make("pgx:minatar-breakout")
    found = played(env, *own("minatar-breakout"), 300, seed=1)
    assert ends(found) == [GOES_ON] * (len(found) - 1) + [TERMINATED] and len(found) < 300
    assert found[0].obs.dtype == bool == env.observation_space.dtype
    assert env.observation_space.layout == "HWC" and env.max_steps == 10_000


def test_the_limit_truncates_at_the_observation_of_the_episode_that_ended():
    env = envs.make("pgx:minatar-breakout", max_steps=4, sticky_action_prob=0.0)
    # The step itself is compared with pgx's, whose game goes on.
    found = played(env, *own("minatar-breakout", sticky_action_prob=0.0), 10)
    assert ends(found) == [GOES_ON] * 3 + [TRUNCATED] and env.max_steps == 4
    policy = make(env, Config(network="mlp", hidden=(4,)))

    def unrolled(key):
        params = policy.init(key)
        return rollout.unroll(key, env, policy, params, rollout.start(key, env, policy, 2), 6)[1]

    seen = jax.jit(unrolled)(jax.random.key(0))
    np.testing.assert_array_equal(seen.truncated[:, 0], [0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(seen.time[:, 1], [0, 1, 2, 3, 0, 1])
    assert not seen.terminated.any()
    # The fifth row begins anew: its trail, the ball's last place, is where the ball is.
    np.testing.assert_array_equal(seen.obs[4, ..., 1], seen.obs[4, ..., 2])
    assert (seen.next_obs[3, ..., 1] != seen.next_obs[3, ..., 2]).any()


@pytest.mark.slow
def test_freeways_clock_truncates_and_may_be_set():
    steps = ours.FREEWAY + 20
    keys = jax.random.split(jax.random.key(1), steps)
    reset, step = own("minatar-freeway")

    def theirs():
        def one(game, key):
            game, obs, reward, done = step(key, game, jnp.where(jax.random.uniform(key) < 0.9, 1, 2))
            return game, (obs, reward[0], done)

        return jax.lax.scan(one, reset(jax.random.key(0))[0], keys)[1]

    def mine(env):
        def one(state, key):
            return env.step(key, env.params, state, jnp.where(jax.random.uniform(key) < 0.9, 1, 2))

        return jax.lax.scan(one, env.reset(jax.random.key(0), env.params)[0], keys)[1]

    obs, reward, done = allowed(theirs)()
    usual = allowed(lambda: mine(envs.make("pgx:minatar-freeway")))()
    longer = allowed(lambda: mine(envs.make("pgx:minatar-freeway", max_steps=steps)))()
    assert int(jnp.argmax(done)) == ours.FREEWAY - 1 and reward.sum() > 0
    for found, limit in ((usual, ours.FREEWAY), (longer, steps)):
        assert not found.terminated.any()
        np.testing.assert_array_equal(np.flatnonzero(found.truncated)[0], limit - 1)
        np.testing.assert_array_equal(found.reward[: ours.FREEWAY], reward[: ours.FREEWAY])
        np.testing.assert_array_equal(found.obs[: ours.FREEWAY], obs[: ours.FREEWAY])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["minatar-asterix", "minatar-breakout", "minatar-freeway", "minatar-seaquest", "minatar-space_invaders"]
)
def test_the_games_of_minatar_are_pgxs_own(name):
    env = envs.make(f"pgx:{name}", max_steps=60)
    testing.check_env(env)
    found = played(env, *own(name), 60, seed=2)
    assert ends(found)[-1] in (TERMINATED, TRUNCATED)


def test_2048_shows_which_moves_are_legal_and_an_illegal_one_ends_it():
    env = envs.make("pgx:2048")
    testing.check_env(env)
    observations.check_mask(env.observation_space, env.action_space)
    legal = lambda key, obs: jax.random.categorical(key, jnp.where(obs["action_mask"], 0.0, -jnp.inf))  # noqa: E731
    found = played(env, *own("2048"), 40, choose=legal)
    assert ends(found) == [GOES_ON] * 40 and sum(x.reward for x in found) > 0
    illegal = lambda key, obs: jnp.argmin(obs["action_mask"])  # noqa: E731
    found = played(env, *own("2048"), 200, choose=illegal)
    assert ends(found)[-1] == TERMINATED and found[-1].reward == -1


@pytest.mark.slow
def test_2048_ends_where_no_move_is_left():
    env = envs.make("pgx:2048")
    legal = lambda key, obs: jax.random.categorical(key, jnp.where(obs["action_mask"], 0.0, -jnp.inf))  # noqa: E731
    found = played(env, *own("2048"), 2000, choose=legal)
    assert ends(found)[-1] == TERMINATED and found[-1].reward >= 0 and found[-1].obs["action_mask"].all()


def test_names_and_settings():
    assert ours.names() == list(ours.NAMES)
    for name in ours.names():
        assert pgx.make(name).num_players == 1
    assert registry.settable("pgx:2048") == {"max_steps": 10_000}
    assert registry.settable("pgx:minatar-freeway") == {
        "use_minimal_action_set": True,
        "sticky_action_prob": 0.1,
        "max_steps": 2501,
    }
    assert envs.make("pgx:minatar-freeway", use_minimal_action_set=False).action_space.n == 6


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("pgx:minatar-brekout", {}, "no environment 'pgx:minatar-brekout'; did you mean 'pgx:minatar-breakout'?"),
        ("pgx:chess", {}, "pgx:chess is a game for several players; choose from pgx:2048, "),
        ("pgx:2048", {"sticky": 0.1}, "pgx:2048 takes no parameter 'sticky'; choose from max_steps"),
        ("pgx:2048", {"max_steps": 0}, "max_steps=0 is no time limit; give a whole number of steps, from 1 to "),
    ],
)
def test_bad_names_and_arguments_are_one_line(name, given, message):
    with pytest.raises(ValueError) as caught:
        envs.make(name, **given)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="pgx:tic_tac_toe is a game for 2 players; give one for a single player"):
        ours.from_pgx(pgx.make("tic_tac_toe"))
