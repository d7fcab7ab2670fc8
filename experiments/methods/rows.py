"""The rows of the gallery: of each method how it is run, what of it may be swept, and how it was verified."""

from typing import Any, NamedTuple

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
    "mdpo": Method("loss", "Tomar et al. 2020", {"step_size": [0.3, 1]}, CLOSED),
    "mdpo_sampled": Method("loss", "Tomar et al. 2020", {"step_size": [0.3, 1]}, CLOSED + "; in the mean mdpo"),
    "pmpo": Method("loss", "Abdolmaleki et al. 2024", {"alpha": [0.5, 0.9]}, CLOSED),
    "p3o": Method("loss", "Chen et al. 2023", {"beta": [0.1, 1]}, CLOSED),
    "gmpo": _sequences("loss", "Zhao et al. 2025", {"clip_eps": [0.2, 0.4]}, CLOSED),
    "sapo": _sequences("loss", "Gao et al. 2025", {"tau_neg": [1, 2]}, CLOSED),
    "topr": _sequences("loss", "Le Roux et al. 2025", {"bound": [0.5, 1]}, CLOSED, base="rloo"),
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
    "retrace": Method("algorithm", "Munos et al. 2016", {"retrace_lambda": [0.9, 1]}, "sum over traces in float64"),
    "mean_actor_critic": Method("algorithm", "Allen et al. 2017", {"discount": [0.97, 0.99]}, "actor's " + CLOSED),
    "neurd": Method("algorithm", "Hennes et al. 2020", {"discount": [0.97, 0.99]}, "actor's " + CLOSED),
    "decoupled_ppo": Method(
        "loss", "Hilton et al. 2021; Fu et al. 2025", {"clip_eps": [0.1, 0.2]}, CLOSED, settings={"lag": 4}
    ),
    "entropy_target": Method(
        "loss",
        "Haarnoja et al. 2018",
        {"target_entropy": [0.2, 0.5]},
        CLOSED + "; the weight's law",
        settings={"entropy_coef": 0},
    ),
    "mdpo_annealed": Method("loss", "Tomar et al. 2020", {"anneal_updates": [100, 300]}, CLOSED + "; the step's law"),
    "vineppo": _sequences(
        "advantage",
        "Kazemnejad et al. 2024",
        {"discount": [0.9, 1]},
        "exact values of a chain, loop in float64",
        base="rloo",
        settings={"num_epochs": 2},
        smoke={"num_envs": 8, "vines": 2, "num_minibatches": 2},
    ),
    "optimal_baseline": Method(
        "advantage", "Greensmith et al. 2004", {"decay": [0.9, 0.99]}, "loop in float64", base="reinforce"
    ),
    "percentile_scale": Method(
        "advantage",
        "Hafner et al. 2023",
        {"decay": [0.9, 0.99]},
        "loop in float64",
        settings={"normalize_advantage": False},
    ),
    "rnd": Method("advantage", "Burda et al. 2018", {"bonus": [0, 0.1]}, "loop in float64", tiny="CartPole-v1"),
    "ppo_lagrangian": Method(
        "advantage", "Ray et al. 2019", {"limit": [0.01, 0.1]}, "loop in float64", tiny="CartPole-v1"
    ),
    "ppo_ewma": Method("estimator", "Hilton et al. 2021", {"decay": [0.8, 0.889]}, CLOSED + "; sum over iterates"),
    "self_imitation": Method(
        "estimator",
        "Oh et al. 2018",
        {"coef": [0, 1]},
        CLOSED + ", critic's too; the best episodes sorted",
        base="reinforce",
        settings={"baseline": "value"},
    ),
    "polyak": Method("optimizer", "Polyak & Juditsky 1992", {"decay": [0.9, 0.99]}, "loop in float64"),
    "schedule_free": Method(
        "optimizer", "Defazio et al. 2024", {"momentum": [0.9, 0.95]}, "loop in float64", tiny="CartPole-v1"
    ),
    "plateau": Method("optimizer", "He et al. 2016", {"learning_rate": [0.001, 0.003]}, "loop in float64"),
    "dropout": Method(
        "policy", "Hausknecht & Wagener 2022", {"clip_eps": [0.1, 0.2]}, "ratios through a learner", tiny="CartPole-v1"
    ),
    "batch_norm": Method(
        "policy",
        "Ioffe & Szegedy 2015",
        {"clip_eps": [0.1, 0.2]},
        "loop in float64; ratios through a learner",
        tiny="CartPole-v1",
    ),
    "popart": Method(
        "algorithm",
        "van Hasselt et al. 2016; Hessel et al. 2018",
        {"beta": [0.03, 0.1]},
        "moments, loop in float64; values before and after",
        env="Pendulum-v1",
        tiny="CartPole-v1",
    ),
}
