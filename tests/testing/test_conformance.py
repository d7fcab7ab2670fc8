"""Everything that ships goes through the conformance kit; and the kit catches what it is there to catch."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from gymnax.environments import spaces as gymnax_spaces

from pgjax import advantages, algorithms, envs, estimators, losses, optimizers, policies, testing
from pgjax.config import Config
from pgjax.declarations import Role, in_order, whole_episodes
from pgjax.envs.tabular import TabularMDP
from pgjax.estimators import pieces
from pgjax.hyperparameters import bind, by_role, declare, default_hypers
from pgjax.losses import actor_critic
from pgjax.numerics import masked
from pgjax.types import Env, Step

ENVIRONMENTS = [
    "CartPole-v1",
    "Acrobot-v1",
    "Pendulum-v1",
    "MountainCarContinuous-v0",
    "Catch-bsuite",
    "Breakout-MinAtar",
    "MemoryChain-bsuite",
    "TabularMDP-pgjax",
    "ValueProbe-pgjax",
    "ObservationProbe-pgjax",
    "DiscountProbe-pgjax",
    "ActionProbe-pgjax",
    "PolicyProbe-pgjax",
]
MONTE_CARLO = [
    {"baseline": baseline, "reward_to_go": to_go, "gamma_t": gamma_t, "normalize": normalize, "bootstrap": bootstrap}
    for baseline in (name for name, row in advantages.BASELINES.items() if row.trains)
    for to_go, gamma_t, normalize, bootstrap in [
        (True, False, False, False),
        (True, True, False, False),
        (False, False, False, False),
        (True, False, True, False),
        (True, False, False, True),
    ]
]


@pytest.mark.slow
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environments_conform(name):
    testing.check_env(envs.make(name), steps=12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("PolicyProbe-pgjax", {}),
        ("PolicyProbe-pgjax", {"shared": True, "activation": "relu"}),
        ("PolicyProbe-pgjax", {"network": "gru"}),
        ("Pendulum-v1", {}),
        ("TabularMDP-pgjax", {}),
        ("Breakout-MinAtar", {}),
    ],
)
def test_policies_conform(name, options):
    env = envs.make(name)
    testing.check_policy(policies.make(env, Config(hidden=(4,), **options)), env, num_steps=6)


ALL_LOSSES = losses.LOSSES | losses.sequences.LOSSES


@pytest.mark.parametrize("loss", ALL_LOSSES.values(), ids=ALL_LOSSES)
@pytest.mark.parametrize("lifted", [False, True], ids=["alone", "actor_critic"])
def test_losses_conform(loss, lifted):
    of_critics = (losses.value_error, losses.action_value_error)
    testing.check_loss(actor_critic(loss) if lifted and loss not in of_critics else loss)


def test_losses_conform_with_every_option_on():
    testing.check_loss(actor_critic(losses.ppo_clip), clip_high=0.3, kl_coef=0.3, value_clip=0.1, entropy_coef=0.1)
    testing.check_loss(losses.policy_gradient, importance=True, reevaluate=True)
    testing.check_loss(actor_critic(losses.policy_gradient, losses.action_value_error), importance=True)


@pytest.mark.parametrize("name", [name for name in advantages.ADVANTAGES if name != "monte_carlo"])
def test_advantages_conform(name):
    plug, small = advantages.ADVANTAGES[name], {"length": 3} if name == "relative_return" else {}
    testing.check_advantage(plug, **({"samples": 2} if Role.SAMPLES in by_role(plug) else small))


MONTE_CARLO += [{"importance": True, "baseline": "value", "gamma_t": True}, {"importance": True, "bootstrap": True}]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", MONTE_CARLO, ids=lambda options: "-".join(v if k == "baseline" else k for k, v in options.items() if v)
)
def test_every_option_of_monte_carlo_conforms(options):
    testing.check_advantage(advantages.monte_carlo, **options)


@pytest.mark.parametrize("reduce", pieces.REDUCTIONS)
@pytest.mark.parametrize("name", ["policy_gradient", "ppo_clip"])
def test_estimators_conform(reduce, name):
    estimator = estimators.surrogate(actor_critic(losses.LOSSES[name]), reduce=reduce)
    testing.check_estimator(estimator, normalize_advantage=True)


@pytest.mark.parametrize("name", algorithms.ROSTER)
def test_estimators_of_the_roster_conform(name):
    row = algorithms.ROSTER[name]
    if row.own_policy or Role.REFERENCE in by_role(row.algorithm.estimator):
        return
    estimator = row.algorithm.estimator

    def told(key, policy, params, batch, **hypers):
        """With what `selected` needs from the advantage: all episodes but one."""
        chosen = jnp.broadcast_to(jnp.arange(batch.trajectory.mask.shape[1]) > 0, batch.trajectory.mask.shape)
        return estimator(key, policy, params, batch._replace(extra=chosen), **hypers)

    testing.check_estimator(declare(told, estimator) if name == "dapo" else estimator)


@pytest.mark.parametrize("optimizer", optimizers.OPTIMIZERS.values(), ids=optimizers.OPTIMIZERS)
def test_optimizers_accept_traced_hyperparameters(optimizer):
    def step(rate):
        transform = optimizer(learning_rate=rate)
        params = {"w": jnp.ones(3)}
        return transform.update({"w": jnp.ones(3)}, transform.init(params), params)[0]["w"]

    rates = jnp.array([0.1, 0.2])
    together = jax.vmap(step)(rates)
    apart = jnp.stack([step(rate) for rate in rates])
    assert jnp.allclose(together, apart) and jnp.allclose(together[1], 2 * together[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", algorithms.ROSTER)
def test_learners_conform(name):
    row = algorithms.ROSTER[name]
    env = envs.make("Pendulum-v1") if name == "td3" else envs.from_gymnax(TabularMDP(horizon=4))
    steps = 0 if row.config.rollout == "episodes" else 8
    config = dataclasses.replace(row.config, num_envs=4, num_steps=steps, num_minibatches=1)
    algorithm = row.algorithm
    if row.own_policy:
        small = bind(algorithm.estimator, batch_size=16, buffer_size=64, warmup=0, gradient_steps=2)
        algorithm = algorithm._replace(estimator=small)
    if samples := by_role(algorithm.advantage).get(Role.SAMPLES):
        algorithm = algorithm._replace(advantage=bind(algorithm.advantage, **{samples: 2}))
    made = row.learner(env, row.policy(env, config), algorithm, config)
    testing.check_learner(made, default_hypers(algorithm))


def test_a_baseline_that_trains_needs_no_pilot_of_its_own():
    assert not [name for name, row in advantages.BASELINES.items() if row.trains and row.pilot == "least_variance"]


def test_every_row_of_the_roster_has_its_paper_and_summary():
    assert all(row.paper and row.summary for row in algorithms.ROSTER.values())


def catches(message, check, *arguments, **options):
    with pytest.raises(AssertionError, match=message):
        check(*arguments, **options)


def test_a_mean_inside_a_loss_is_caught():
    def loss(now, batch):
        return -now.log_prob * (batch.advantage - jnp.mean(batch.advantage)), {}

    catches("is there a mean inside", testing.check_loss, loss)


def test_a_mean_over_episodes_inside_a_loss_of_sequences_is_caught():
    @whole_episodes
    def loss(now, batch):
        return -now.log_prob * jnp.mean(batch.advantage, axis=1, keepdims=True), {}

    catches("depends on another episode's batch.advantage: is there", testing.check_loss, loss)


MEANS = {
    "now.log_prob, batch.trajectory.log_prob": lambda now, batch: jnp.mean(ratio(now, batch)),
    "now.entropy": lambda now, batch: now.entropy.mean(),
    "batch.target": lambda now, batch: jnp.mean(batch.target),
    "batch.value": lambda now, batch: jnp.max(batch.value),
    "now.dist.logits": lambda now, batch: jnp.mean(now.dist.entropy()),
    "batch.then.log_prob": lambda now, batch: jnp.mean(batch.then.log_prob[0]),
    "batch.trajectory.mask": lambda now, batch: jnp.sum(batch.trajectory.mask > 0),
    "batch.trajectory.action": lambda now, batch: jnp.mean(batch.trajectory.action == 0),
    "batch.advantage": lambda now, batch: jax.lax.stop_gradient(jnp.std(batch.advantage)),
    "now.value, batch.trajectory.mask": lambda now, batch: masked.mean(now.value, batch.trajectory.mask),
}


def ratio(now, batch):
    return jnp.exp(now.log_prob - batch.trajectory.log_prob)


@pytest.mark.parametrize("inputs", MEANS)
def test_a_mean_inside_a_loss_is_named_wherever_it_comes_from(inputs):
    def loss(now, batch):
        return -now.log_prob * batch.advantage + 0.1 * MEANS[inputs](now, batch), {}

    catches(f"a step's loss depends on another step's {inputs}: is there a mean inside", testing.check_loss, loss)


def test_a_mean_along_time_is_for_losses_that_see_an_episode_in_order():
    def loss(now, batch):
        return jnp.cumsum(-now.log_prob * batch.advantage, axis=0), {}

    testing.check_loss(in_order(lambda now, batch: loss(now, batch)))
    catches("another step's now.log_prob, batch.advantage", testing.check_loss, loss)


def test_a_loss_with_the_wrong_shape_is_caught():
    catches("expected one loss per step", testing.check_loss, lambda now, batch: (jnp.mean(now.log_prob), {}))


def test_what_a_loss_returns_is_said_as_in_a_run():
    catches("loss '<lambda>' returned an array .*, expected", testing.check_loss, lambda now, batch: now.log_prob)
    catches("metric 'ratio' has shape", testing.check_loss, lambda now, batch: (now.log_prob, {"ratio": jnp.zeros(2)}))


def test_an_advantage_of_three_results_conforms_and_its_third_is_checked():
    def three(extra):
        def advantage(trajectory, now, *, discount: float = 0.99):
            target = trajectory.reward + discount * jnp.where(trajectory.terminated, 0.0, now.next_value)
            return target - now.value, target, extra(trajectory, now)

        return advantage

    testing.check_advantage(three(lambda trajectory, now: {"value": now.value, "obs": jnp.stack([now.value] * 2, -1)}))
    testing.check_advantage(three(lambda trajectory, now: now.next_value))  # no target: it may be of an end too
    for extra, message in (
        (lambda trajectory, now: jnp.zeros(2), "returned extra of shape \\(2,\\), expected .* first"),
        (lambda trajectory, now: (jnp.log(-jnp.ones_like(now.value)),), "extra is not finite"),
        (lambda trajectory, now: jnp.cumsum(trajectory.reward[::-1], axis=0)[::-1], "after the end of an episode"),
    ):
        catches(message, testing.check_advantage, three(extra))
    catches("returned 4 results", testing.check_advantage, lambda trajectory, now: (now.value,) * 4)
    catches("returned target of shape", testing.check_advantage, lambda trajectory, now: (now.value, now.value[0]))


def test_an_advantage_that_bootstraps_from_termination_is_caught():
    def wrong(trajectory, now, *, discount: float = 0.99):
        target = trajectory.reward + discount * now.next_value
        return target - now.value, target

    catches("bootstraps from a terminated step", testing.check_advantage, wrong)


def test_an_advantage_that_looks_behind_the_end_is_caught():
    def wrong(trajectory, now, *, discount: float = 0.99):
        target = jnp.cumsum(trajectory.reward[::-1], axis=0)[::-1]
        return target - now.value, target

    catches("a step after the end of an episode counts", testing.check_advantage, wrong)


def test_an_estimator_that_ignores_the_mask_is_caught():
    def wrong(key, policy, params, batch):
        def objective(params):
            now = policy.evaluate(params, batch.trajectory)
            return -jnp.mean(now.log_prob * batch.advantage)

        return jax.grad(objective)(params), {}

    catches("a step after the end of an episode counts", testing.check_estimator, wrong)


def test_an_environment_that_resets_types_is_caught():
    env = envs.make("PolicyProbe-pgjax")

    def step(key, params, state, action):
        state, seen = env.step(key, params, state, action)
        return state, seen._replace(obs=jnp.concatenate([seen.obs, seen.obs]))

    catches("step changes shapes or types", testing.check_env, Env(*env._replace(step=step)))


def of_trees(seen=lambda obs: obs, reset_seen=lambda obs: obs):
    def shown(state):
        return {"place": state, "both": (jnp.ones(2) * state, state > 0)}

    def step(key, params, state, action):
        state = state + jnp.where(action["go"] == 1, 1, -1) * jnp.int32(jnp.sum(action["by"][0]) > 0)
        return state, Step(seen(shown(state)), jnp.float32(1), jnp.abs(state) > 2, jnp.bool_(False))

    box, two = gymnax_spaces.Box(-9, 9, (2,)), gymnax_spaces.Discrete(2)
    observed = gymnax_spaces.Dict({"place": gymnax_spaces.Discrete(9), "both": gymnax_spaces.Tuple([box, two])})
    acted = gymnax_spaces.Dict({"go": two, "by": gymnax_spaces.Tuple([box])})
    return Env({}, lambda key, params: (jnp.int32(0), reset_seen(shown(jnp.int32(0)))), step, observed, acted, 5)


def test_an_environment_of_trees_conforms_and_its_faults_are_named():
    testing.check_env(of_trees())
    less = lambda obs: {"place": obs["place"]}  # noqa: E731
    flat = lambda obs: {**obs, "both": (obs["both"][0][:1], obs["both"][1])}  # noqa: E731
    catches(r"reset gave obs \{place: int32\[\]\}, the space says Dict", testing.check_env, of_trees(less, less))
    catches(r"reset gave obs .*float32\[1\].*, the space says Dict", testing.check_env, of_trees(flat, flat))
    catches("step changes shapes or types", testing.check_env, of_trees(flat))


@pytest.mark.parametrize("steps", [9, 12])
def test_a_distribution_without_batch_axes_is_caught_whatever_the_number_of_steps(steps):
    env = envs.make("Pendulum-v1")
    policy = policies.make(env, Config(hidden=(4,)))

    def evaluate(params, trajectory):
        now = policy.evaluate(params, trajectory)
        return now._replace(dist=now.dist._replace(log_std=jnp.zeros(1)))

    wrong = policy._replace(evaluate=evaluate, stepwise=evaluate)
    line = r"the policy's evaluate: DiagGaussian.log_std has shape \(1,\), expected the batch axes"
    catches(line, testing.check_policy, wrong, env, num_steps=steps)


def test_a_policy_that_forgets_its_memory_rule_is_caught():
    env = envs.make("PolicyProbe-pgjax")
    policy = policies.make(env, Config(hidden=(4,), network="gru"))

    def evaluate(params, trajectory):
        # Every episode of the probe is one step long: without its ends, memory would leak.
        never = jnp.zeros_like(trajectory.terminated)
        return policy.evaluate(params, trajectory._replace(terminated=never, truncated=never))

    catches("other log-probabilities", testing.check_policy, policy._replace(evaluate=evaluate), env)


def test_a_learner_with_a_metric_per_step_is_caught():
    env = envs.from_gymnax(TabularMDP(horizon=4))
    row = algorithms.entry("a2c")
    config = Config(num_envs=4, num_steps=8)
    made = row.learner(env, policies.make(env, config), row.algorithm, config)

    def widened(key, state, hypers):
        following, metrics = made.step(key, state, hypers)
        return following, {**metrics, "advantage": jnp.zeros(3)}

    broken = made._replace(update=widened)
    catches("expected a scalar", testing.check_learner, broken, default_hypers(row.algorithm))
