"""PQN: the network of Q-learning on policy, without replay and target network; its plugs are in the roster.

Gallici et al. 2024, Simplifying deep temporal difference learning: the parallelised Q-network acts epsilon-greedily in
many environments, and after each rollout descends (q(s_t, a_t) - G_t)^2 / 2 over a few epochs, G_t the Q(lambda) return
by the network itself (`advantages.q_lambda`). Layer normalisation takes the place of the target network.

Two things differ from theirs: epsilon stays as it is in a run, and the optimiser is Adam, not RAdam.

On CartPole-v1 the row as it is, 131,072 steps and seeds 0 to 7, ends with returns of 188, 500, 500, 436, 500, 500, 500
and 254: mean 422, IQM 484 (95 % interval 267 to 505).
"""

from pgjax.config import Config, check_unused
from pgjax.envs.spaces import check_actions, is_discrete
from pgjax.policies import action_values, modules
from pgjax.types import Env, Policy


def make_policy(env: Env, config: Config = Config()) -> Policy:
    """The greedy policy of one tower of action values, sized for the environment's spaces.

    Its value is max_a q(s, a). What acts draws a share `config.epsilon` of its actions uniformly, as of any policy.

    Raises:
      ValueError: for a Box of actions, and for a field of the config that means nothing to it.
    """
    check_actions(env.action_space)
    if not is_discrete(env.action_space):
        raise ValueError(f"pqn needs a finite number of actions, got {env.action_space!r}; use td3 or sac")
    check_unused(config, UNUSED, "with pqn")
    return modules.from_nnx(lambda rngs: action_values.Greedy(env, config, rngs=rngs), constants=False)


UNUSED = {
    "critic": "its only network gives action values; leave it out",
    "critics": "its only network gives action values; use critics=1",
    "distribution": "it acts greedily; leave it out",
    "log_std": "it acts greedily; leave it out",
    "shared": "it has one tower; use shared=False",
    "temperature": "it acts greedily; use epsilon",
    "kernel": "use kernel='xla'",
    "pretrain": "a greedy policy has no likelihood to learn from examples by; use pretrain=0",
    "examples": "a greedy policy has no likelihood to learn from examples by; leave it out",
    "heads": "its network is no transformer; leave it out",
    "positions": "its network is no transformer; leave it out",
}
