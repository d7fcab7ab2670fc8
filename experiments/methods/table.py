"""The gallery as a table: how each method is run, what of it may be swept, and how it was verified.

A method is a file of this folder with one public name, that of the file: a plug for a row of the roster, or an
algorithm of its own.
"""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import pgjax
from pgjax.algorithms.roster import ROSTER
from pgjax.sweeps import user_code

HERE = pathlib.Path(__file__).parent
CLOSED = "gradient, closed form in float64"
PASS = {"tiny": "Catch-bsuite", "smoke": {"num_envs": 16, "num_minibatches": 2, "k": 2, "hidden": (8,)}}
GROUPS = {"num_envs": 8, "samples": 4, "num_minibatches": 2}


class Method(NamedTuple):
    """One row: `plug` is "loss", "advantage", "estimator", "optimizer", "policy" or "algorithm"."""

    plug: str
    paper: str
    sweep: dict[str, list[float]]  # one of its hyperparameters, else of what it wraps, and two values
    verified: str
    base: str = "ppo"  # the row of the roster that it is a plug of
    env: str = "CartPole-v1"  # of the command that its file shows
    tiny: str = "TabularMDP-pgjax"  # of tests
    settings: dict[str, Any] = {}  # of the command
    smoke: dict[str, Any] = {}  # of tests

    @property
    def of_groups(self) -> bool:
        """Whether episodes begin alike in groups, from which language models learn."""
        return self.env == "copying"


def _sequences(plug: str, paper: str, sweep: dict[str, list[float]], verified: str, **more: Any) -> Method:
    more = {"base": "grpo", "smoke": GROUPS} | more
    return Method(plug, paper, sweep, verified, env="copying", **more)


METHODS = {
    "dual_clip": Method("loss", "Ye et al. 2020", {"c": [2, 3]}, CLOSED),
    "ppo_rb": Method("loss", "Wang et al. 2019", {"alpha": [0.02, 0.3]}, CLOSED),
    "truly_ppo": Method("loss", "Wang et al. 2019", {"alpha": [1, 5]}, CLOSED),
    "clip_higher": Method("loss", "Yu et al. 2025", {"eps_high": [0.2, 0.28]}, CLOSED),
    "spo": Method("loss", "Xie et al. 2024", {"clip_eps": [0.1, 0.2]}, CLOSED),
    "awr": Method("loss", "Peng et al. 2019", {"beta": [0.3, 1]}, CLOSED),
    "mdpo": Method("loss", "Tomar et al. 2020", {"step_size": [0.3, 1]}, CLOSED),
    "mdpo_sampled": Method("loss", "Tomar et al. 2020", {"step_size": [0.3, 1]}, CLOSED + "; in the mean mdpo"),
    "pmpo": Method("loss", "Abdolmaleki et al. 2024", {"alpha": [0.5, 0.9]}, CLOSED),
    "p3o": Method("loss", "Chen et al. 2023", {"beta": [0.1, 1]}, CLOSED),
    "self_imitation": Method(
        "loss", "Oh et al. 2018", {"coef": [0, 1]}, CLOSED + ", critic's too", base="vpg", settings={"gae_lambda": 1}
    ),
    "cispo": _sequences("loss", "MiniMax 2025", {"eps_high": [1, 4]}, CLOSED),
    "gspo": _sequences("loss", "Zheng et al. 2025", {"eps_high": [0.0004, 0.2]}, CLOSED + "; losses.sequence_clip"),
    "gmpo": _sequences("loss", "Zhao et al. 2025", {"clip_eps": [0.2, 0.4]}, CLOSED),
    "sapo": _sequences("loss", "Gao et al. 2025", {"tau_neg": [1, 2]}, CLOSED),
    "topr": _sequences("loss", "Le Roux et al. 2025", {"bound": [0.5, 1]}, CLOSED, base="rloo"),
    "opo": _sequences(
        "advantage",
        "Hao et al. 2025",
        {"clip_eps": [0.1, 0.2]},
        "loop in float64",
        base="rloo",
        settings={"num_minibatches": 1},
        smoke={"num_envs": 8, "samples": 4},
    ),
    "pass_at_k": _sequences("advantage", "Chen et al. 2025", {"clip_eps": [0.1, 0.2]}, "all groups of k", **PASS),
    "upgo": Method("advantage", "Vinyals et al. 2019", {"critic_lambda": [0.8, 1]}, "loop in float64", base="a2c"),
    "sam": Method(
        "estimator", "Foret et al. 2021", {"radius": [0.01, 0.05]}, "two gradients in float64", tiny="CartPole-v1"
    ),
    "pcgrad": Method(
        "estimator",
        "Yu et al. 2020",
        {"value_coef": [0.1, 0.5]},
        "both gradients and their projections in float64",
        tiny="CartPole-v1",
        settings={"shared": True},
    ),
    "muon": Method(
        "optimizer",
        "Jordan et al. 2024",
        {"momentum": [0.9, 0.95]},
        "Newton-Schulz loop in float64; singular values",
        tiny="CartPole-v1",
    ),
    "beta_policy": Method(
        "policy",
        "Chou et al. 2017",
        {"clip_eps": [0.1, 0.2]},
        "scipy; samples",
        env="Pendulum-v1",
        tiny="Pendulum-v1",
    ),
    "mixture_policy": Method(
        "policy",
        "Bishop 1994",
        {"clip_eps": [0.1, 0.2]},
        "scipy; samples; bounds of entropy and KL by quadrature",
        env="Pendulum-v1",
        tiny="Pendulum-v1",
    ),
    "hl_gauss": Method(
        "algorithm",
        "Farebrother et al. 2024",
        {"spread": [0.5, 0.75]},
        "critic's gradient in float64, scipy's histogram",
        tiny="CartPole-v1",
    ),
    "symlog": Method(
        "algorithm",
        "Hafner et al. 2023",
        {"value_coef": [0.5, 1]},
        "critic's " + CLOSED,
        env="Pendulum-v1",
        tiny="CartPole-v1",
    ),
    "dae": Method(
        "algorithm",
        "Pan et al. 2022",
        {"discount": [0.97, 0.99]},
        "gradient of a loop over backups in float64",
        tiny="CartPole-v1",
    ),
    "pqn": Method(
        "algorithm",
        "Gallici et al. 2024",
        {"q_lambda": [0.65, 0.95]},
        "loop in float64; " + CLOSED,
        tiny="CartPole-v1",
    ),
    "retrace": Method("algorithm", "Munos et al. 2016", {"retrace_lambda": [0.9, 1]}, "sum over traces in float64"),
    "mean_actor_critic": Method("algorithm", "Allen et al. 2017", {"discount": [0.97, 0.99]}, "actor's " + CLOSED),
    "neurd": Method("algorithm", "Hennes et al. 2020", {"discount": [0.97, 0.99]}, "actor's " + CLOSED),
    "dr_grpo": _sequences("algorithm", "Liu et al. 2025", {"clip_eps": [0.1, 0.2]}, CLOSED),
    "reinforce_pp": _sequences(
        "algorithm",
        "Hu 2025",
        {"reference_penalty": [0.001, 0.01]},
        "loop in float64; " + CLOSED,
        smoke={"num_envs": 8, "num_minibatches": 2},
    ),
    "dapo": _sequences("algorithm", "Yu et al. 2025", {"eps_high": [0.2, 0.28]}, CLOSED),
}


@functools.cache
def load(name: str) -> Any:
    """What the method's file defines: a plug, or an Entry of an algorithm."""
    return user_code.load(f"{HERE / name}.py:{name}", name)


def entry(name: str) -> Any:
    """The Entry that trains a method, but for a loss or a policy, which `pgjax.run` takes beside it."""
    method = METHODS[name]
    if method.plug == "algorithm":
        return load(name)
    row = ROSTER[method.base]
    if method.plug in ("loss", "policy"):
        return row
    return dataclasses.replace(row, algorithm=row.algorithm._replace(**{method.plug: load(name)}))


def train(name: str, **options: Any) -> Any:
    """Two updates of a tiny network on a tiny environment, for both values of what is swept: a Run."""
    method = METHODS[name]
    sizes = {"num_envs": 4, "eval_episodes": 2} | ({} if method.of_groups else {"num_steps": 8, "hidden": (8,)})
    given = {method.plug: load(name)} if method.plug in ("loss", "policy") else {}
    settings = sizes | method.settings | method.smoke | method.sweep
    return pgjax.run(entry(name), method.tiny, updates=2, settings=settings, progress=False, **given, **options)


def command(name: str) -> str:
    """The command that trains a method, as its file shows it."""
    method, file = METHODS[name], f"experiments/methods/{name}.py:{name}"
    start = (
        f"{file} {method.env}" if method.plug == "algorithm" else f"{method.base} {method.env} --{method.plug} {file}"
    )
    values = {k: ",".join(map(str, v)) for k, v in method.sweep.items()}
    return f"pgjax train {start} --set {' '.join(f'{k}={v}' for k, v in (method.settings | values).items())}"
