"""A tree of distributions acts as one: samples are trees, numbers are sums; and one of another library is adapted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import pgjax
from pgjax import algorithms, envs, policies
from pgjax.config import Config
from pgjax.hyperparameters import default_hypers
from pgjax.policies.distributions import Categorical, DiagGaussian, Joint, adapted


class Both(NamedTuple):
    move: Categorical
    aim: DiagGaussian


def hybrid(seed, *batch):
    g = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(g.normal(size=(*batch, *shape)), jnp.float32)  # noqa: E731
    return Joint(Both(Categorical(normal(3)), DiagGaussian(normal(2), 0.3 * normal(2))))


def several(seed, *batch):
    g = np.random.default_rng(seed)
    return Joint(tuple(Categorical(jnp.asarray(g.normal(size=(*batch, n)), jnp.float32)) for n in (2, 4)))


def nested(seed, *batch):
    return Joint({"z": hybrid(seed, *batch), "a": [several(seed + 1, *batch), hybrid(seed, *batch).parts.aim]})


@pytest.mark.parametrize("make", [hybrid, several, nested])
def test_numbers_are_sums_over_the_parts(make):
    this, other = make(0, 4, 3), make(7, 4, 3)
    action = this.sample(jax.random.key(0))

    def leaves(dist):
        found = jax.tree.leaves(dist.parts, is_leaf=lambda x: hasattr(x, "log_prob"))
        return [y for x in found for y in (leaves(x) if isinstance(x, Joint) else [x])]

    parts, others, actions = leaves(this), leaves(other), jax.tree.leaves(action)
    assert len(parts) == len(actions) and jax.tree.structure(this.mode()) == jax.tree.structure(action)
    for found, expected in (
        (jax.jit(Joint.log_prob)(this, action), [p.log_prob(a) for p, a in zip(parts, actions, strict=True)]),
        (jax.jit(Joint.entropy)(this), [p.entropy() for p in parts]),
        (jax.jit(Joint.kl)(this, other), [p.kl(q) for p, q in zip(parts, others, strict=True)]),
    ):
        assert found.shape == (4, 3)
        np.testing.assert_allclose(found, np.sum(expected, axis=0), rtol=1e-6)
    for mode, part in zip(jax.tree.leaves(this.mode()), parts, strict=True):
        np.testing.assert_array_equal(mode, part.mode())


def test_the_parts_draw_from_keys_of_their_own():
    dist = Joint((Categorical(jnp.zeros((4096, 2))), Categorical(jnp.zeros((4096, 2)))))
    one, two = (np.asarray(x) for x in dist.sample(jax.random.key(0)))
    assert abs(np.mean(one == two) - 0.5) < 0.05  # equal keys would draw equal actions


def test_the_gradient_of_log_prob_is_that_of_finite_differences():
    with jax.enable_x64(True):
        dist = jax.tree.map(lambda x: x.astype(jnp.float64), hybrid(1, 5))
        action = Both(jnp.array([0, 1, 2, 0, 1]), jnp.asarray(np.random.default_rng(2).normal(size=(5, 2))))
        flat, unflatten = jax.flatten_util.ravel_pytree(dist)
        total = jax.jit(lambda x: jnp.sum(jnp.sin(unflatten(x).log_prob(action))))
        step = 1e-6 * np.eye(flat.size)
        differences = [(total(flat + d) - total(flat - d)) / 2e-6 for d in step]
        np.testing.assert_allclose(jax.grad(total)(flat), differences, rtol=1e-6, atol=1e-8)


class Theirs:
    """What distributions of distrax and TFP are like: drawn by seed=, and no pytree here."""

    def __init__(self, logits):
        self.own = Categorical(logits)

    def sample(self, *, seed, sample_shape=()):
        return self.own.sample(seed)

    def log_prob(self, value):
        return self.own.log_prob(value)

    def entropy(self):
        return self.own.entropy()

    def mode(self):
        return self.own.mode()

    def kl_divergence(self, other):
        return self.own.kl(other.own)


class Bare(NamedTuple):
    logits: jax.Array

    def log_prob(self, action):
        return Categorical(self.logits).log_prob(action)


class Plain:
    def __init__(self, logits):
        self.own = Categorical(logits)

    def __getattr__(self, name):
        if name == "own":
            raise AttributeError(name)
        return getattr(self.own, name)


def network(make):
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.actor, self.critic = nnx.Linear(1, 2, rngs=rngs), nnx.Linear(1, 1, rngs=rngs)

        def __call__(self, obs):
            return make(self.actor(obs)), self.critic(obs)[..., 0]

    return lambda env, config: policies.from_nnx(Net)


def test_an_adapted_distribution_is_that_of_the_other_library():
    logits, others = (jnp.asarray(np.random.default_rng(i).normal(size=(4, 3)), jnp.float32) for i in range(2))
    this, own = adapted(Theirs, logits=logits), Categorical(logits)
    action, key = jnp.array([0, 1, 2, 1]), jax.random.key(0)
    pairs = [(this.sample(key), own.sample(key)), (this.mode(), own.mode()), (this.entropy(), own.entropy())]
    pairs += [(this.log_prob(action), own.log_prob(action))]
    pairs += [(this.kl(adapted(Theirs, logits=others)), own.kl(Categorical(others)))]
    for found, expected in pairs:
        np.testing.assert_array_equal(found, expected)
    half = jax.tree.map(lambda x: x[:2], this)  # as minibatches cut it
    np.testing.assert_array_equal(half.entropy(), own.entropy()[:2])


@pytest.mark.slow
def test_learning_with_an_adapted_distribution_is_that_with_our_own():
    row, env = algorithms.entry("ppo"), envs.make("PolicyProbe-pgjax")
    config = Config(num_envs=4, num_steps=4, num_minibatches=2)
    hypers = default_hypers(row.algorithm)

    def learned(make):
        made = row.learner(env, network(make)(env, config), row.algorithm, config)
        state = made.init(jax.random.key(0), hypers)
        return made.policy(jax.jit(made.step)(jax.random.key(1), state, hypers)[0])[1]

    theirs, ours = learned(lambda x: adapted(Theirs, logits=x)), learned(Categorical)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), theirs, ours)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Theirs, r"Net gives a Theirs of test_joint, which draws by sample\(seed=key\), .*adapted\(Theirs, ...\)"),
        (Bare, "Net gives Bare as its distribution, which has no sample; give one of pgjax.policies.distributions"),
        (lambda x: x, "Net gives .* as its distribution, which has no sample; give one of"),
        (Plain, "Net gives Plain as its distribution, which is no pytree of arrays; make it a NamedTuple, or register"),
    ],
)
def test_what_is_no_distribution_is_one_line_with_its_fix(make, message):
    for policy in (network(make), by_hand(make)):
        with pytest.raises(TypeError, match=message.replace("Net", "(Net|the policy)")) as caught:
            pgjax.run("a2c", "PolicyProbe-pgjax", policy=policy, updates=1, progress=False)
        assert "\n" not in str(caught.value)


def by_hand(make):
    """The same as a Policy that no module stands behind, so that its distribution is seen where it acts."""

    def build(env, config):
        own = policies.make(env, config)
        act = lambda params, memory, obs: (make(own.act(params, memory, obs)[0].logits), memory)  # noqa: E731
        return own._replace(act=act)

    return build
