"""Problems that never end: which relative action values learn, and whose gradient is that of the gain?

    python experiments/average_reward.py            # three to four minutes
    python experiments/average_reward.py --smoke    # a size for tests

256 seeds, 32,768 steps, each at the better of two rates; estimates of 1,024 steps at the uniform policy. Random MDP
(best gain 1.0546, uniform .1643): exact q 1.0398, relative TD 1.0400, differential TD 1.0391, one rollout cut at 8
steps 1.0395, at 64 1.025 +- .002, 8 rollouts of 128 steps cut at 64 .977 +- .004. A rollout's own mean reward holds
what followed the action: that shortens the gradient by length / steps and leaves its direction. The bias is .503 +-
.007 |d| for 64 / 128, .054 +- .009 for 64 / 1024; several short rollouts for a long one buy no variance (.042, .051).
Pasture (best .6364, uniform .5): what is done is felt for 18 steps. Cut at 8 the gradient points away (cosine -1.00)
and the gain falls to .409, at the larger rate to .376; cut at 64 no bias is seen, but a variance of 24 |d|^2, and
.586 +- .004 is reached. q - v has about a hundredth of q's variance: .633 for .618. Critics are as short-sighted after
1,024 steps (cosine -1.00, -.98), and their learners go down first. After 16,384 both are straight: differential, short
by .08 +- .02, as its gain follows the state (it reaches .632); relative, long by .20 +- .02 (.613), and by 1.31 if
the critic's step is .1 for .02.
"""

import argparse
import itertools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import advantages, envs, hyperparameters, oracle, policies, rollout, variance
from pgjax.algorithms import on_policy
from pgjax.config import Config
from pgjax.estimators import exact_relative, surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import action_value_error, actor_critic, policy_gradient, value_error
from pgjax.numerics import relative_values
from pgjax.optimizers import sgd
from pgjax.training import loop, vectorised
from pgjax.types import Algorithm, Batch, Running
from pgjax.variance.findings.table import show

STEPS = 1024  # of one estimate, and of one update where there is no critic
CRITIC = 0.02  # step of a learned critic for each visit, whatever the policy's
NEVER = 10**6  # a time limit that no stream reaches
SIDE = 64  # estimates that run side by side
LEFT_OUT = ("1 rollout, length 64", "differential TD")  # at the size for tests


class Case(NamedTuple):
    """How one learner comes by the worth of an action."""

    advantage: Callable | Running
    estimator: Callable
    config: Config
    critic: Callable | None = None  # the loss of the critic that is learned


def pasture():
    """Two states, lush and bare; grazing pays 1 or .3 and wears the pasture out, resting pays .7 or 0 and lets it grow.

    Lush turns bare with probability .05 a step if grazed and .005 if not, bare turns lush with .005 and .05: what is
    done to the land is felt for 18 steps. Over fewer, grazing looks the better; for ever, resting is, in both states.
    """
    wears, grows = np.array([0.05, 0.005]), np.array([0.005, 0.05])
    transition = np.stack([np.stack([1 - wears, wears], axis=1), np.stack([grows, 1 - grows], axis=1)])
    reward, start = np.array([[1.0, 0.7], [0.3, 0.0]]), np.array([0.5, 0.5])
    return envs.make("TabularMDP-pgjax", transition=transition, reward=reward, start=start, horizon=NEVER)


def cases(env):
    nothing = lambda trajectory, now: (jnp.zeros_like(now.value), now.value)  # noqa: E731
    exactly, plain = exact_relative(env.params.transition, env.params.reward), surrogate(policy_gradient)
    one, eight = Config(num_envs=1, num_steps=STEPS), Config(num_envs=8, num_steps=STEPS // 8)
    online, online_q = (Config(num_envs=1, num_steps=8, critic=critic) for critic in ("value", "action_value"))
    relative = surrogate(actor_critic(policy_gradient, action_value_error))
    return {
        "exact q - V": Case(nothing, exactly, one),
        "exact q": Case(nothing, bind(exactly, baseline=False), one),
        "1 rollout, length 8": Case(bind(advantages.relative_return, length=8), plain, one),
        "1 rollout, length 64": Case(bind(advantages.relative_return, length=64), plain, one),
        "8 rollouts, length 64": Case(bind(advantages.relative_return, length=64), plain, eight),
        "relative TD": Case(advantages.relative, relative, online_q, action_value_error),
        "differential TD": Case(advantages.differential, surrogate(actor_critic(policy_gradient)), online, value_error),
    }


def optimum(env):
    """(gain, actions [S]) of the best policy: in a unichain MDP a deterministic stationary one (Puterman 1994, 8.4)."""
    mdp = oracle.from_env(env, 1.0)
    states, actions = mdp.reward.shape
    choices = itertools.product(range(actions), repeat=states)
    return max((float(oracle.average_reward(mdp, np.eye(actions)[list(choice)]).gain), choice) for choice in choices)


def curves(env, case, rates, seeds, steps, points):
    """Exact gain [points + 1, H, S] of every lane's policy along training; H rates x S seeds are lanes.

    A rate is the policy's step size for each step in the world: the learning rate is it times the steps of an update,
    so that with exact gradients and small rates every learner would go the same way at the same speed.
    """
    algorithm = Algorithm(case.advantage, case.estimator, sgd)
    learns = on_policy.make_learner(env, policies.make(env, case.config), algorithm, case.config)
    batch = case.config.num_envs * case.config.num_steps
    settings = []
    for rate in rates:
        own = {"value_coef": CRITIC / rate} if case.critic else {}  # the critic has a step of its own
        settings.append(
            hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": rate * batch}, estimator=own)
        )
    keys, hypers = vectorised.lanes(settings, list(range(seeds)))

    @jax.jit
    def gains(states):
        pi = jax.nn.softmax(states.learner.params["preference"])
        return jax.vmap(lambda pi: relative_values.relative_values(env.params.transition, env.params.reward, pi).gain)(
            pi
        )

    states = jax.jit(lambda keys, hypers: vectorised.init(keys, learns, hypers))(keys, hypers)
    segment = jax.jit(lambda *lanes: vectorised.segment(lanes[0], learns, *lanes[1:], steps // points // batch))
    found = [gains(states)]
    for _ in range(points):
        states, _ = segment(keys, states, hypers)
        found.append(gains(states))
    assert bool(jnp.all(states.finite)), "a lane left the range of the numbers"
    return np.asarray(found, np.float64).reshape(points + 1, len(rates), seeds)


def sampler(env, started, case, trained):
    """SIDE independent estimates of STEPS steps each, their mean.

    Where a critic is learned, each trains its own for `trained` steps first, online, with the policy frozen: the
    learner is the same but for its loss, which is the critic's alone, so that nothing moves the policy. Then critic
    and gain stand still for STEPS steps more. The others start from the stationary distribution.
    """
    policy, estimator = policies.make(env, case.config), case.estimator
    envs_, steps = (1, STEPS) if case.critic else (case.config.num_envs, case.config.num_steps)
    advantage = case.advantage
    if not isinstance(advantage, Running):
        advantage = Running(lambda *_: (), lambda state, *args: (state, case.advantage(*args)))
    if case.critic:
        estimator = bind(estimator, value_coef=0.0)  # the policy's part of the gradient
        algorithm = Algorithm(case.advantage, surrogate(case.critic), sgd)
        frozen = on_policy.make_learner(started, policy, algorithm, case.config)
        hypers = hyperparameters.default_hypers(algorithm, optimizer={"learning_rate": CRITIC * case.config.num_steps})

    def one(key, preference):
        key_start, key_train, key_steps, key_init, key_last = jax.random.split(key, 5)
        own = {**policy.init(key_init), "preference": preference}
        memory, stream = advantage.init(), rollout.start(key_start, started, policy, envs_)
        if case.critic:
            state = loop.init(key_train, frozen, hypers)
            state = state._replace(learner=state.learner._replace(params=own))
            state, _ = loop.train(key_train, frozen, state, hypers, trained // case.config.num_steps)
            own, memory, stream = state.learner.params, state.learner.advantage, state.learner.rollout
        _, trajectory = rollout.unroll(key_steps, env, policy, own, stream, steps)
        now = policy.evaluate(own, trajectory)
        _, (weight, target) = advantage.apply(memory, trajectory, now)
        return estimator(key_last, policy, own, Batch(trajectory, weight, target, now.value))[0]["preference"]

    def gradient(key, params):
        found = jax.vmap(one, (0, None))(jax.random.split(key, SIDE), params["preference"])
        return {"preference": -jnp.mean(found, axis=0), "value": jnp.zeros_like(params["value"])}

    return variance.Sampler(gradient, batch=SIDE)


def measured(env, chosen, trained, estimates):
    """The laboratory's Report on every case's gradient of the gain, at the uniform policy, where learning begins."""
    policy, mdp = policies.make(env), oracle.from_env(env, 1.0)
    params = policy.init(jax.random.key(0))
    stationary = oracle.average_reward(mdp, oracle.probabilities(policy, params, len(mdp.start))).stationary
    started = env._replace(params=env.params.replace(start=jnp.asarray(stationary, jnp.float32)))
    samplers = {}
    for name, case in chosen.items():
        for k in trained if case.critic else trained[:1]:
            samplers[f"{name} after {k}" if case.critic else name] = sampler(env, started, case, k)
    return variance.compare(
        samplers,
        env._replace(max_steps=2),  # the laboratory's own episodes, which nobody here looks at
        policy,
        params,
        gradient=lambda params: oracle.average_reward_gradient(mdp, policy, params)[1],
        episodes=estimates,
        batch=(1, SIDE),
        pilot=1,
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/average_reward"))
    options = parser.parse_args(arguments)
    rates, seeds, steps, points = ((8e-3,), 32, 8192, 4) if options.smoke else ((2e-3, 8e-3), 256, 32768, 32)
    trained, estimates = ((256,), 512) if options.smoke else ((1024, 16384), 1024)
    found = {}
    for world, env in {"random MDP": envs.make("TabularMDP-pgjax", horizon=NEVER), "pasture": pasture()}.items():
        best, actions = optimum(env)
        chosen = {name: case for name, case in cases(env).items() if not (options.smoke and name in LEFT_OUT)}
        gains = {name: curves(env, case, rates, seeds, steps, points) for name, case in chosen.items()}
        report = measured(env, chosen, trained, estimates)
        found[world] = {"optimum": best, "gains": gains, "report": report}
        show_world(world, best, actions, gains, rates, steps, report)
    draw(options.out, found, steps)
    return found


def show_world(world, best, actions, gains, rates, steps, report):
    print(
        f"\n{world}: best gain {best:.4f} by actions {actions}, uniform {gains['exact q'][0, 0, 0]:.4f}; {steps} steps"
    )
    for name, path in gains.items():
        cells = [
            f"rate {rate:g}: {end.mean():.4f} ± {end.std(ddof=1) / end.size**0.5:.4f} ({end.mean() / best:.1%})"
            for rate, end in zip(rates, path[-1], strict=True)
        ]
        print(f"{name:28s}{'   '.join(cells)}")
    print(f"gradients at the uniform policy: {report.summary['episodes']} of {STEPS} steps against the exact one")
    columns = f"{'variance of one':>26s}{f'cosine, mean of {SIDE}':>24s}   cosine of the expectation"
    print(f"{'':28s}{'bias / norm':>18s}{'z':>7s}{columns}")
    for name, row in report.summary["estimators"].items():
        cells = [show(x) for x in (row["relative_bias"], row["trace"], row["cosine"][-1], row["mean_cosine"])]
        print(f"{name:28s}{cells[0]:>18s}{row['bias_z']:7.1f}{cells[1]:>26s}{cells[2]:>24s}   {cells[3]}")


def draw(out, found, steps):
    from matplotlib.figure import Figure

    learning, bias = (Figure(figsize=(11, 4), layout="constrained") for _ in range(2))
    for (world, one), left, right in zip(found.items(), learning.subplots(1, 2), bias.subplots(1, 2), strict=True):
        colours = {name: f"C{k}" for k, name in enumerate(one["gains"])}
        for name, path in one["gains"].items():
            path = path[:, int(np.argmax(path[-1].mean(axis=-1)))]
            x = np.linspace(0, steps, len(path))
            left.fill_between(x, *np.quantile(path, [0.1, 0.9], axis=1), color=colours[name], alpha=0.1, lw=0)
            left.plot(x, path.mean(axis=1), color=colours[name], label=name)
        left.axhline(one["optimum"], color="0.2", lw=1, ls="--", label="best policy")
        left.set(xlabel="environment steps", ylabel="exact gain of the policy", title=f"{world}, best rate of each")
        summary, marker = one["report"].summary, {}
        for name, row in summary["estimators"].items():
            x, (y, e) = row["trace"]["value"] / summary["gradient_norm"]["value"] ** 2, row["relative_bias"].values()
            case, known = name.partition(" after ")[0], row["bias_z"] > 3 and y > 2 * e
            marker[case] = "s" if case in marker else "o"
            style = {"fmt": marker[case], "color": colours[case], "label": name, "capsize": 2}
            right.errorbar(x, y if known else y + 2 * e, 2 * e if known else None, mfc=None if known else "w", **style)
        right.set(xscale="log", yscale="log", ylabel="bias / norm of the gradient", title=f"{world}, uniform policy")
        right.set(xlabel=f"variance of one estimate of {STEPS} steps / squared norm")
    out.mkdir(parents=True, exist_ok=True)
    for name, figure, title in (("learning", learning, "mean; 10 to 90 %"), ("bias", bias, "open: upper limit")):
        for axes in figure.axes:
            axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), title=title)
        figure.savefig(out / f"{name}.png", dpi=150)


if __name__ == "__main__":
    main()
