"""`Entry`: what one row of the roster holds."""

import dataclasses
from collections.abc import Callable, Collection

from pgjax.algorithms.on_policy import make_learner
from pgjax.config import Config
from pgjax.estimators.surrogate import surrogate
from pgjax.losses.actor_critic import actor_critic
from pgjax.plugs import check_plugs
from pgjax.policies.registry import make
from pgjax.types import Algorithm, Env, EstimatorFn, Learner, LossFn, Policy, Running


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the roster. Default hyperparameters are the defaults of the plugs, as bound here.

    Attributes:
      algorithm: the plugs.
      config: the defaults of the static choices.
      paper: where the method is from.
      summary: one line for `pgjax list`.
      learner: (env, policy, algorithm, config) -> Learner.
      steps: environment steps of a run that doesn't say.
      lift: what becomes of a loss given in place of the row's own: an estimator; None where no other can be given.
      policy: (env, config) -> Policy, for a method that needs a network of its own; see `policies.make`.
      own_policy: whether the learner makes its own networks.
      unused: fields of Config that mean nothing to the learner, which refuses them.
    """

    algorithm: Algorithm
    config: Config = Config()
    paper: str = ""
    summary: str = ""
    learner: Callable[[Env, Policy, Algorithm, Config], Learner] = make_learner
    steps: int = 131_072
    lift: Callable[[LossFn], EstimatorFn | Running] | None = lambda loss: surrogate(actor_critic(loss))
    policy: Callable[[Env, Config], Policy] = make
    own_policy: bool = False
    unused: Collection[str] = ()

    def __post_init__(self) -> None:
        check_plugs(self.algorithm)
