"""A Batch in, a gradient of the policy's parameters out.

Each function here is an EstimatorFn `(key, policy, params, batch, **hypers) -> (gradient, metrics)`;
the gradient is that of a loss, so an optimiser descends it.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from pgjax import batches
from pgjax.advantages import normalized
from pgjax.average import relative_values
from pgjax.loops import remaining, scan_while
from pgjax.losses import checked, is_by_step, policy_gradient
from pgjax.plugs import declare, hyperparameters, name_of
from pgjax.policies import by_observation
from pgjax.transformers import needs_whole_episodes
from pgjax.types import Array, Batch, EstimatorFn, LossFn, PyTree, RunningEstimator

REDUCTIONS = ("step", "episode", "episode_mean")


def surrogate(loss: LossFn, reduce: str = "step") -> EstimatorFn:
    """Lift a loss per step to an estimator: differentiate its reduction over the steps that count.

    Args:
      loss: a LossFn; its hyperparameters become the estimator's.
      reduce: "step", the mean over steps, as actor-critic methods have it; "episode", the sum over
        time averaged over episodes, the unbiased REINFORCE; "episode_mean", the mean over each episode's steps
        averaged over episodes, as GRPO has it. The first divides by the number of steps,
        which the actions decide: over many episodes it tends to J's gradient over the mean length,
        over few it is biased. The last weighs an episode by one over its length, which is biased too.

    The estimator has one hyperparameter of its own: `normalize_advantage`, which gives the advantages
    of each batch (with minibatches: of each minibatch) mean 0 and standard deviation 1.

    On a CPU a batch is taken in pieces where the loss is `losses.by_step`, by a loop that can't be differentiated
    once more in reverse.
    """
    if reduce not in REDUCTIONS:
        raise ValueError(f"surrogate: reduce must be one of {', '.join(REDUCTIONS)}; got {reduce!r}")
    hyperparameters(loss)

    def estimator(key, policy, params, batch, *, normalize_advantage: bool = False, **hypers):
        del key
        mask = batch.trajectory.mask
        if reduce != "step" and mask.ndim != 2:
            raise ValueError(
                f"surrogate(reduce={reduce!r}) needs whole episodes [T, B], got rows {mask.shape}; "
                "use rollout='episodes' or num_minibatches=1"
            )
        # What stands behind an episode's end may be anything, NaN too; a gradient would spread it.
        counted = {name: jnp.where(mask > 0, getattr(batch, name), 0.0) for name in ("advantage", "target", "value")}
        batch = batch._replace(**counted)
        if normalize_advantage:
            magnitude = jnp.maximum(jnp.abs(batch.value), jnp.abs(batch.target))
            batch = batch._replace(advantage=normalized(batch.advantage, mask, magnitude))
        total = jnp.maximum(jnp.sum(mask), 1.0)
        scale = total if reduce == "step" else mask.shape[1]
        alone = is_by_step(loss) and by_observation(policy) and reduce != "episode_mean"
        pieces = _pieces(mask.shape) if alone else 1
        columns = _columns(batch) if is_by_step(loss) and needs_whole_episodes(policy) else 1

        def objective(params, batch):
            mask = batch.trajectory.mask
            output = loss(policy.evaluate(params, batch.trajectory), batch, **hypers)
            per_step, metrics = checked(loss, output, mask.shape)
            if reduce == "episode_mean":
                per_step = per_step / jnp.maximum(jnp.sum(mask, axis=0, keepdims=True), 1.0)
            value = jnp.sum(jnp.where(mask > 0, per_step, 0.0)) / scale
            means = {name: _mean(x, mask, total) for name, x in metrics.items()}
            return value, {"loss": value, **means}

        gradient = functools.partial(jax.grad(objective, has_aux=True), params)
        if columns > 1:
            index = jnp.arange(mask.shape[1]).reshape(columns, -1)
            return _sum(lambda n: gradient(batches.take(batch, n, by_column=True)), index, lambda *_: jnp.bool_(True))
        if pieces == 1:
            return gradient(batch)
        return _packed(gradient, batch) if reduce == "episode" else _summed(gradient, batch, pieces)

    estimator.__name__ = name_of(loss)
    return declare(estimator, loss)


def exact_relative(transition: Array, reward: Array, loss: LossFn = policy_gradient) -> EstimatorFn:
    """`surrogate(loss)` with the exact relative action values of the policy as it is, in a tabular MDP.

    grad gain = sum_s d(s) sum_a grad pi(a | s) q(s, a) (Sutton & Barto 2018, sec. 13.6), the sum over states and
    actions taken over those visited: of d, where the stream is stationary. The batch's advantages play no part.
    The estimator's own hyperparameter `baseline` takes the state's value off: the same mean, less noise.

    Args:
      transition, reward: [S, A, S] and [S, A]; the observation is the state's index. Of a world that ends, those of
        `oracle.continuing`, where the next start follows an end.
    """
    lifted = surrogate(loss)

    def exact_relative(key, policy, params, batch, *, baseline: bool = True, **hypers):
        states = jnp.arange(len(reward))
        dist, _ = policy.act(params, policy.memory(len(reward)), states)
        worth = relative_values(transition, reward, jnp.exp(dist.log_probs()))
        q = worth.action_value - worth.value[:, None] if baseline else worth.action_value
        weight = q[batch.trajectory.obs, batch.trajectory.action]
        return lifted(key, policy, params, batch._replace(advantage=weight), **hypers)

    return declare(exact_relative, lifted)


def early_stopping(estimator: EstimatorFn) -> EstimatorFn:
    """The same, ending an update at the first minibatch whose mean KL is above `stop_kl`; inf never does.

    The step of that minibatch isn't made. The KL is the metric `kl` of the loss, as `losses.ppo_clip` has it: from
    the policy that acted to the one before the step.
    """
    _plain(estimator, "early_stopping")

    def stopping(key, policy, params, batch, *, stop_kl: float = math.inf, **hypers):
        gradient, metrics = estimator(key, policy, params, batch, **hypers)
        return gradient, {**metrics, "stop": _kl(metrics, estimator) > stop_kl}

    stopping.__name__ = name_of(estimator)
    return declare(stopping, estimator)


def adaptive_kl(estimator: EstimatorFn) -> RunningEstimator:
    """The same with a coefficient of the KL penalty, `kl_coef`, that doubles or halves after each update.

    Schulman et al. 2017, sec. 4: doubled where the mean KL of the last epoch is above 1.5 `target_kl`, halved where
    it is below `target_kl` / 1.5; `kl_coef` is what it begins with, and the metric `penalty` what it is. The factor
    stays within 2^-20 and 2^20. The KL is that before each step of the last epoch, the paper's that after the last.
    """
    _plain(estimator, "adaptive_kl")
    if "kl_coef" not in hyperparameters(estimator):
        raise ValueError(
            f"adaptive_kl needs an estimator with the hyperparameter kl_coef; {name_of(estimator)} has none"
        )

    def apply(factor, key, policy, params, batch, *, target_kl: float = 0.01, **hypers):
        del target_kl
        hypers["kl_coef"] = factor * hypers.get("kl_coef", hyperparameters(estimator)["kl_coef"])
        gradient, metrics = estimator(key, policy, params, batch, **hypers)
        return gradient, {**metrics, "penalty": hypers["kl_coef"]}

    def after(factor, metrics, *, target_kl: float = 0.01, **hypers):
        kl = _kl(metrics, estimator)
        factor = jnp.where(kl > 1.5 * target_kl, 2 * factor, jnp.where(kl < target_kl / 1.5, factor / 2, factor))
        return jnp.clip(factor, 2.0**-20, 2.0**20)

    apply.__name__ = name_of(estimator)
    return RunningEstimator(lambda: jnp.ones(()), declare(apply, estimator), after)


def _plain(estimator: EstimatorFn, wrapper: str) -> None:
    if isinstance(estimator, RunningEstimator):
        raise ValueError(
            f"{wrapper} takes an EstimatorFn, and {name_of(estimator)} remembers; wrap it the other way round"
        )


def _kl(metrics, estimator):
    if "kl" not in metrics:
        raise ValueError(f"estimator {name_of(estimator)!r} has no metric 'kl' to go by; let its loss return one")
    return metrics["kl"]


def _mean(x, mask, total):
    """The mean over the steps of the whole batch: the share of this piece of it."""
    return jnp.sum(jnp.where(mask > 0, jax.lax.stop_gradient(x), 0.0)) / total


def _pieces(shape: tuple[int, ...]) -> int:
    """Into how many pieces of the leading axis a batch of this shape, [N] or [T, B], is best cut.

    On a CPU those of 128 steps: their activations stay in the innermost caches, and what stands behind the end of
    all episodes is left out. Many rows are likely those of a lane by itself, whose pieces should be worth sharing
    between the cores. Elsewhere one.
    """
    if jax.default_backend() != "cpu":
        return 1
    steps = 128 if len(shape) == 2 or shape[0] <= 2048 else 8192
    wanted = -(-shape[0] // max(1, steps // math.prod(shape[1:])))
    found = next(n for n in range(wanted, shape[0] + 1) if shape[0] % n == 0)
    return found if found <= 2 * wanted else 1


def _columns(batch: Batch) -> int:
    """Into how many pieces of its columns a batch of token sequences is best cut: on a CPU, some 512 tokens each."""
    if jax.default_backend() != "cpu":
        return 1
    envs, most = batch.trajectory.mask.shape[1], max(1, 512 // batch.trajectory.obs.shape[-1])
    return next(n for n in range(1, envs + 1) if envs % n == 0 and envs // n <= most)


def _packed(function: Callable, batch: Batch) -> PyTree:
    """The sum of function(rows) over the steps that count of whole episodes [T, B], 128 rows at a time.

    Most of a batch may stand behind the ends of its episodes: only what is before them is looked at.
    """
    mask = batch.trajectory.mask
    lengths = jnp.sum(mask > 0, axis=0)  # [B]; what counts comes first
    ends = jnp.cumsum(lengths)

    def rows(first):
        n = first + jnp.arange(128)
        b = jnp.minimum(jnp.sum(ends[None] <= n[:, None], axis=1), mask.shape[1] - 1)
        t = jnp.clip(n - (ends - lengths)[b], 0, jnp.maximum(lengths[b] - 1, 0))
        taken = jax.tree.map(lambda x: x[t, b], batch)
        return taken._replace(trajectory=taken.trajectory._replace(mask=jnp.where(n < ends[-1], mask[t, b], 0.0)))

    firsts = jnp.arange(0, mask.size, 128)
    return _sum(lambda first: function(rows(first)), firsts, lambda _, first: first < ends[-1])


def _summed(function: Callable, batch: Batch, pieces: int) -> PyTree:
    """The sum of function(piece) over equal pieces of the batch's leading axis."""
    cut = jax.tree.map(lambda x: x.reshape(pieces, -1, *x.shape[1:]), batch)
    ahead = remaining(cut.trajectory.mask)
    return _sum(lambda row: function(row[0]), (cut, ahead), lambda _, row: row[1])


def _sum(function: Callable, inputs: PyTree, going: Callable) -> PyTree:
    """The sum of function(row) over the inputs [I, ...] for as long as any lane is going."""
    like = jax.eval_shape(function, jax.tree.map(lambda x: x[0], inputs))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    add = lambda sums, row: (jax.tree.map(jnp.add, sums, function(row)), None)  # noqa: E731
    return scan_while(add, zeros, inputs, going)[0]
