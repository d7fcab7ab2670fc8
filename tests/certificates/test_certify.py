"""Verdicts of `certify`: a positive and a negative example of each, and mutants that change them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pgjax
from pgjax import certificates
from pgjax.advantages import gae, group_relative, leave_one_out, monte_carlo, penalised
from pgjax.certificates import expectation, objectives, showing, verdicts
from pgjax.estimators import surrogate
from pgjax.hyperparameters import bind
from pgjax.losses import actor_critic, anchored, policy_gradient, ppo_clip
from pgjax.optimizers import adam
from pgjax.types import Algorithm

J, CONSTANT, MATRIX, FACTOR, OTHER, UNDECIDED, NOTHING, ZERO = certificates.VERDICTS


def certified(plug, worlds, batch=(2,), discount=1.0, **hypers):
    return pgjax.certify(plug, batch=batch, worlds=worlds.split(","), discount=discount, **hypers)


def algorithm(advantage, loss=policy_gradient, reduce="episode"):
    return Algorithm(advantage, surrogate(loss, reduce=reduce), adam)


def with_entropy(now, batch, *, weight: float = 0.25):
    return -batch.advantage * now.log_prob - weight * now.entropy, {}


def squared(trajectory, now):
    total = jnp.sum(trajectory.mask * trajectory.reward, axis=0)
    return jnp.broadcast_to(total**2, trajectory.mask.shape), now.value


@pytest.mark.parametrize(
    ("plug", "worlds", "verdict", "detail"),
    [
        pytest.param(policy_gradient, "bandit,stopping", J, "", id="REINFORCE"),
        pytest.param(leave_one_out, "prompts,tokens", J, "", id="leave one out"),
        pytest.param(bind(group_relative, divide=False), "bandit", CONSTANT, "0.5 x", id="Dr. GRPO"),
        pytest.param(algorithm(bind(monte_carlo, reward_to_go=False), reduce="step"), "tokens", CONSTANT, "0.5 x",
                     id="mean over steps of equal episodes"),
        pytest.param(with_entropy, "bandit", OTHER, "J + 0.25 x the entropy of whole episodes", id="entropy"),
        pytest.param(algorithm(bind(penalised(leave_one_out), reference_penalty=0.5)), "tokens", OTHER,
                     "J - 0.5 x KL(pi || reference) of whole episodes", id="k1 in the reward"),
        pytest.param(algorithm(leave_one_out, bind(anchored(policy_gradient), reference_coef=0.5, reference_kl="k2")),
                     "bandit", OTHER, "J - 0.5 x KL(pi || reference) of whole episodes", id="k2 in the loss"),
        pytest.param(algorithm(leave_one_out, bind(anchored(policy_gradient), reference_coef=0.5, reference_kl="k3")),
                     "bandit", OTHER, "J - 0.5 x KL(reference || pi) of whole episodes", id="k3 in the loss"),
        pytest.param(algorithm(leave_one_out, bind(anchored(policy_gradient), reference_coef=0.5, reference_kl="k1")),
                     "bandit", J, "", id="k1 in the loss is nothing"),
        pytest.param(squared, "bandit", OTHER, "P(R = 0.4)", id="E[f(R)]"),
        pytest.param(algorithm(gae, lambda now, batch: (batch.advantage * 0 * now.log_prob, {})), "bandit", ZERO, "",
                     id="nothing at all"),
    ],
)  # fmt: skip
def test_on_policy(plug, worlds, verdict, detail):
    found = certified(plug, worlds)
    assert found.verdict == verdict
    assert detail in found.example.verdict.detail


def test_undecided_where_kinks_are_everywhere():
    def rough(now, batch):
        return -batch.advantage * now.log_prob * jnp.floor(1e7 * jnp.exp(now.log_prob)), {}

    assert certified(rough, "bandit", batch=(1,)).verdict == UNDECIDED


def test_weights_of_a_function_of_the_return():
    detail = certified(squared, "bandit").example.verdict.detail
    assert detail == "0.16 x P(R = 0.4) + P(R = 1)"


class TestWithoutGammaT:
    def test_is_the_gradient_of_nothing_and_named(self):
        found = certified(bind(monte_carlo, gamma_t=False), "clock", discount=0.9, batch=(1,))
        proof = found.example.verdict
        assert found.verdict == NOTHING and proof.detail == "the discounted return without gamma^t"
        assert abs(proof.asymmetry.one - proof.asymmetry.other) > 1e-3

    def test_is_the_gradient_with_it_and_at_discount_1(self):
        assert certified(bind(monte_carlo, gamma_t=True), "clock", discount=0.9, batch=(1,)).verdict == J
        assert certified(bind(monte_carlo, gamma_t=False), "clock", batch=(1,)).verdict == J

    def test_is_a_matrix_where_every_state_has_its_time(self):
        assert certified(bind(monte_carlo, gamma_t=False), "stopping", discount=0.9, batch=(1,)).verdict == MATRIX


class TestGroupsOfGRPO:
    def test_binary_rewards_change_the_length_alone(self):
        found = certified("grpo", "verifier", batch=(2, 4))
        assert [case.verdict.name for case in found.on_policy()] == [J, FACTOR]

    def test_three_rewards_make_it_the_gradient_of_nothing(self):
        assert certified("grpo", "bandit").verdict == NOTHING


class TestOffPolicy:
    def test_the_surrogate_at_the_acting_policy(self):
        plain = algorithm(bind(monte_carlo, gamma_t=True), bind(ppo_clip, clip_eps=float("inf")))
        case = certified(plain, "tokens", discount=0.9).cases[-1]
        assert not case.on_policy and case.verdict.name == OTHER
        assert case.verdict.detail == "the surrogate at the acting policy"

    def test_full_correction_is_the_gradient(self):
        corrected = bind(monte_carlo, gamma_t=True, importance=True)
        found = certified(algorithm(corrected, bind(policy_gradient, importance=True)), "tokens,chain", discount=0.9)
        assert found.off_policy == J

    def test_a_kink_is_no_asymmetry(self):
        assert certified("grpo", "prompts", batch=(4,)).off_policy == OTHER


def test_points_away():
    found = certified(lambda now, batch: (batch.advantage * now.log_prob, {}), "bandit")
    assert found.verdict == OTHER and found.example.verdict.detail == "- J"
    assert found.against is not None and found.against.cosine == pytest.approx(-1)
    assert certified(policy_gradient, "bandit").against is None


def test_critics_that_are_wrong_and_exact():
    one_step = algorithm(bind(gae, gae_lambda=0.0))
    found = certified(one_step, "stopping,chain")
    assert found.verdict == NOTHING and found.with_exact_critic == J
    assert {case.critic for case in found.cases} == {"any", "exact"}
    assert {case.critic for case in certified(policy_gradient, "bandit").cases} == {"any"}


@pytest.fixture(scope="module")
def known():
    """A world, and the gradients of its objectives."""
    world = certificates.family()["stopping"]
    every = expectation.episodes(world, world.size, expectation.count(world))
    return world, objectives.known(world.points(), world.points(), 1.0, every, False)[0]


class TestMatrices:
    def judged(self, world, known, update):
        found = expectation.Moments(update, np.ones(len(update)))
        return verdicts.judge(found, known, 1.0, world.points(), lambda points: points, True)

    def test_natural(self, known):
        world, known = known
        natural = np.einsum("npq,nq->np", np.linalg.pinv(known.fisher), known.objective)
        found = self.judged(world, known, 2 * natural)
        assert found.name == MATRIX and found.detail == "2 x F^-1, F the Fisher matrix"

    def test_constant(self, known):
        world, known = known
        scale = np.repeat([1.0, 2.0, 3.0], 2)
        assert self.judged(world, known, known.objective * scale).name == MATRIX

    def test_one_that_is_not_positive(self, known):
        world, known = known
        scale = np.repeat([1.0, -2.0, 3.0], 2)
        assert self.judged(world, known, known.objective * scale).name == OTHER  # the map x -> x is symmetric


def unmasked(key, policy, params, batch):
    """REINFORCE that forgets that episodes end."""

    def loss(params):
        log_prob = policy.evaluate(params, batch.trajectory).log_prob
        return -jnp.sum(log_prob * batch.advantage) / batch.trajectory.mask.shape[1]

    return jax.grad(loss)(params), {}


def whole_return(trajectory, now):
    total = jnp.sum(trajectory.mask * trajectory.reward, axis=0)
    return jnp.broadcast_to(total, trajectory.mask.shape), now.value


def ratio(now, batch, *, stop: bool = True):
    weight = jnp.exp(now.log_prob - batch.trajectory.log_prob)
    weight = jax.lax.stop_gradient(weight) if stop else weight
    return -weight * batch.advantage * now.log_prob, {}


MUTANTS = {
    "a dropped mask": (algorithm(whole_return), algorithm(whole_return)._replace(estimator=unmasked), 1.0),
    "a wrong discount": (bind(monte_carlo, gamma_t=True), lambda trajectory, now: bind(
        monte_carlo.apply, gamma_t=True, discount=0.8)(monte_carlo.init(), trajectory, now)[1], 0.9),
    "a mean in place of a sum": (algorithm(whole_return), algorithm(whole_return, reduce="episode_mean"), 1.0),
    "a missing stop_gradient": (algorithm(whole_return, ratio),
                                algorithm(whole_return, bind(ratio, stop=False)), 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants(name):
    right, wrong, discount = MUTANTS[name]
    assert certified(right, "stopping", batch=(1,), discount=discount).verdict == J
    assert certified(wrong, "stopping", batch=(1,), discount=discount).verdict in (OTHER, NOTHING)


class TestNoise:
    @pytest.mark.parametrize("world", ["prompts", "chain"])
    def test_leave_one_out_has_the_covariance_of_its_u_statistic(self, world):
        for case in certified(leave_one_out, world, batch=(2, 4)).on_policy():
            assert case.error == pytest.approx(case.leave_one_out, rel=1e-10)

    def test_reinforce_of_whole_returns(self):
        found = certified(algorithm(bind(monte_carlo, reward_to_go=False)), "chain", batch=(1, 2), discount=0.9)
        for case in found.on_policy():
            assert case.error == pytest.approx(case.reinforce, rel=1e-10)

    def test_a_group_in_a_float64_loop(self):
        """GRPO's mean and covariance for two episodes of the bandit, by a loop over the nine pairs."""
        case = certified(group_relative, "bandit").on_policy()[0]
        reward, theta = np.array([1, 0, 0.4]), case.points[0]
        pi = np.exp(theta) / np.exp(theta).sum()
        mean, square = np.zeros(3), 0.0
        for i in range(3):
            for j in range(3):
                spread = np.std([reward[i], reward[j]])
                centre = (reward[i] + reward[j]) / 2
                one, other = ((reward[k] - centre) / spread if spread else 0.0 for k in (i, j))
                update = (one * (np.eye(3)[i] - pi) + other * (np.eye(3)[j] - pi)) / 2
                mean += pi[i] * pi[j] * update
                square += pi[i] * pi[j] * update @ update
        np.testing.assert_allclose(case.update[0], mean, atol=1e-13)
        assert case.trace[0] == pytest.approx(square - mean @ mean, rel=1e-12)


@pytest.mark.parametrize("others", [[1, 0, 3, 2], [2, 3, 0, 1]], ids=["pairs", "halves"])
def test_orders_that_turning_the_batch_round_leaves_alone(others):
    """Each episode's baseline is another's return: unbiased, and no function of the set of episodes."""

    def paired(trajectory, now):
        total = jnp.sum(trajectory.mask * trajectory.reward, axis=0)
        return jnp.broadcast_to(total - total[jnp.array(others)], trajectory.mask.shape), now.value

    found = certified(paired, "bandit", batch=(4,))
    assert found.verdict == J


def test_an_order_that_matters():
    """The second episode alone: pairs are no longer sets."""

    def second(now, batch):
        return -batch.advantage * now.log_prob * jnp.array([[0.0, 2.0]]), {}

    found = certified(second, "bandit")
    assert found.verdict == J
    assert found.example.trace[0] == pytest.approx(certified(policy_gradient, "bandit", batch=(1,)).example.trace[0])


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_scale_of_the_loss_plays_no_part(scale):
    def by_length(now, batch):
        length = jnp.sum(batch.trajectory.mask, axis=0, keepdims=True)
        return -scale * batch.advantage * now.log_prob / length, {}

    def scaled(now, batch):
        return -scale * batch.advantage * now.log_prob, {}

    assert certified(by_length, "chain", batch=(1,)).verdict == NOTHING
    found = certified(scaled, "stopping", batch=(1,))
    assert found.verdict == CONSTANT and found.example.verdict.detail == f"{scale:.10g} x"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_points_fit_no_matrix(count):
    world = certificates.family()["chain"]
    mine = world._replace(name="mine", thetas=world.points()[:count])
    one_step = algorithm(bind(gae, gae_lambda=0.0))
    assert pgjax.certify(one_step, worlds=[mine], batch=[1], discount=1.0).verdict == NOTHING


def test_worlds_whose_returns_are_alike_are_left_out():
    world = certificates.family()["bandit"]
    flat = world._replace(name="flat", mdp=world.mdp._replace(reward=np.ones((3, 3))))
    found = pgjax.certify(leave_one_out, worlds=[flat, world], batch=[2], discount=1.0)
    assert found.verdict == J and found.skipped == ("flat, discount 1: grad J is 0, since all returns are alike",)


def test_returns_that_are_alike_without_a_discount_alone():
    """An action puts the same reward off by one step: grad J is 0 at discount 1 and not at .9."""
    world = certificates.family()["tokens"]
    late = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    mine = world._replace(name="late", mdp=world.mdp._replace(reward=late))
    found = pgjax.certify(bind(monte_carlo, gamma_t=True), worlds=[mine], batch=[1])
    assert found.verdict == J and {case.discount for case in found.cases} == {0.9}
    assert found.skipped == ("late, discount 1: grad J is 0, since all returns are alike",)


def test_a_plug_without_a_discount_is_looked_at_without_one():
    found = pgjax.certify(whole_return, worlds=["stopping"], batch=[1])
    assert found.verdict == J and {case.discount for case in found.cases} == {1.0}


def test_a_test_to_paste_is_python_whatever_was_certified():
    world = certificates.family()["bandit"]._replace(name="mine")
    found = pgjax.certify(algorithm(whole_return), worlds=[world], batch=[1])
    compile(text := showing.test(found), "test", "exec")
    assert "pgjax.certify(plug, batch=[1], discount=1, worlds=[world])" in text


def test_the_whole_actor_critic_loss_is_the_policys_part():
    assert certified(actor_critic(policy_gradient), "bandit").verdict == J


def test_a_world_of_ones_own_and_too_many_batches():
    world = certificates.family()["chain"]
    mine = world._replace(name="mine", thetas=world.points()[:2])
    found = certified(leave_one_out, "bandit", batch=(2, 16))._replace(name="")
    assert {case.batch for case in found.cases} == {2, 16} and not found.skipped
    found = pgjax.certify(policy_gradient, worlds=[mine], batch=[1, 16], discount=1.0)
    assert len(found.on_policy()) == 1 and "mine, 16 episodes: more than 20,000 batches" in found.skipped[0]
    assert found.cases[0].points.shape == (2, 6)


class TestRefused:
    def drawn(self, key, policy, params, batch):
        gradient, metrics = surrogate(policy_gradient)(key, policy, params, batch)
        return jax.tree.map(lambda x: x + jax.random.normal(key, x.shape), gradient), metrics

    @pytest.mark.parametrize(
        ("plug", "message"),
        [
            (lambda now, batch: (jnp.log(-now.log_prob - 99), {}), "is not finite in the world 'bandit'"),
            (lambda now, batch: (-now.dist.mean * batch.advantage, {}), "can't be certified: 'Categorical' object has"),
            (lambda now, batch: (jnp.mean(now.log_prob), {}), "expected one loss per step"),
            (lambda a, b: (a, b), r"takes \(a, b\), which tells no kind"),
            ("sac", "sac learns from replay"),
            ("pqn", "needs a critic of action values"),
            ("differential_actor_critic", "average reward"),
            ("nobody", "no algorithm 'nobody'"),
        ],
    )
    def test_plugs(self, plug, message):
        with pytest.raises(ValueError, match=message):
            certified(plug, "bandit")

    def test_the_size_of_a_group_is_that_of_the_batch(self):
        with pytest.raises(ValueError, match=r"samples is the size of a batch here; give batch=\[8\]"):
            certified(leave_one_out, "bandit", samples=8)

    def test_float32_inside(self):
        def cast(trajectory, now):
            total = jnp.sum(trajectory.mask * trajectory.reward, axis=0).astype(jnp.float32)
            return jnp.broadcast_to(total, trajectory.mask.shape), now.value

        with pytest.raises(ValueError, match="something in the plug is float32"):
            certified(cast, "bandit")

    def test_numbers_of_its_own(self):
        with pytest.raises(ValueError, match="draws random numbers of its own"):
            certified(self.drawn, "bandit")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"worlds": ["mars"]}, "certify has no world 'mars'"),
            ({"worlds": ["bandit", "bandit"]}, "worlds has the same value twice"),
            ({"batch": [0]}, "must be 1 or more, got 0"),
            ({"kind": "losses"}, "there is no 'losses'"),
            ({"beta": 1.0}, "no hyperparameter 'beta'"),
            ({"discount": 2.0}, r"discount must lie in \(0, 1\]"),
        ],
    )
    def test_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            pgjax.certify(policy_gradient, **options)
