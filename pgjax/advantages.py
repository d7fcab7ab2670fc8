"""A Trajectory and what the policy says of it in; (advantage, target) out, each [T, B].

Each function here is an AdvantageFn: its keyword-only arguments are its hyperparameters. No gradient
flows through what it returns.
"""

import jax
import jax.numpy as jnp

from pgjax import average, moments, returns
from pgjax.groups import group_relative, leave_one_out, mean_of_others
from pgjax.types import AdvantageFn, Array, Evaluation, RunningAdvantage, Trajectory


def gae(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: float = 0.99,
    gae_lambda: float = 0.95,
    normalize: bool = False,
) -> tuple[Array, Array]:
    """Generalised advantage estimation (Schulman et al. 2016, eq. 16); target A_t + V_t.

    Args:
      normalize: subtract the mean and divide by the standard deviation over the whole batch; biased. The
        estimators' `normalize_advantage` does so in each minibatch.
    """
    advantage = returns.gae(
        trajectory.reward,
        now.value,
        now.next_value,
        trajectory.terminated,
        trajectory.truncated,
        discount,
        gae_lambda,
    )
    target = advantage + now.value
    if normalize:
        advantage = normalized(advantage, trajectory.mask, jnp.maximum(jnp.abs(now.value), jnp.abs(target)))
    return advantage, target


def v_trace(
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: float = 0.99,
    v_trace_lambda: float = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
) -> tuple[Array, Array]:
    """V-trace (Espeholt et al. 2018, sec. 4): A_t = rho_t (r_t + gamma v_{t+1} - V_t), target v_t.

    rho = min(clip_rho, pi / b), of the policy that learns to that which acted, is in the advantage already: use it
    with `losses.policy_gradient`, not with a loss of ratios, which would correct twice. Where both policies are
    the same and v_trace_lambda is 1, v_t is the n-step return.
    """
    log_rho = jax.lax.stop_gradient(now.log_prob - trajectory.log_prob)
    target, advantage = returns.v_trace(
        jnp.where(trajectory.mask > 0, log_rho, 0.0),
        trajectory.reward,
        now.value,
        now.next_value,
        trajectory.terminated,
        trajectory.truncated,
        discount,
        v_trace_lambda,
        clip_rho,
        clip_c,
    )
    return advantage, target


def td(trajectory: Trajectory, now: Evaluation, *, discount: float = 0.99) -> tuple[Array, Array]:
    """One-step temporal difference: A_t = r_t + gamma V'_t - V_t (Sutton & Barto 2018, sec. 13.5)."""
    bootstrap, _ = returns.discounts(trajectory.terminated, trajectory.truncated, discount)
    target = trajectory.reward + bootstrap * now.next_value
    return target - now.value, target


def n_step(trajectory: Trajectory, now: Evaluation, *, discount: float = 0.99, n: int = 5) -> tuple[Array, Array]:
    """n-step return minus value (Mnih et al. 2016, sec. 4)."""
    target = returns.n_step_return(
        trajectory.reward, now.next_value, trajectory.terminated, trajectory.truncated, discount, n
    )
    return target - now.value, target


BASELINES = ("none", "constant", "running_mean", "leave_one_out", "value")


def _monte_carlo(
    state: moments.Moments,
    trajectory: Trajectory,
    now: Evaluation,
    *,
    discount: float = 0.99,
    reward_to_go: bool = True,
    gamma_t: bool = False,
    baseline: str = "none",
    constant: float = 0.0,
    normalize: bool = False,
    bootstrap: bool = False,
    importance: bool = False,
) -> tuple[moments.Moments, tuple[Array, Array]]:
    """Monte-Carlo return minus a baseline: the weights of REINFORCE (Williams 1992, eq. 11).

    Args:
      reward_to_go: weigh each action by what followed it, G_t; otherwise by the return of the whole
        episode, G_0, discounted from its start (in a stream: from its first step in the array).
      gamma_t: multiply by gamma^t: needed for the gradient of the discounted J (Sutton & Barto 2018,
        sec. 13.3), commonly left out. For G_0, whose discount counts from the start already, the
        factor belongs to no equation and is refused.
      baseline: "none"; "constant", of the value `constant`; "running_mean", of all returns so far,
        this batch included (which makes it depend on the actions: a bias of order 1 / count);
        "leave_one_out", the mean of the other episodes' returns at the same t, 0 for those that have
        ended (Kool et al. 2019); "value", the learned critic.
      normalize: subtract the mean and divide by the standard deviation over the batch; biased.
      bootstrap: complete a truncated episode by the critic's value. Otherwise the return is that of
        the rewards within the time limit, and J is the return within it.
      importance: correct for another policy than this one having acted: what led to a step by the product
        of the ratios rho = pi / b before it, what followed by G_t = r_t + gamma rho_{t+1} G_{t+1}, per
        decision (Precup, Sutton & Singh 2000, eq. 4). The action's own ratio is the loss's to correct; it is
        missing from the critic's target, so the critic is that of actions drawn from b and then pi. In a
        stream, what came before the array's first step isn't corrected for.

    The critic's target is the return; with any baseline but "value" it is the critic's own value, so
    that there is nothing to learn.
    """
    if baseline not in BASELINES:
        raise ValueError(f"monte_carlo: baseline must be one of {', '.join(BASELINES)}; got {baseline!r}")
    if gamma_t and not reward_to_go:
        raise ValueError("monte_carlo: gamma_t=True needs reward_to_go=True; G_0 is discounted already")
    if importance and not reward_to_go:
        raise ValueError("monte_carlo: importance=True needs reward_to_go=True; ratios correct decision by decision")
    mask, ended = trajectory.mask, trajectory.terminated | trajectory.truncated
    before, after = _ratios(trajectory, now, ended) if importance else (1.0, 1.0)
    to_go = returns.discounted_return(
        trajectory.reward,
        trajectory.terminated,
        trajectory.truncated,
        discount * after,
        now.next_value if bootstrap else None,
    )
    weight = to_go if reward_to_go else _from_the_start(to_go, trajectory)
    state = moments.update(state, weight, mask)

    if baseline == "leave_one_out":
        if mask.shape[1] < 2:
            raise ValueError("monte_carlo: baseline='leave_one_out' needs two environments or more, num_envs is 1")
        reference = mean_of_others(weight * mask if reward_to_go else weight)
    else:
        reference = {
            "none": jnp.zeros(()),
            "constant": jnp.asarray(constant),
            "running_mean": state.mean,
            "value": now.value,
        }[baseline]
    advantage = before * (weight - reference)
    if normalize:
        advantage = normalized(advantage, mask, jnp.abs(before * weight))
    if gamma_t:
        advantage = advantage * discount ** trajectory.time.astype(advantage.dtype)
    return state, (advantage, to_go if baseline == "value" else now.value)


monte_carlo = RunningAdvantage(init=lambda: moments.empty(0.0), apply=_monte_carlo)


def _ratios(trajectory: Trajectory, now: Evaluation, ended: Array) -> tuple[Array, Array]:
    """The product of pi / b over the steps before each in its episode, and the ratio of the step after; [T, B]."""
    rho = jax.lax.stop_gradient(jnp.exp(now.log_prob - trajectory.log_prob))
    rho = jnp.where(trajectory.mask > 0, rho, 1.0)  # behind an end the product would go on, out of range
    one = jnp.ones_like(rho[:1])
    after = jnp.where(ended, 1.0, jnp.concatenate([rho[1:], one]))

    def step(product, inputs):
        rho, time = inputs
        product = jnp.where(time == 0, 1.0, product)
        return product * rho, product

    return jax.lax.scan(step, one[0], (rho, trajectory.time))[1], after


def exact_value(expected_reward: Array) -> AdvantageFn:
    """The AdvantageFn r - sum_a pi(a | s) R(s, a), for worlds in which one decision is an episode: bandits.

    Its baseline is the exact value of the policy that is being learned, where others estimate it.

    Args:
      expected_reward: R, [S, A], of every discrete observation and action.
    """
    expected_reward = jnp.asarray(expected_reward)
    if expected_reward.ndim != 2:
        raise ValueError(f"exact_value: expected_reward must be [S, A], got shape {expected_reward.shape}")

    def exact_value(trajectory, now):
        pi = jnp.exp(now.dist.log_probs())
        if pi.shape[-1] != expected_reward.shape[1]:
            raise ValueError(f"exact_value: expected_reward has {expected_reward.shape[1]} actions, pi {pi.shape[-1]}")
        return trajectory.reward - jnp.sum(pi * expected_reward[trajectory.obs], axis=-1), now.value

    return exact_value


def normalized(advantage: Array, mask: Array, magnitude: Array | None = None) -> Array:
    """Mean 0 and standard deviation 1 over the steps that count, however small or large the advantages are.

    All are 0 where they differ by rounding alone, as `moments.standard` has it. One step by itself keeps its
    advantage, whose mean and deviation would say nothing.

    Args:
      magnitude: of the returns and values that the advantage is the difference of, where it is known.
    """
    centred, deviation = moments.standard(advantage, mask, magnitude)
    alone = jnp.sum(mask > 0) == 1
    found = centred / jnp.where(deviation == 0, 1.0, deviation)
    return jnp.where(alone & (mask > 0), advantage, found)


def _from_the_start(to_go: Array, trajectory: Trajectory) -> Array:
    """G_0 of the episode that each step belongs to: the return at its first step in the array."""

    def step(g, inputs):
        g = jnp.where(inputs[1] == 0, inputs[0], g)
        return g, g

    return jax.lax.scan(step, to_go[0], (to_go, trajectory.time))[1]


ADVANTAGES = {
    "gae": gae,
    "v_trace": v_trace,
    "td": td,
    "n_step": n_step,
    "monte_carlo": monte_carlo,
    "leave_one_out": leave_one_out,
    "group_relative": group_relative,
    "differential": average.differential,
    "relative": average.relative,
    "relative_return": average.relative_return,
}
