from typing import Annotated

import jax
import jax.numpy as jnp
import pytest

from pgjax import losses
from pgjax.config import Config
from pgjax.declarations import Role, in_order
from pgjax.envs import make
from pgjax.hyperparameters import Range, by_role, value_of
from pgjax.sweeps.plan import plan
from pgjax.sweeps.user_code import load

TINY = {"hidden": (4,), "num_envs": 2, "num_steps": 4, "num_minibatches": 1, "num_epochs": 1}


def make_plan(algorithm="ppo", env="PolicyProbe-pgjax", **options):
    options["settings"] = {**TINY, **options.get("settings", {})}
    return plan(algorithm, env, **options)


def test_float_lists_share_one_group_and_static_lists_make_groups():
    made = make_plan(settings={"learning_rate": [1e-3, 1e-2], "num_envs": [2, 4], "clip_eps": 0.1})
    assert [group.config.num_envs for group in made.groups] == [2, 4]
    assert made.axes == {"learning_rate": [1e-3, 1e-2], "num_envs": [2, 4]}
    for group in made.groups:
        rates = [float(h.optimizer["learning_rate"]) for h in group.hypers]
        assert rates == [pytest.approx(1e-3), pytest.approx(1e-2)]
        assert all(float(h.estimator["clip_eps"]) == pytest.approx(0.1) for h in group.hypers)


def test_static_choices_of_plugs_make_groups_too():
    made = plan(
        "reinforce", "PolicyProbe-pgjax", settings={"hidden": (4,), "num_envs": 2, "baseline": ["none", "value"]}
    )
    assert [group.settings for group in made.groups] == [[{"baseline": "none"}], [{"baseline": "value"}]]


def test_text_is_parsed_in_the_type_of_the_default():
    made = make_plan(settings={"normalize_obs": "true", "hidden": "8x4", "num_envs": "4", "learning_rate": "1e-2"})
    config = made.groups[0].config
    assert (config.normalize_obs, config.hidden, config.num_envs) == (True, (8, 4), 4)
    assert float(made.groups[0].hypers[0].optimizer["learning_rate"]) == pytest.approx(1e-2)


def test_environment_floats_are_swept_and_integers_rebuild_the_environment():
    made = make_plan(env="Pendulum-v1", settings={"env.g": [8.0, 10.0], "env.max_steps_in_episode": 7})
    assert [float(h.env["g"]) for h in made.groups[0].hypers] == [8.0, 10.0]
    assert made.groups[0].env.max_steps == 7


@pytest.mark.slow
def test_parameters_that_move_the_bounds_of_actions_make_groups_with_networks_of_their_own():
    swept = {"env.max_torque": [1.0, 2.0, 4.0], "env.g": [8.0, 10.0]}
    for algorithm, tiny in (("a2c", TINY), ("sac", {"hidden": (4,), "num_envs": 2, "num_steps": 4})):
        made = plan(algorithm, "Pendulum-v1", settings={**tiny, **swept})
        assert [float(group.env.action_space.high) for group in made.groups] == [1.0, 2.0, 4.0]
        assert [float(group.env.params.max_torque) for group in made.groups] == [2.0] * 3  # the lanes' own come later
        for group, torque in zip(made.groups, (1.0, 2.0, 4.0), strict=True):
            lanes = [(float(h.env["max_torque"]), float(h.env["g"])) for h in group.hypers]
            assert lanes == [(torque, 8), (torque, 10)]
            if algorithm == "a2c":
                params = group.policy.init(jax.random.key(0))
                dist, _ = group.policy.act(params, (), jnp.zeros((1, 3)))
                assert float(jnp.exp(dist.log_std)[0, 0]) == pytest.approx(torque)
    listed = [{"env.max_torque": 1.0, "env.g": 8.0}, {"env.max_torque": 3.0, "env.g": 8.0}]
    assert len(plan("a2c", "Pendulum-v1", settings=[{**TINY, **one} for one in listed]).groups) == 2
    assert len(make_plan(env="Pendulum-v1", settings={"env.g": [8.0, 10.0]}).groups) == 1


def test_constructor_arguments_of_an_environment_can_be_set():
    made = make_plan(env="MemoryChain-bsuite", settings={"env.num_bits": [1, 2]})
    assert [group.env.observation_space.shape for group in made.groups] == [(3,), (4,)]


def test_steps_become_updates_rounded_up():
    assert make_plan(steps=17).groups[0].updates == 3
    assert make_plan(updates=5, steps=None).groups[0].updates == 5


def test_seeds_count_from_the_first():
    assert make_plan(seeds=3, seed=5).seeds == [5, 6, 7]
    assert make_plan(seeds=[4, 9]).seeds == [4, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "pppo"}, "no algorithm 'pppo'; did you mean 'ppo'"),
        ({"env": "PolicyProb-pgjax"}, "no environment 'PolicyProb-pgjax'; did you mean 'PolicyProbe-pgjax'"),
        ({"settings": {"clip_epz": 0.1}}, "no hyperparameter 'clip_epz'; did you mean 'clip_eps'"),
        ({"settings": {"estimator.clip_epz": 0.1}}, "estimator takes no hyperparameter 'clip_epz'; did you mean"),
        ({"settings": {"estimater.clip_eps": 0.1}}, "no part 'estimater'; did you mean 'estimator'"),
        ({"settings": {"clip_eps": "much"}}, "estimator.clip_eps must be a number, got 'much'"),
        ({"settings": {"num_envs": "2.5"}}, "config.num_envs must be a whole number, like its default 8, got '2.5'"),
        ({"settings": {"num_envs": 2.5}}, "config.num_envs must be a whole number, like its default 8, got 2.5"),
        ({"settings": {"normalize_obs": "maybe"}}, "config.normalize_obs must be true or false, got 'maybe'"),
        ({"settings": {"clip_eps": []}}, "estimator.clip_eps was given no value"),
        ({"settings": {"clip_eps": [0.1, 0.1]}}, "estimator.clip_eps has the same value twice"),
        ({"settings": {"num_minibatches": 3}}, "num_minibatches=3 doesn't divide the batch of 8 steps"),
        ({"settings": {"num_envs": 0}}, "config.num_envs must be 1 or more, got 0"),
        ({"settings": {"hidden": "0"}}, "hidden must be widths of 1 or more, got 0"),
        ({"settings": {"rollout": "episode"}}, "rollout must be one of unroll, episodes; got 'episode'"),
        ({"settings": {"activation": "gelu"}}, "activation must be one of tanh, relu; got 'gelu'"),
        ({"settings": {"network": "cnn"}}, "network='cnn' needs images"),
        ({"settings": {"network": "table"}}, "network='table' needs a discrete observation"),
        ({"seeds": 0}, "seeds must be 1 or more, got 0"),
        ({"seeds": [1, 1]}, "seeds has the same seed twice"),
        ({"seed": -1}, "seeds must lie in"),
        ({"steps": 0}, "steps must be 1 or more, got 0"),
        ({"updates": -1}, "updates must be 1 or more, got -1"),
    ],
)
def test_bad_input_is_named_with_its_value_and_the_fix(options, message):
    algorithm, env = options.pop("algorithm", "ppo"), options.pop("env", "PolicyProbe-pgjax")
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        make_plan(algorithm, env, **options)


def test_a_loss_of_the_wrong_shape_is_named_before_anything_is_compiled():
    def averaged(now, batch):
        return jnp.mean(now.log_prob * batch.advantage), {}

    with pytest.raises(ValueError, match=r"loss 'averaged' returned shape \(\), expected one loss per step, \[N\]"):
        make_plan(loss=averaged, settings={"num_minibatches": 2})


def test_a_hyperparameter_without_default_is_refused():
    def loss(now, batch, *, beta):
        return now.log_prob * beta, {}

    with pytest.raises(TypeError, match="loss: keyword-only argument 'beta' has no default"):
        make_plan(loss=loss)


def test_an_environment_may_be_a_factory_or_an_env():
    assert make_plan(env=lambda: make("PolicyProbe-pgjax")).groups[0].env.max_steps == 10
    assert make_plan(env=make("PolicyProbe-pgjax")).groups[0].env.max_steps == 10
    with pytest.raises(TypeError, match="returned int; expected a pgjax Env or a gymnax one"):
        make_plan(env=lambda: 3)


def test_a_discrete_policy_on_a_continuous_world_is_refused():
    from pgjax.policies.distributions import Categorical
    from pgjax.types import Policy

    def discrete(env, config):
        return Policy(
            init=lambda key: {"w": jnp.zeros((3, 3))},
            memory=lambda batch: (),
            act=lambda params, memory, obs: (Categorical(obs @ params["w"]), memory),
            evaluate=lambda params, trajectory: None,
        )

    with pytest.raises(ValueError, match="the policy chooses among 3 actions, the action space is Box"):
        make_plan(env="Pendulum-v1", policy=discrete)


def test_load_finds_functions_in_modules_and_files(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def loss(now, batch):\n    return now.log_prob, {}\n")
    assert load(f"{file}:loss", "--loss").__name__ == "loss"
    assert load("pgjax.losses.policy:ppo_clip", "--loss").__name__ == "ppo_clip"
    for spec, message in (
        ("loss", "--loss must be module:name or file.py:name, got 'loss'"),
        ("nowhere:loss", "--loss: can't import 'nowhere'"),
        (f"{tmp_path}/absent.py:loss", "--loss: no file"),
        (f"{file}:los", "--loss: .* has no 'los'; did you mean 'loss'"),
    ):
        with pytest.raises(ValueError, match=message):
            load(spec, "--loss")


def test_config_defaults_make_a_valid_plan():
    assert Config().num_steps > 0


def of_its_own_meaning(
    now,
    batch,
    *,
    tau: float = 4.0,
    damping: float = -1.0,
    samples: int = 4,
    warmup: int = 10**9,
    stop_kl: float = 1e-9,
    target_kl: float = -2.0,
    importance: bool = True,
    reevaluate: bool = True,
    reference_coef: float = -1.0,
    gain_rate: float = 9.0,
):
    """Names that plugs of the package have, with a meaning of its own and no annotation that says more."""
    number = tau + damping + samples + stop_kl + target_kl + importance + reevaluate + reference_coef + gain_rate
    return -now.log_prob * batch.advantage * number / warmup, {}


@pytest.mark.parametrize("algorithm", ["reinforce", "a2c", "ppo", "impala", "relative_actor_critic", "rloo"])
def test_nothing_is_read_off_the_names_of_a_loss_of_ones_own(algorithm):
    small = {"num_envs": 8, "num_minibatches": 1, "num_steps": 0 if algorithm in ("reinforce", "rloo") else 8}
    mine = {"tau": [4.0, 5.0], "damping": -7.0, "target_kl": -3.0, "samples": 5, "lag": 1}
    if algorithm == "rloo":  # its advantage has samples too
        mine["estimator.samples"] = mine.pop("samples")
    made = plan(algorithm, "PolicyProbe-pgjax", updates=1, loss=of_its_own_meaning, settings={**small, **mine})
    (group,) = made.groups
    assert [float(h.estimator["tau"]) for h in group.hypers] == [4.0, 5.0]
    assert by_role(group.algorithm.estimator).keys() <= {Role.NORMALIZE, Role.NOISE}  # of the estimator around it
    assert value_of(group.algorithm.estimator, Role.WARMUP, 0) == 0


def test_a_range_that_a_loss_declares_is_kept():
    def loss(now, batch, *, power: Annotated[float, Range(0, 2)] = 1.0):
        return -now.log_prob * batch.advantage**power, {}

    with pytest.raises(ValueError, match=r"^estimator.power must lie in \[0, 2\], got 3$"):
        plan("a2c", "PolicyProbe-pgjax", updates=1, loss=loss, settings={"power": 3})


def test_a_sequence_loss_is_refused_in_a_stream():
    with pytest.raises(ValueError, match="^sequence_clip learns from whole episodes; use rollout='episodes'"):
        plan("ppo", "PolicyProbe-pgjax", updates=1, loss=losses.sequence_clip)


def test_minibatches_of_a_loss_in_order_are_whole_columns():
    """What the loss sees of each minibatch is [T, b]."""
    shapes = []

    @in_order
    def loss(now, batch):
        shapes.append(now.log_prob.shape)
        return -now.log_prob * batch.advantage, {}

    sizes = {"num_envs": 4, "num_steps": 6, "num_minibatches": 2, "num_epochs": 1}
    plan("ppo", "PolicyProbe-pgjax", updates=1, loss=loss, settings=sizes)
    assert set(shapes) == {(6, 2)}
