"""A plan and what the user gave for it in; the content of config.json, everything needed to run it again, out."""

from typing import Any

from pgjax import results, sources
from pgjax.envs.adapter import param_names
from pgjax.parsing import anchor
from pgjax.plugs import hyperparameters, name_of
from pgjax.settings import Plan

# Before 2 the parameters of a Gaussian policy were not in the units of its Box: see `distributions.units`.
FORMAT = 2


def config(
    chosen: Plan,
    algorithm: Any,
    env: Any,
    command: Any,
    specs: dict[str, str],
    options: dict[str, Any],
    execution: dict[str, Any],
) -> dict[str, Any]:
    """What config.json holds; a function of the user's by name and place."""
    mine = {name: options[name] for name in ("loss", "policy") if options.get(name) is not None}
    place = lambda name, thing: anchor(specs.get(name)) or results.spec(thing)  # noqa: E731
    objects = {
        name: {"name": thing}
        if isinstance(thing, str)
        else {"spec": place(name, thing), "sources": sources.digests(thing)}
        for name, thing in {"algorithm": algorithm, "env": env, **mine}.items()
    }
    return {
        "format": FORMAT,
        "algorithm": algorithm if isinstance(algorithm, str) else name_of(chosen.groups[0].algorithm.estimator),
        "env": env if isinstance(env, str) else results.origin(env),
        **{name: results.origin(thing) for name, thing in mine.items()},
        "objects": objects,
        "seeds": chosen.seeds,
        "settings": options.get("settings") or {},
        **chosen.chosen,
        "execution": execution,
        "command": command,
        "groups": [
            {
                "config": vars(group.config),
                "settings": group.settings,
                "plugs": {
                    part: {"name": name_of(plug), "defaults": hyperparameters(plug)}
                    for part, plug in group.algorithm._asdict().items()
                },
                "env": param_names(group.env.params),
                "hypers": [h._asdict() for h in group.hypers],
                "updates": group.updates,
                "env_steps_at_most": group.updates * group.steps_per_update,
            }
            for group in chosen.groups
        ],
        **results.machine(),
    }
