"""Plans a comparison: which estimators to measure on how many episodes, in chunks of which size."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from pgjax.envs import observations
from pgjax.oracle import mdp as oracle_mdp
from pgjax.oracle.mdp import MDP, probabilities
from pgjax.types import Env, Policy, PyTree
from pgjax.variance import checks
from pgjax.variance.estimators.custom import Estimator
from pgjax.variance.estimators.score_functions import ScoreFunction
from pgjax.variance.measurement import decomposition, scores, truths
from pgjax.variance.measurement.measure import Setup

# The estimator that stands for the true gradient where none is known exactly.
REFERENCE = ScoreFunction(baseline="value")
BRANCH_STATES = 64  # states of one call of the decomposition


class Options(NamedTuple):
    """How a comparison measures; each is explained at `compare.prepare`."""

    discount: float
    pilot: int
    damping: float
    states: int
    timing: bool
    gradient: Callable[[PyTree], PyTree] | None
    progress: Callable[[str, float], None]


class Plan(NamedTuple):
    """The estimators, episodes and devices of a comparison."""

    options: Options
    setup: Setup  # of the estimators
    reference: Setup  # of the reference, which runs where the gradient isn't known exactly
    total: int  # episodes, whole chunks on each device
    reference_episodes: int
    mdp: MDP | None  # where the environment can be enumerated
    devices: list[Any]

    @property
    def rows(self) -> dict[str, ScoreFunction]:
        """The estimators that are rows of the grid."""
        return {name: one for name, one in self.setup.estimators.items() if isinstance(one, ScoreFunction)}

    @property
    def natural(self) -> list[str]:
        """Names of the rows that the inverse Fisher matrix multiplies."""
        return [name for name, row in self.rows.items() if row.precondition == "natural"]

    @property
    def branched(self) -> dict[str, ScoreFunction]:
        """Rows whose variance splits into trajectory, action and state; none where no states were asked for."""
        plain = {name: row for name, row in self.rows.items() if row.batch == 1 and not row.over_actions}
        kept = {n: row for n, row in plain.items() if (row.surrogate, row.precondition) == ("score", "none")}
        return kept if self.options.states else {}

    @property
    def num_states(self) -> int:
        """States of a tabular environment, else 1."""
        return getattr(observations.content(self.setup.env.observation_space), "n", 1)


def make_plan(
    chosen: dict[str, Estimator],
    env: Env,
    policy: Policy,
    params: PyTree,
    options: Options,
    episodes: int,
    batch: tuple[int, ...],
    reference_episodes: int | None,
    devices: Any,
) -> Plan:
    """The plan, with sizes rounded up to whole chunks.

    Raises:
      ValueError: for estimators that can't be had here, and sizes that don't fit.
    """
    mdp = checks.enumerable(env, policy, options.discount) if options.gradient is None else None
    checks.possible(chosen, env, policy, mdp, options.discount)
    levels, total = checks.levels(chosen, batch, episodes)
    wanted = 4 * total if reference_episodes is None else reference_episodes
    if options.gradient is not None:
        wanted = 256  # unused: the gradient is given
    checks.counts(pilot=(options.pilot, 1), states=(options.states, 0), reference_episodes=(wanted, 256))
    if mdp is not None:
        oracle_mdp.values(
            mdp, probabilities(policy, params, len(mdp.start), mdp.legal)
        )  # raises if it can't be solved exactly
    one_step = truths.example(env, policy, params)
    where = scores.layout(policy, params, one_step)
    devices = list(jax.devices() if devices is None else devices)
    steps, size = env.max_steps * sum(x.size for x in jax.tree.leaves(one_step)), sum(where.sizes)
    chunk = checks.chunk(levels, total, steps + size * len(chosen), max(e.batch for e in chosen.values()))
    total = math.ceil(total / (chunk * len(devices))) * chunk * len(devices)
    setup = Setup(chosen, env, policy, where, levels, chunk, any(looks_ahead(e) for e in chosen.values()))
    alone = setup._replace(estimators={"reference": REFERENCE}, levels=(1,), has_states=False)
    alone = alone._replace(chunk=checks.chunk((1,), wanted, steps + size, 1))
    plan = Plan(options, setup, alone, total, wanted, mdp, devices)
    if plan.natural and size > 8192:
        raise ValueError(f"precondition='natural' inverts a matrix of {size} x {size}; 8192 parameters are the limit")
    if plan.branched:
        decomposition.check_branches(plan.branched, policy, BRANCH_STATES, 4)
    truths.rehearse(setup, params, options.discount, plan.num_states)
    return plan


def looks_ahead(estimator: Estimator) -> bool:
    """Whether it tries every action for one step from the states of the environment."""
    return isinstance(estimator, ScoreFunction) and estimator.over_actions and estimator.critic == "learned"
