"""Against scipy, against integrals and sums in float64, and by frequencies of draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from gymnax.environments import spaces

from pgjax.policies.distributions import Categorical, DiagGaussian, gaussian, units
from pgjax.policies.squashed import SquashedGaussian

INF = np.inf
# A right program fails one chi-square or Kolmogorov-Smirnov test in a thousand seeds; the seeds are fixed.
SIGNIFICANCE = 1e-3


def _random_categorical(seed, *shape):
    return Categorical(jnp.asarray(3 * np.random.default_rng(seed).normal(size=shape), jnp.float32))


def _random_gaussian(seed, *shape):
    g = np.random.default_rng(seed)
    return DiagGaussian(
        jnp.asarray(g.normal(size=shape), jnp.float32), jnp.asarray(0.5 * g.normal(size=shape), jnp.float32)
    )


def _random_squashed(seed, *shape):
    low = jnp.broadcast_to(jnp.arange(-2.0, shape[-1] - 2), shape)
    return SquashedGaussian(*_random_gaussian(seed, *shape), low=low, high=low + 2 + low**2)


def _probabilities(logits):
    logits = np.asarray(logits, np.float64)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@functools.partial(jax.jit, static_argnums=2)
def _draw(key, dist, number):
    """[number, ...] draws of a distribution without batch axes."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), dist).sample(key)


class TestCategorical:
    def test_probabilities_are_those_of_scipy(self):
        dist = _random_categorical(0, 4, 5)
        p = _probabilities(dist.logits)
        log_prob = np.stack([dist.log_prob(np.full(4, a)) for a in range(5)])
        for i in range(4):
            theirs = scipy.stats.rv_discrete(values=(np.arange(5), p[i]))
            np.testing.assert_allclose(log_prob[:, i], theirs.logpmf(np.arange(5)), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(dist.entropy(), scipy.stats.entropy(p, axis=-1), rtol=1e-5)
        np.testing.assert_array_equal(dist.mode(), p.argmax(-1))

    def test_kl_is_that_of_scipy(self):
        this, that = _random_categorical(1, 4, 5), _random_categorical(2, 4, 5)
        expected = scipy.stats.entropy(_probabilities(this.logits), _probabilities(that.logits), axis=-1)
        np.testing.assert_allclose(this.kl(that), expected, rtol=1e-4)
        np.testing.assert_allclose(this.kl(this), 0, atol=1e-6)

    def test_kl_is_infinite_where_the_other_rules_out_an_action(self):
        this, that = Categorical(jnp.zeros(3)), Categorical(jnp.array([0.0, 0.0, -INF]))
        assert this.kl(that) == INF
        np.testing.assert_allclose(that.kl(this), np.log(1.5), rtol=1e-6)
        np.testing.assert_allclose(that.kl(that), 0, atol=1e-6)

    def test_frequencies_are_the_probabilities(self):
        dist = _random_categorical(3, 6)
        drawn = np.bincount(_draw(jax.random.key(0), dist, 200_000), minlength=6)
        assert len(drawn) == 6
        assert scipy.stats.chisquare(drawn, 200_000 * _probabilities(dist.logits)).pvalue > SIGNIFICANCE

    def test_an_extreme_logit_is_always_drawn(self):
        assert (_draw(jax.random.key(0), Categorical(jnp.array([-1e30, 1e30, 0.0])), 1000) == 1).all()

    @pytest.mark.parametrize("illegal", [(0,), (2,), (5,), (0, 1), (4, 5), (0, 2, 3, 5)])
    def test_an_action_of_probability_0_is_never_drawn(self, illegal):
        logits = np.linspace(-1, 1, 6, dtype=np.float32)
        logits[list(illegal)] = -INF
        drawn = np.bincount(_draw(jax.random.key(1), Categorical(jnp.asarray(logits)), 1_000_000), minlength=6)
        p = _probabilities(logits)
        assert len(drawn) == 6 and (drawn[list(illegal)] == 0).all()
        legal = p > 0
        assert scipy.stats.chisquare(drawn[legal], 1_000_000 * p[legal]).pvalue > SIGNIFICANCE

    @pytest.mark.parametrize("u", [0.0, 1 - 2**-23])
    def test_the_ends_of_the_uniform_generator_draw_legal_actions(self, u, monkeypatch):
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: jnp.full(shape, u, dtype))
        drawn = Categorical(jnp.array([-INF, 0.3, -INF, -0.7, -INF])).sample(jax.random.key(0))
        assert drawn == (1 if u == 0 else 3)

    def test_the_gradient_of_log_prob_is_the_score(self):
        """d log p(a) / d logits = onehot(a) - p."""
        dist = _random_categorical(4, 3, 5)
        action = jnp.array([0, 2, 4])
        score = jax.grad(lambda logits: Categorical(logits).log_prob(action).sum())(dist.logits)
        np.testing.assert_allclose(score, np.eye(5)[action] - _probabilities(dist.logits), atol=1e-6)

    @pytest.mark.parametrize("quantity", ["log_prob", "entropy", "kl", "kl_of_other"])
    def test_gradients_stay_finite_where_an_action_is_impossible(self, quantity):
        logits = jnp.array([0.3, -INF, -0.2])
        other = Categorical(jnp.array([1.0, -INF, 0.0]))
        functions = {
            "log_prob": lambda x: Categorical(x).log_prob(jnp.array(2)),
            "entropy": lambda x: Categorical(x).entropy(),
            "kl": lambda x: Categorical(x).kl(other),
            "kl_of_other": lambda x: other.kl(Categorical(x)),
        }
        full = jax.jit(jax.grad(functions[quantity]))(logits)
        # The two possible actions behave as if the third were not there.
        other = Categorical(jnp.array([1.0, 0.0]))
        functions["log_prob"] = lambda x: Categorical(x).log_prob(jnp.array(1))
        reduced = jax.jit(jax.grad(lambda x: functions[quantity](x)))(logits[::2])
        np.testing.assert_allclose(np.delete(full, 1), reduced, rtol=1e-5)
        assert full[1] == 0

    def test_the_entropy_gradient_is_that_of_the_definition(self):
        """d H / d logits = -p (log p + H)."""
        logits = _random_categorical(5, 7).logits
        p = _probabilities(logits)
        expected = -p * (np.log(p) + scipy.stats.entropy(p))
        np.testing.assert_allclose(jax.grad(lambda x: Categorical(x).entropy())(logits), expected, atol=1e-6)


class TestDiagGaussian:
    def test_log_prob_and_entropy_are_those_of_scipy(self):
        dist = _random_gaussian(0, 4, 3)
        theirs = scipy.stats.norm(np.float64(dist.mean), np.exp(np.float64(dist.log_std)))
        x = np.random.default_rng(1).normal(size=(4, 3))
        np.testing.assert_allclose(dist.log_prob(jnp.asarray(x, jnp.float32)), theirs.logpdf(x).sum(-1), rtol=1e-4)
        np.testing.assert_allclose(dist.entropy(), theirs.entropy().sum(-1), rtol=1e-5)
        np.testing.assert_array_equal(dist.mode(), dist.mean)

    def test_kl_is_the_integral(self):
        this, that = _random_gaussian(2, 3), _random_gaussian(3, 3)
        expected = 0.0
        for i in range(3):
            p, q = (scipy.stats.norm(np.float64(d.mean[i]), np.exp(np.float64(d.log_std[i]))) for d in (this, that))
            x = np.linspace(p.mean() - 12 * p.std(), p.mean() + 12 * p.std(), 20_001)
            expected += np.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x)
        np.testing.assert_allclose(this.kl(that), expected, rtol=1e-4)
        np.testing.assert_allclose(this.kl(this), 0, atol=1e-6)

    def test_draws_are_normal_and_independent(self):
        dist = _random_gaussian(4, 2)
        drawn = np.asarray(_draw(jax.random.key(2), dist, 50_000), np.float64)
        z = (drawn - np.asarray(dist.mean)) / np.exp(np.asarray(dist.log_std))
        for i in range(2):
            assert scipy.stats.kstest(z[:, i], "norm").pvalue > SIGNIFICANCE
        assert abs(np.corrcoef(z.T)[0, 1]) < 5 / np.sqrt(50_000)

    def test_the_gradient_of_log_prob_is_the_score(self):
        """d log p / d mean = z / std and d log p / d log_std = z^2 - 1."""
        dist = _random_gaussian(5, 4, 3)
        x = jnp.asarray(np.random.default_rng(6).normal(size=(4, 3)), jnp.float32)
        score = jax.grad(lambda d: d.log_prob(x).sum())(dist)
        std = np.exp(np.float64(dist.log_std))
        z = (np.float64(x) - np.float64(dist.mean)) / std
        np.testing.assert_allclose(score.mean, z / std, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(score.log_std, z**2 - 1, rtol=1e-4, atol=1e-5)


class TestSquashedGaussian:
    @staticmethod
    def density(dist, action):
        """log p(a) [...] in float64, by the change of variables with the derivative as it stands in the paper."""
        mean, log_std, low, high = (np.asarray(x, np.float64) for x in dist)
        half = (high - low) / 2
        x = (action - low) / half - 1
        normal = scipy.stats.norm(mean, np.exp(log_std)).logpdf(np.arctanh(x))
        return (normal - np.log(half * (1 - x**2))).sum(-1)

    def test_log_prob_is_the_change_of_variables(self):
        dist = _random_squashed(0, 5, 3)
        action, log_prob = dist.sample_and_log_prob(jax.random.key(0))
        expected = self.density(dist, np.asarray(action, np.float64))
        np.testing.assert_allclose(dist.log_prob(action), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(log_prob, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(dist.sample(jax.random.key(0)), action)
        assert (action > dist.low).all() and (action < dist.high).all()

    def test_log_prob_integrates_to_1(self):
        for mean, log_std, low, high in [(0.3, -0.5, -2.0, 2.0), (-1.0, 0.0, 1.0, 4.0), (0.0, 0.5, 0.0, 1.0)]:
            half = (high - low) / 2
            # Middles of cells in u, so that the ends, where all the mass of a wide one lies, are seen well.
            u = np.linspace(-7, 7, 20_001)
            a = (low + high) / 2 + half * np.tanh(u)
            make = [jnp.full((len(a), 1), x, jnp.float32) for x in (mean, log_std, low, high)]
            p = np.exp(np.float64(SquashedGaussian(*make).log_prob(jnp.asarray(a, jnp.float32)[:, None])))
            np.testing.assert_allclose(np.trapezoid(p * half / np.cosh(u) ** 2, u), 1, rtol=1e-3)

    def test_entropy_is_the_integral_within_what_is_stated(self):
        for log_std, tolerance in [(-5.0, 1e-5), (-1.0, 1e-5), (0.0, 1e-5), (1.0, 1e-5), (2.0, 1e-3)]:
            mean = np.linspace(-3, 3, 13)
            half = 1.5
            z = np.linspace(-12, 12, 200_001)
            u = mean[:, None] + np.exp(log_std) * z
            slope = np.log(half) + 2 * (np.log(2) - np.logaddexp(u, -u))
            expected = log_std + 0.5 * np.log(2 * np.pi * np.e)
            expected = expected + np.trapezoid(slope * scipy.stats.norm.pdf(z), z, axis=-1)
            columns = [jnp.asarray(x, jnp.float32)[:, None] for x in (mean, 0 * mean + log_std)]
            dist = SquashedGaussian(*columns, -half * jnp.ones((13, 1)), half * jnp.ones((13, 1)))
            np.testing.assert_allclose(dist.entropy(), expected, rtol=1e-5, atol=tolerance)

    def test_entropy_is_the_mean_of_minus_log_prob(self):
        dist = jax.tree.map(lambda x: jnp.broadcast_to(x, (200_000, 3)), _random_squashed(1, 3))
        log_prob = np.float64(jax.jit(lambda key: dist.sample_and_log_prob(key)[1])(jax.random.key(0)))
        error = log_prob.std() / np.sqrt(len(log_prob))
        assert abs(-log_prob.mean() - float(_random_squashed(1, 3).entropy())) < 5 * error

    def test_kl_is_the_integral(self):
        this = SquashedGaussian(*(jnp.array(x) for x in ([0.3, -0.5], [-1.0, -0.7], [-2.0, 0.0], [2.0, 1.0])))
        that = this._replace(mean=jnp.array([-0.4, 0.2]), log_std=jnp.array([-0.2, -0.9]))
        expected = 0.0
        for i in range(2):
            p, q = (jax.tree.map(lambda x: np.float64(x[i : i + 1]), d) for d in (this, that))  # noqa: B023
            u = np.linspace(-6, 6, 40_001)
            half = (p.high - p.low) / 2
            a = ((p.low + p.high) / 2 + half * np.tanh(u))[:, None]
            log_p, log_q = self.density(p, a), self.density(q, a)
            expected += np.trapezoid(np.exp(log_p) * (log_p - log_q) * half / np.cosh(u) ** 2, u)
        np.testing.assert_allclose(this.kl(that), expected, rtol=1e-4)

    def test_it_stays_finite_where_actions_reach_the_bounds(self):
        """tanh(u) is 1 in float32 from u = 9 on, and 1 - tanh(u)^2 is 0."""
        ones = jnp.ones(2)

        def through(function, mean, log_std):
            return function(SquashedGaussian(mean * ones, log_std * ones, -2 * ones, 2 * ones))

        functions = {
            "drawn": lambda d: sum(jnp.sum(x) for x in d.sample_and_log_prob(jax.random.key(0))),
            "at the bound": lambda d: d.log_prob(2 * ones),
            "entropy": lambda d: d.entropy(),
        }
        for mean, log_std in [(20.0, 0.0), (-50.0, 2.0), (0.0, 2.0), (0.3, -20.0)]:
            for name, function in functions.items():
                value, gradient = jax.value_and_grad(through, (1, 2))(function, mean, log_std)
                assert np.isfinite([value, *gradient]).all(), (mean, log_std, name)
        far = jax.tree.map(lambda x: x * ones, SquashedGaussian(20.0, 0.0, -2.0, 2.0))
        _, log_prob = far.sample_and_log_prob(jax.random.key(1))
        noise = np.float64(jax.random.normal(jax.random.key(1), (2,)))
        exact = (scipy.stats.norm.logpdf(noise) - np.log(2) - 2 * (np.log(2) - (20 + noise))).sum()
        np.testing.assert_allclose(log_prob, exact, rtol=1e-5)

    def test_the_score_function_is_unbiased_however_near_the_bounds(self):
        """E[x d log_prob / d mean] = d E[x] / d mean = E[1 - tanh(u)^2], x the action in units of the box."""
        number = 100_000

        @jax.jit
        def drawn(key, *fields):
            dist = SquashedGaussian(*(jnp.full((number, 1), x) for x in fields))
            action = dist.sample(key)
            return action, jax.grad(lambda m: jnp.sum(dist._replace(mean=m).log_prob(action)))(dist.mean)

        z = np.linspace(-12, 12, 100_001)
        cases = [(0.5, 2.0), (6.0, 0.0), (-6.5, 0.0), (10.0, 3.0), (-3.0, 1.0), (6.6, -3.0), (20.0, 0.0)]
        for low, high in [(-1.0, 1.0), (10.0, 20.0), (0.0, 1.0)]:
            for i, (mean, log_std) in enumerate(cases):
                action, score = (np.float64(x) for x in drawn(jax.random.key(i), mean, log_std, low, high))
                exact = np.trapezoid(scipy.stats.norm.pdf(z) / np.cosh(mean + np.exp(log_std) * z) ** 2, z)
                x = 2 * (action - low) / (high - low) - 1
                # The score's own mean is 0; so what is taken off x beforehand takes off noise alone.
                for values, expected in (((x - x.mean()) * score, exact), (score, 0.0)):
                    error = values.std() / number**0.5
                    assert abs(values.mean() - expected) < 5 * error + 1e-4, (mean, log_std, low, high)

    def test_log_prob_next_to_the_bounds_is_that_of_the_last_cell(self):
        """P(cell) over its width, 64.5 roundings of the bound, in float64."""
        log_prob = jax.jit(lambda x, *fields: SquashedGaussian(*fields).log_prob(x))
        for low, high in [(-1.0, 1.0), (10.0, 20.0), (0.0, 1.0), (-20.0, -10.0)]:
            inward = np.nextafter(np.float32([low, high]), np.float32([high, low]))
            width = 64.5 * np.maximum(np.abs(np.float64(inward) - [low, high]), np.finfo(np.float32).tiny)
            u = 0.5 * np.log((high - low - width) / width)
            for mean, log_std in [(6.0, 0.0), (-9.0, 0.5), (0.3, 3.0)]:
                normal = scipy.stats.norm(mean, np.exp(log_std))
                for i, (bound, log_mass) in enumerate(((low, normal.logcdf(-u[0])), (high, normal.logsf(u[1])))):
                    found = log_prob(*(jnp.full(1, x, jnp.float32) for x in (bound, mean, log_std, low, high)))
                    np.testing.assert_allclose(found, log_mass - np.log(width[i]), rtol=2e-5)

    def test_entropy_and_kl_far_out_are_the_integrals(self):
        z = np.linspace(-12, 12, 400_001)
        for mean, log_std in [(10.0, 3.0), (-10.0, 3.0), (10.0, 0.0), (0.0, 3.0), (10.0, -3.0), (3.0, 4.0)]:
            slope = 2 * (np.log(2) - np.logaddexp(mean + np.exp(log_std) * z, -mean - np.exp(log_std) * z))
            expected = log_std + 0.5 * np.log(2 * np.pi * np.e) + np.trapezoid(slope * scipy.stats.norm.pdf(z), z)
            make = lambda *x: SquashedGaussian(*(jnp.array([y], jnp.float32) for y in x))  # noqa: E731
            dist = make(mean, log_std, -1.0, 1.0)
            np.testing.assert_allclose(dist.entropy(), expected, rtol=2e-6)
            other = make(mean - 2, log_std - 0.4, -1.0, 1.0)
            exact = 0.5 * (np.exp(0.8) + (2 * np.exp(0.4 - log_std)) ** 2 - 1) - 0.4
            np.testing.assert_allclose(dist.kl(other), exact, rtol=2e-6)
            # The mean of what a sample knows of itself, too.
            many = jax.tree.map(lambda x: jnp.broadcast_to(x, (50_000, 1)), dist)
            log_prob = np.float64(many.sample_and_log_prob(jax.random.key(0))[1])
            assert abs(log_prob.mean() + expected) < 5 * log_prob.std() / 50_000**0.5

    def test_actions_next_to_a_bound_keep_their_digits(self):
        """tanh in float32 is 1 from 8 on; the distance to the nearer bound is (high - low) / (1 + exp(2 |u|))."""
        u = np.linspace(-12, 12, 97, dtype=np.float32)
        for low, high in [(-1.0, 1.0), (0.0, 1.0)]:
            action = SquashedGaussian(u[:, None], 0 * u[:, None], *(jnp.full((97, 1), x) for x in (low, high))).mode()
            exact = low + (high - low) / (1 + np.exp(-2 * np.float64(u)))
            np.testing.assert_allclose(np.float64(action)[:, 0], exact, rtol=0, atol=1.2e-7)
            assert (np.diff(np.float64(action)[24:73, 0]) > 0).all()

    def test_mode_is_the_median(self):
        dist = _random_squashed(4, 3)
        drawn = np.asarray(_draw(jax.random.key(3), dist, 20_000))
        below = (drawn < np.asarray(dist.mode())).sum(0)
        assert (abs(below - 10_000) < 5 * np.sqrt(5000)).all()


class TestUnits:
    def test_of_a_finite_box_are_its_middle_and_half_width_each_for_itself(self):
        box = spaces.Box(np.float32([-1, 0, 10, -0.01]), np.float32([1, 1000, 20, 0.01]), (4,))
        np.testing.assert_allclose(units(box), [[0, 500, 15, 0], [1, 500, 5, 0.01]], rtol=1e-6)
        assert units(spaces.Box(-2.0, 4.0, (2,))) == ((1.0, 1.0), (3.0, 3.0))

    def test_of_what_has_no_bound_are_the_nearest_number_to_0_and_1(self):
        most = np.finfo(np.float32).max
        low, high = np.float32([-INF, 0, 5, -INF, -most, 3]), np.float32([INF, INF, INF, -7, most, 3])
        assert units(spaces.Box(low, high, (6,))) == ((0.0, 0.0, 5.0, -7.0, 0.0, 3.0), (1.0,) * 6)

    def test_of_a_box_that_is_none_are_refused(self):
        with pytest.raises(ValueError, match="low <= high, got Box"):
            units(spaces.Box(1.0, -1.0, (1,)))
        with pytest.raises(ValueError, match="low <= high, got Box"):
            units(spaces.Box(np.float32(np.nan), 1.0, (1,)))

    def test_change_nothing_but_constants(self):
        """a = middle + half u: log p(a) = log N(u) - log half, and divergences stay."""
        this, that = _random_gaussian(11, 5, 2), _random_gaussian(12, 5, 2)
        box = ((500.0, 15.0), (500.0, 5.0))
        there, other = gaussian(*this, box), gaussian(*that, box)
        key, shift = jax.random.key(0), np.log(500 * 5)
        u, a = this.sample(key), there.sample(key)
        np.testing.assert_allclose(a, box[0] + box[1] * np.float64(u), rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(there.log_prob(a), this.log_prob(u) - shift, rtol=1e-4)
        np.testing.assert_allclose(there.entropy(), this.entropy() + shift, rtol=1e-5)
        np.testing.assert_allclose(there.kl(other), this.kl(that), rtol=1e-4, atol=1e-5)

    def test_of_minus_1_to_1_change_no_bit(self):
        this = _random_gaussian(13, 5, 2)
        there = gaussian(*this, units(spaces.Box(-1.0, 1.0, (2,))))
        assert there.mean is this.mean
        np.testing.assert_array_equal(there.log_std, this.log_std)


def _everything(key, this, that):
    action = this.sample(key)
    return action, this.log_prob(action), this.entropy(), this.mode(), this.kl(that)


everything = jax.jit(_everything)


@pytest.fixture(scope="module", params=["categorical", "gaussian", "squashed"])
def pair(request):
    """Two batches of 8 distributions."""
    if request.param == "categorical":
        return _random_categorical(6, 8, 5), _random_categorical(7, 8, 5)
    build = {"gaussian": _random_gaussian, "squashed": _random_squashed}[request.param]
    return build(6, 8, 3), build(7, 8, 3)


def _tolerance(pair):
    # Next to a bound the inverse of tanh makes much of the last digit.
    return {"rtol": 1e-3, "atol": 1e-3} if isinstance(pair[0], SquashedGaussian) else {"rtol": 1e-5, "atol": 1e-6}


def test_batch_axes_lead(pair):
    action, log_prob, entropy, mode, kl = everything(jax.random.key(0), *pair)
    assert action.shape == mode.shape and action.dtype == mode.dtype
    assert action.shape == ((8,) if isinstance(pair[0], Categorical) else (8, 3))
    assert log_prob.shape == entropy.shape == kl.shape == (8,)


def test_jit_equals_eager(pair):
    eager, compiled = (function(jax.random.key(0), *pair) for function in (_everything, everything))
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(a, b, **_tolerance(pair))


def test_vmap_equals_a_loop(pair):
    keys = jax.random.split(jax.random.key(1), 8)
    together = jax.jit(jax.vmap(_everything))(keys, *pair)
    for i in range(8):
        alone = everything(keys[i], *jax.tree.map(lambda x, i=i: np.asarray(x)[i], pair))
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(np.asarray(a)[i], b, **_tolerance(pair))


def test_the_same_key_draws_the_same(pair):
    first, again, other = (everything(jax.random.key(i), *pair)[0] for i in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_rounding_in_a_long_prefix_sum_opens_no_interval_for_an_impossible_action(monkeypatch):
    """XLA sums long axes in blocks, and on a GPU always in parallel: neighbours of equal mass may round apart."""
    actions, rows = 2048, 64
    g = np.random.default_rng(0)
    logits = g.normal(size=(rows, actions)).astype(np.float32)
    logits[g.random((rows, actions)) < 0.5] = -np.inf
    cumulative = np.asarray(jax.jit(lambda x: jnp.cumsum(jax.nn.softmax(x), axis=-1))(logits), np.float64)
    sample = jax.jit(lambda logits, u: draw(logits, u))
    grid = 2.0**-23

    def draw(logits, u):
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape, dtype: u[:, None])
        return Categorical(logits).sample(jax.random.key(0))

    # The numbers of the generator's grid next to the end of each of the first intervals.
    for k in range(1, actions, 16):
        for offset in (-1, 0, 1):
            u = np.clip(np.round(cumulative[:, k] / cumulative[:, -1] / grid) + offset, 0, 2**23 - 1) * grid
            drawn = np.asarray(sample(logits, u.astype(np.float32)))
            assert np.isfinite(logits[np.arange(rows), drawn]).all()


def test_a_squashed_gaussian_is_differentiable_in_its_bounds():
    """A module of the user's own may hold them as parameters."""
    one = jnp.zeros((1, 1))
    dist = SquashedGaussian(one + 0.3, one, one - 1.0, one + 1.0)
    slope = jax.grad(lambda dist: jnp.sum(dist.log_prob(jnp.array([[0.3]]))))(dist)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))
