"""Environments of other packages in pgjax against those packages' own loops, one row for each suite.

    python benchmarks/suites.py                   # every suite whose package is installed
    python benchmarks/suites.py --only navix,pgx
    python benchmarks/suites.py --smoke           # a tiny size

Both sides are one jitted scan over vmapped environments with uniformly random actions and a reset where an episode
ended: pgjax's with `Env.reset` and `Env.step`, the package's with its own automatic reset. They run in turn. Both add
up what they show, so no side leaves its observations out. Every name of the suite is made, reset and stepped. Writes
results/suites.json and results/suites.md.
"""

import argparse
import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from common import RESULTS, commit, cpu, spread, write_json

from pgjax import envs
from pgjax.envs import registry, spaces


class Entry(NamedTuple):
    """One suite.

    Attributes:
      package: the distribution, whose version is told.
      env: the name that is timed, without the suite's prefix.
      own: env -> (reset, step) of one environment as the package has it, with its automatic reset:
        reset(key) -> (state, obs), step(key, state) -> (state, obs, reward), with an action that it draws itself.
      limit: what the package calls its time limit, and how it tells of it.
    """

    package: str
    env: str
    own: Callable[[str], tuple[Callable[..., Any], Callable[..., Any]]]
    limit: str


def craftax(name):
    from craftax.craftax_env import make_craftax_env_from_name

    world = make_craftax_env_from_name(name, auto_reset=True)
    params = world.default_params

    def reset(key):
        obs, state = world.reset(key, params)
        return state, obs

    def step(key, state):
        key_action, key_step = jax.random.split(key)
        action = world.action_space(params).sample(key_action)
        obs, state, reward, _, _ = world.step(key_step, state, action, params)
        return state, obs, reward

    return reset, step


def navix(name):
    import navix

    world = navix.make(name)

    def reset(key):
        first = world.reset(key)
        return first, first.observation

    def step(key, state):
        action = jax.random.randint(key, (), 0, len(world.action_set))
        following = world.step(state, action)
        return following, following.observation, following.reward

    return reset, step


def jumanji(name):
    import jumanji
    from jumanji.wrappers import AutoResetWrapper

    world = AutoResetWrapper(jumanji.make(name))

    def reset(key):
        state, first = world.reset(key)
        return state, first.observation

    def step(key, state):
        action = jax.random.randint(key, (), 0, world.action_spec.num_values)
        state, seen = world.step(state, action)
        return state, seen.observation, seen.reward

    return reset, step


def xminigrid(name):
    import xminigrid
    from xminigrid.wrappers import GymAutoResetWrapper

    world, params = xminigrid.make(name)
    world = GymAutoResetWrapper(world)

    def reset(key):
        first = world.reset(params, key)
        return first, first.observation

    def step(key, state):
        following = world.step(params, state, jax.random.randint(key, (), 0, world.num_actions(params)))
        return following, following.observation, following.reward

    return reset, step


def pgx(name):
    import pgx
    from pgx.experimental import auto_reset

    world = pgx.make(name)
    advance = auto_reset(world.step, world.init)

    def reset(key):
        game = world.init(key)
        return game, game.observation

    def step(key, game):
        key_action, key_step = jax.random.split(key)
        game = advance(game, jax.random.randint(key_action, (), 0, world.num_actions), key_step)
        return game, game.observation, game.rewards

    return reset, step


def playground(name):
    from mujoco_playground import registry as playground_registry

    world = playground_registry.load(name, config_overrides={"impl": "jax"})

    # Its wrapper goes back to the first state, kept from the reset.
    def reset(key):
        state = world.reset(key)
        return (state, state.data, state.obs, jnp.int32(0)), state.obs

    def step(key, carry):
        state, first, first_obs, time = carry
        state = world.step(state, jax.random.uniform(key, (world.action_size,), minval=-1.0, maxval=1.0))
        done = (state.done > 0) | (time + 1 >= 1000)
        data, obs = jax.tree.map(lambda a, b: jnp.where(done, a, b), (first, first_obs), (state.data, state.obs))
        following = state.replace(data=data, obs=obs)
        return (following, first, first_obs, jnp.where(done, 0, time + 1)), obs, state.reward

    return reset, step


def envelope(name):
    import envelope

    world = envelope.AutoResetWrapper(env=envelope.create(name))

    def reset(key):
        state, info = world.init(key)
        return state, info.obs

    def step(key, state):
        state, info = world.step(state, world.action_space.sample(key))
        return state, info.obs, info.reward

    return reset, step


# Suite -> how it is measured.
ENTRIES = {
    "craftax": Entry("craftax", "Craftax-Classic-Symbolic-v1", craftax, "max_timesteps; done, discount 0"),
    "navix": Entry("navix", "Navix-Empty-8x8-v0", navix, "max_steps; step_type 1, and 2 at an end"),
    "jumanji": Entry("jumanji", "Snake-v1", jumanji, "time_limit; LAST, discount 0 as at an end"),
    "xminigrid": Entry("xminigrid", "MiniGrid-Empty-8x8", xminigrid, "max_steps; LAST, discount 1"),
    "pgx": Entry("pgx", "minatar-breakout", pgx, "none but Freeway's clock; terminated, as an end"),
    "playground": Entry("playground", "CartpoleBalance", playground, "episode_length; done 1, truncation 1"),
    "envelope": Entry("jax-envelope", "gymnax::CartPole-v1", envelope, "max_episode_steps; truncated, at an end too"),
}


def looked_at(obs):
    """One number of all that is shown."""
    return sum(jnp.sum(x).astype(jnp.float32) for x in jax.tree.leaves(obs))


def ours(name, num_envs, steps):
    """key -> the sum of rewards and of what is shown, by pgjax."""
    env = envs.make(name)

    def step(state, key):
        keys = jax.random.split(key, (3, num_envs))
        actions = jax.vmap(lambda k: spaces.sample(env.action_space, k))(keys[0])
        following, seen = jax.vmap(env.step, (0, None, 0, 0))(keys[1], env.params, state, actions)
        first = jax.vmap(env.reset, (0, None))(keys[2], env.params)
        done = seen.terminated | seen.truncated

        def pick(a, b):
            return jnp.where(done.reshape(done.shape + (1,) * (a.ndim - 1)), a, b)

        state, obs = jax.tree.map(pick, first, (following, seen.obs))
        return state, jnp.sum(seen.reward) + looked_at(obs)

    def run(key):
        key, key_reset = jax.random.split(key)
        state, _ = jax.vmap(env.reset, (0, None))(jax.random.split(key_reset, num_envs), env.params)
        return jnp.sum(jax.lax.scan(step, state, jax.random.split(key, steps))[1])

    return jax.jit(run)


def theirs(entry, num_envs, steps):
    """key -> the sum of rewards and of what is shown, by the package's own functions."""
    reset, step = entry.own(entry.env)

    def one(state, key):
        state, obs, reward = jax.vmap(step)(jax.random.split(key, num_envs), state)
        return state, jnp.sum(reward) + looked_at(obs)

    def run(key):
        key, key_reset = jax.random.split(key)
        state, _ = jax.vmap(reset)(jax.random.split(key_reset, num_envs))
        # A first step settles types: some packages' resets give Python numbers and weak types, which a scan refuses.
        reference = jax.eval_shape(lambda s: jax.vmap(step)(jax.random.split(key, num_envs), s)[0], state)
        state = jax.tree.map(lambda x, like: jnp.asarray(x, like.dtype), state, reference)
        return jnp.sum(jax.lax.scan(one, state, jax.random.split(key, steps))[1])

    return jax.jit(run)


def timed(function, seed):
    key = jax.random.key(seed)
    start = time.perf_counter()
    jax.block_until_ready(function(key))
    return time.perf_counter() - start


def works(name):
    """ "" where the environment can be made, reset and stepped with finite rewards, else why not."""
    try:
        env = envs.make(name)

        def once(key):
            state, _ = env.reset(key, env.params)
            return env.step(key, env.params, state, spaces.sample(env.action_space, key))[1]

        seen = jax.jit(once)(jax.random.key(0))
        return "" if jnp.isfinite(seen.reward) else f"reward {seen.reward}"
    except Exception as error:  # whatever a package raises is a finding here
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def measured(suite, options):
    entry = ENTRIES[suite]
    names = registry.names(suite)
    failed = {name: why for name in names[: options.names] if (why := works(name))}
    sides = [ours(f"{suite}:{entry.env}", options.envs, options.steps), theirs(entry, options.envs, options.steps)]
    for function in sides:
        timed(function, 0)
    seconds = [[timed(function, 1 + i) for function in sides] for i in range(options.repeats)]
    total = options.envs * options.steps
    rates = [[total / x[side] for x in seconds] for side in (0, 1)]
    return {
        "suite": suite,
        "version": importlib.metadata.version(entry.package),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "tried": len(names[: options.names]),
        "failed": failed,
        "limit": entry.limit,
        "timed": entry.env,
        "pgjax_steps_per_second": spread(rates[0]),
        "own_steps_per_second": spread(rates[1]),
        "ratio": spread([a / b for a, b in zip(*rates, strict=True)]),
    }


def table(rows):
    head = ["suite", "Python, jax", "environments", "time limit and its flag", "timed", "pgjax", "own loop", "ratio"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in rows:
        rate = lambda side: f"{row[f'{side}_steps_per_second']['median']:,.0f}"  # noqa: E731, B023
        names = ", ".join(x.partition(":")[2] for x in row["failed"])
        bad = f"; not {names}" if names else ""
        ratio = row["ratio"]
        cells = [
            f"{row['suite']} {row['version']}",
            f"{row['python']}, {row['jax']}",
            f"{row['tried'] - len(row['failed'])} of {row['tried']}{bad}",
            row["limit"],
            row["timed"],
            rate("pgjax"),
            rate("own"),
            f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="suites, separated by commas; by default all that are installed")
    parser.add_argument("--envs", type=int, default=256, help="environments side by side")
    parser.add_argument("--steps", type=int, default=256, help="steps of each")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--names", type=int, default=None, help="at most this many names of each suite are tried")
    parser.add_argument("--smoke", action="store_true", help="a tiny size, printed and not written")
    options = parser.parse_args()
    if options.smoke:
        options.envs, options.steps, options.repeats, options.names = 2, 4, 1, 2
    warnings.simplefilter("ignore")
    rows = []
    for suite in options.only.split(",") if options.only else ENTRIES:
        try:
            importlib.metadata.version(ENTRIES[suite].package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{suite}: the package {ENTRIES[suite].package} isn't installed; left out")
            continue
        rows.append(measured(suite, options))
        print(table(rows[-1:]), flush=True)
        for name, why in rows[-1]["failed"].items():
            print(f"  {name}: {why}")
    if not options.smoke:
        write_json(RESULTS / "suites.json", {"commit": commit(), "cpu": cpu(), "rows": rows})
        (RESULTS / "suites.md").write_text(
            f"Steps per second of {options.envs} environments, random actions; medians of {options.repeats} runs in "
            f"turn, the ratio with its range.\n\n{table(rows)}"
        )


if __name__ == "__main__":
    main()
