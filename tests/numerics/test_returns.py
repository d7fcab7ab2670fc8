"""Every function of `returns` against sums written episode by episode in float64, and against each other."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pgjax.numerics import returns, time_limits
from pgjax.types import Step

DISCOUNT, LAMBDA, N = 0.9, 0.7, 3
CLIP_RHO, CLIP_C = 1.1, 0.9
GAIN = 0.3
RTOL = 2e-5


def _data(seed, shape):
    """Random experience in which, as in a real one, V'_t is V_{t+1} wherever the episode goes on."""
    g = np.random.default_rng(seed)
    # A quarter of the steps end an episode; one in ten is marked as both.
    terminated, truncated = g.random(shape) < 0.15, g.random(shape) < 0.15
    both = g.random(shape) < 0.05
    terminated, truncated = terminated | both, truncated | both
    value, next_value = g.normal(size=(2, *shape))
    going_on = ~(terminated | truncated)[:-1]
    next_value[:-1][going_on] = value[1:][going_on]
    return {
        "reward": g.normal(size=shape),
        "value": value,
        "next_value": next_value,
        "terminated": terminated,
        "truncated": truncated,
        "log_rho": 0.5 * g.normal(size=shape),
    }


def _everything(reward, value, next_value, terminated, truncated, log_rho):
    ends = (terminated, truncated, DISCOUNT)
    v_target, v_advantage = returns.v_trace(log_rho, reward, value, next_value, *ends, LAMBDA, CLIP_RHO, CLIP_C)
    _, advantage = returns.v_trace(log_rho, reward, value, next_value, *ends, 1.0, CLIP_RHO, CLIP_C)
    return {
        "seen": returns.discounted_return(reward, *ends),
        "completed": returns.discounted_return(reward, *ends, next_value),
        "lambda": returns.lambda_return(reward, next_value, *ends, LAMBDA),
        "gae": returns.gae(reward, value, next_value, *ends, LAMBDA),
        "n_step": returns.n_step_return(reward, next_value, *ends, N),
        "v_target": v_target,
        "v_advantage": advantage,
        "differential": returns.differential_return(reward, GAIN, next_value, LAMBDA),
    }


everything = jax.jit(_everything)


def _episodes(terminated, truncated):
    """(first step, step behind the last, weight of the last V') of each stretch between two ends."""
    start = 0
    for t in range(len(terminated)):
        if terminated[t]:
            yield start, t + 1, 0.0
        elif truncated[t] or t == len(terminated) - 1:
            yield start, t + 1, 1.0
        else:
            continue
        start = t + 1


def _sums(reward, value, next_value, terminated, truncated, log_rho):
    """The same by explicit sums over each episode, one column [T] at a time."""
    size = len(reward)
    out = {name: np.zeros(size) for name in ("seen", "completed", "lambda", "gae", "n_step", "v_target", "v_advantage")}
    rho, c = np.minimum(np.exp(log_rho), CLIP_RHO), np.minimum(np.exp(log_rho), CLIP_C)
    for start, stop, tail in _episodes(terminated, truncated):

        def n_step(t, n, start=start, stop=stop, tail=tail):
            h = min(t + n, stop)
            rewards = sum(DISCOUNT ** (k - t) * reward[k] for k in range(t, h))
            return rewards + DISCOUNT ** (h - t) * next_value[h - 1] * (tail if h == stop else 1.0)

        def delta(t, stop=stop, tail=tail):
            return reward[t] + DISCOUNT * next_value[t] * (tail if t == stop - 1 else 1.0) - value[t]

        def v_trace(t, lambda_, stop=stop):
            return value[t] + sum(
                DISCOUNT ** (k - t) * np.prod(lambda_ * c[t:k]) * rho[k] * delta(k) for k in range(t, stop)
            )

        for t in range(start, stop):
            left = stop - t
            out["seen"][t] = sum(DISCOUNT ** (k - t) * reward[k] for k in range(t, stop))
            out["completed"][t] = n_step(t, left)
            out["lambda"][t] = (1 - LAMBDA) * sum(
                LAMBDA ** (n - 1) * n_step(t, n) for n in range(1, left)
            ) + LAMBDA ** (left - 1) * n_step(t, left)
            out["gae"][t] = sum((DISCOUNT * LAMBDA) ** (k - t) * delta(k) for k in range(t, stop))
            out["n_step"][t] = n_step(t, N)
            out["v_target"][t] = v_trace(t, LAMBDA)
            following = v_trace(t + 1, 1.0) if t + 1 < stop else tail * next_value[t]
            out["v_advantage"][t] = rho[t] * (reward[t] + DISCOUNT * following - value[t])

    def differential(t, n):
        return sum(reward[t : t + n] - GAIN) + next_value[t + n - 1]

    out["differential"] = np.array(
        [
            (1 - LAMBDA) * sum(LAMBDA ** (n - 1) * differential(t, n) for n in range(1, size - t))
            + LAMBDA ** (size - t - 1) * differential(t, size - t)
            for t in range(size)
        ]
    )
    return out


def _by_columns(data):
    columns = [_sums(**{name: x[:, b] for name, x in data.items()}) for b in range(data["reward"].shape[1])]
    return {name: np.stack([column[name] for column in columns], axis=1) for name in columns[0]}


def _cast(data, dtype):
    return {name: x.astype(dtype) if x.dtype != bool else x for name, x in data.items()}


def _run(data, dtype=np.float32, function=everything):
    return {name: np.asarray(x) for name, x in function(**_cast(data, dtype)).items()}


@pytest.fixture(scope="module")
def stream():
    """Data [T, B], and what the functions under test make of it."""
    data = _data(0, (40, 25))
    return data, _run(data)


@pytest.fixture(scope="module")
def by_sums(stream):
    return _by_columns(stream[0])


def test_the_data_hold_every_kind_of_end(stream):
    terminated, truncated = stream[0]["terminated"], stream[0]["truncated"]
    for this, that in [(terminated, truncated), (terminated, ~truncated), (~terminated, truncated)]:
        assert (this & that).sum() > 10
        assert (this & that)[-1].any() and (this & that)[0].any()
    assert (~terminated & ~truncated)[-1].any()


@pytest.mark.parametrize(
    "name", ["seen", "completed", "lambda", "gae", "n_step", "v_target", "v_advantage", "differential"]
)
def test_equals_the_sum_over_each_episode(name, stream, by_sums):
    np.testing.assert_allclose(stream[1][name], by_sums[name], rtol=RTOL, atol=RTOL)


def test_a_single_step_is_enough():
    data = _data(1, (1, 64))
    expected = _by_columns(data)
    for name, x in _run(data).items():
        np.testing.assert_allclose(x, expected[name], rtol=RTOL, atol=RTOL, err_msg=name)


def test_axes_behind_time_are_independent(stream):
    data, expected = stream
    cube = {name: x.reshape(40, 5, 5) for name, x in data.items()}
    column = {name: x[:, 7] for name, x in data.items()}
    for name, x in _run(cube).items():
        np.testing.assert_allclose(x.reshape(40, 25), expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    for name, x in _run(column).items():
        np.testing.assert_allclose(x, expected[name][:, 7], rtol=1e-6, atol=1e-6, err_msg=name)


def test_float32_in_float32_out(stream):
    assert {x.dtype for x in stream[1].values()} == {np.dtype(np.float32)}


def test_float64_keeps_its_precision(stream, by_sums):
    with jax.enable_x64(True):
        exact = _run(stream[0], np.float64, jax.jit(_everything))
    for name, x in exact.items():
        assert x.dtype == np.float64, name
        np.testing.assert_allclose(x, by_sums[name], rtol=1e-12, atol=1e-12, err_msg=name)


def test_the_discount_may_be_traced(stream):
    data, expected = stream
    given = _cast(data, np.float32)
    args = [given[name] for name in ("reward", "value", "next_value", "terminated", "truncated")]
    swept = jax.jit(jax.vmap(returns.gae, (None,) * 5 + (0, 0)))(
        *args, jnp.array([0.5, DISCOUNT]), jnp.array([0.1, LAMBDA])
    )
    np.testing.assert_allclose(swept[1], expected["gae"], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def identities(stream):
    """Pairs that two different functions must agree on."""

    @jax.jit
    def pairs(reward, value, next_value, terminated, truncated, log_rho):
        ends = (terminated, truncated, DISCOUNT)
        completed = returns.discounted_return(reward, *ends, next_value)
        bootstrap, _ = time_limits.discounts(*ends)
        td_target = reward + bootstrap * next_value
        on_policy = returns.v_trace(jnp.zeros_like(log_rho), reward, value, next_value, *ends)

        def gae(lambda_):
            return returns.gae(reward, value, next_value, *ends, lambda_)

        def lambda_return(lambda_):
            return returns.lambda_return(reward, next_value, *ends, lambda_)

        def n_step(n):
            return returns.n_step_return(reward, next_value, *ends, n)

        return {
            "GAE(1) is completed return minus value": (gae(1.0), completed - value),
            "GAE(0) is the TD error": (gae(0.0), td_target - value),
            "lambda-return(1) is the completed return": (lambda_return(1.0), completed),
            "lambda-return(0) is the TD target": (lambda_return(0.0), td_target),
            "lambda-return minus value is GAE": (lambda_return(LAMBDA) - value, gae(LAMBDA)),
            "1-step is the TD target": (n_step(1), td_target),
            "T-step is the completed return": (n_step(len(reward)), completed),
            "more than T steps change nothing": (n_step(len(reward) + 7), completed),
            "on-policy V-trace is the completed return": (on_policy[0], completed),
            "on-policy V-trace advantage is GAE(1)": (on_policy[1], gae(1.0)),
        }

    return pairs(**_cast(stream[0], np.float32))


@pytest.mark.parametrize(
    "name",
    [
        "GAE(1) is completed return minus value",
        "GAE(0) is the TD error",
        "lambda-return(1) is the completed return",
        "lambda-return(0) is the TD target",
        "lambda-return minus value is GAE",
        "1-step is the TD target",
        "T-step is the completed return",
        "more than T steps change nothing",
        "on-policy V-trace is the completed return",
        "on-policy V-trace advantage is GAE(1)",
    ],
)
def test_identity(name, identities):
    this, that = identities[name]
    np.testing.assert_allclose(this, that, rtol=RTOL, atol=RTOL)


def test_unclipped_v_trace_weighs_by_the_product_of_ratios():
    """With no clipping and lambda = 1 over one episode: v_0 - V_0 = sum_t gamma^t rho_0 .. rho_t delta_t."""
    data = _cast(_data(2, (6,)), np.float32) | {"terminated": np.zeros(6, bool), "truncated": np.zeros(6, bool)}
    data["next_value"][:-1] = data["value"][1:]
    target, _ = returns.v_trace(**data, discount=DISCOUNT, clip_rho=jnp.inf, clip_c=jnp.inf)
    delta = data["reward"] + DISCOUNT * data["next_value"] - data["value"]
    weights = DISCOUNT ** np.arange(6) * np.exp(np.cumsum(data["log_rho"]))
    np.testing.assert_allclose(target[0] - data["value"][0], np.sum(weights * delta), rtol=1e-4)


class TestTimeLimit:
    """Reward 1 for ever, cut every 5 steps by the clock: the value is 1 / (1 - .9) = 10 everywhere."""

    reward = np.ones((12, 2), np.float32)
    value = np.full((12, 2), 10, np.float32)
    clock = np.broadcast_to((np.arange(12) % 5 == 4)[:, None], (12, 2))
    never = np.zeros((12, 2), bool)

    def outputs(self, terminated, truncated):
        data = {"reward": self.reward, "value": self.value, "next_value": self.value}
        return _run(data | {"terminated": terminated, "truncated": truncated, "log_rho": 0 * self.reward})

    def test_truncation_bootstraps(self):
        outputs = self.outputs(self.never, self.clock)
        for name in ("gae", "v_advantage"):
            np.testing.assert_allclose(outputs[name], 0, atol=1e-5, err_msg=name)
        for name in ("completed", "lambda", "n_step", "v_target"):
            np.testing.assert_allclose(outputs[name], 10, rtol=1e-6, err_msg=name)

    def test_termination_does_not(self):
        outputs = self.outputs(self.clock, self.never)
        np.testing.assert_allclose(outputs["gae"][[4, 9]], -9, rtol=1e-6)
        np.testing.assert_allclose(outputs["completed"][[4, 9]], 1, rtol=1e-6)
        np.testing.assert_allclose(outputs["completed"][0], (1 - 0.9**5) / 0.1, rtol=1e-6)
        # What follows the last end is open, and bootstraps.
        np.testing.assert_allclose(outputs["completed"][10:], 10, rtol=1e-6)

    def test_both_at_once_is_termination(self):
        both, alone = self.outputs(self.clock, self.clock), self.outputs(self.clock, self.never)
        for name in both:
            np.testing.assert_array_equal(both[name], alone[name], err_msg=name)

    def test_no_reward_crosses_an_end(self):
        """Doubling every reward after the first end leaves the first episode alone, whichever way it ended."""
        for terminated, truncated in [(self.clock, self.never), (self.never, self.clock)]:
            data = {"value": self.value, "next_value": self.value, "log_rho": 0 * self.reward}
            data |= {"terminated": terminated, "truncated": truncated}
            reward = self.reward.copy()
            reward[5:] *= 2
            before, after = _run(data | {"reward": self.reward}), _run(data | {"reward": reward})
            for name in before:
                if name != "differential":
                    np.testing.assert_array_equal(before[name][:5], after[name][:5], err_msg=name)


def test_n_must_be_positive():
    x, no = np.ones(3, np.float32), np.zeros(3, bool)
    with pytest.raises(ValueError, match="n must be 1 or more, got 0"):
        returns.n_step_return(x, x, no, no, DISCOUNT, 0)


@pytest.fixture(scope="module")
def rlax():
    with warnings.catch_warnings():
        # Its dependencies use names that newer versions of jax and tensorflow-probability deprecate.
        warnings.simplefilter("ignore")
        return pytest.importorskip("rlax", exc_type=ImportError)


def test_rlax_agrees(rlax):
    """rlax knows terminations, as a discount of 0, but no truncations."""
    data = _cast(_data(3, (30,)), np.float32)
    data["truncated"] = np.zeros(30, bool)
    # rlax's GAE reads V' from the array of V; where that belongs to another episode a discount of 0 hides it.
    data["next_value"][:-1] = data["value"][1:]
    ours = _run(data)

    @jax.jit
    def theirs(reward, value, next_value, terminated, truncated, log_rho):
        discount = jnp.where(terminated, 0.0, DISCOUNT)
        values = jnp.append(value, next_value[-1])
        v_trace = rlax.vtrace_td_error_and_advantage(value, next_value, reward, discount, jnp.exp(log_rho), lambda_=1.0)
        return {
            "gae": rlax.truncated_generalized_advantage_estimation(reward, discount, LAMBDA, values),
            "lambda": rlax.lambda_returns(reward, discount, next_value, LAMBDA),
            "n_step": rlax.n_step_bootstrapped_returns(reward, discount, next_value, N),
            "v_error": rlax.vtrace(value, next_value, reward, discount, jnp.exp(log_rho), LAMBDA),
            "v_advantage": v_trace.pg_advantage,
        }

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        expected = theirs(**data)
    for name in ("gae", "lambda", "n_step"):
        np.testing.assert_allclose(ours[name], expected[name], rtol=RTOL, atol=RTOL, err_msg=name)
    target, _ = returns.v_trace(**data, discount=DISCOUNT, lambda_=LAMBDA)
    np.testing.assert_allclose(target - data["value"], expected["v_error"], rtol=RTOL, atol=RTOL)
    _, advantage = returns.v_trace(**data, discount=DISCOUNT)
    np.testing.assert_allclose(advantage, expected["v_advantage"], rtol=RTOL, atol=RTOL)


@pytest.mark.parametrize("numbers", [np, jnp])
def test_a_step_is_cut_at_the_limit_and_never_where_it_terminated(numbers):
    over = numbers.asarray([False, True, False, True])
    seen = Step(obs=(), reward=(), terminated=over, truncated=numbers.asarray([False, False, True, True]))
    for time, expected in ((2, [False, False, True, False]), (3, [True, False, True, False])):
        found = time_limits.cut(seen, numbers.full(4, time), 4)
        np.testing.assert_array_equal(found.truncated, expected)
        np.testing.assert_array_equal(found.terminated, over)
