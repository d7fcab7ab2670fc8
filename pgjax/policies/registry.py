"""`make` builds the policy that a `Config` describes for an environment."""

from collections.abc import Iterable
from typing import Any

from pgjax.config import Config
from pgjax.envs import images, observations, spaces
from pgjax.policies import critics, memories, networks, tables, transformer
from pgjax.policies.modules import from_nnx, functional
from pgjax.policies.recurrence import linear_memory, recurrent
from pgjax.types import Env, Policy

MODULES: dict[str, Any] = {
    "mlp": networks.MLP,
    "simba": networks.MLP,
    "cnn": networks.CNN,
    "resnet": networks.DeepCNN,
    "table": tables.Table,
    "sigmoid": tables.Sigmoid,
}
TOWERS, MEMORIES = ("mlp", "simba", "cnn", "resnet"), tuple(memories.UNITS)
# Option -> the networks that it means something to.
APPLIES = {
    "heads": ("transformer",),
    "positions": ("transformer",),
    "layer_norm": ("mlp", "cnn", "resnet", *MEMORIES),
    "critics": TOWERS,
    "distribution": (*TOWERS, *MEMORIES, "table"),
    "log_std": (*TOWERS, *MEMORIES),
    "kernel": ("mlp", "cnn", "resnet"),
}


def chosen(env: Env, config: Config) -> str:
    """The kind of network that `config.network` means: "auto" goes by the layout of the observations.

    Raises:
      ValueError: where no network of this package fits the environment's spaces.
    """
    spaces.check_actions(env.action_space)
    space = observations.content(env.observation_space)
    seen = spaces.layout(space)
    kind: str = config.network
    if kind == "auto":
        parts = [part for _, part in observations.leaves(space)]
        image = seen == "HWC" or (seen == "tree" and any(map(images.is_image, parts)))
        kind = "cnn" if image else {"": "table", "L": "transformer"}.get(seen, "mlp")
    if (kind, seen) == ("cnn", "HWC"):
        images.check_image(space, told=config.network == "cnn")
    if kind == "transformer" and observations.has_mask(env.observation_space):
        raise ValueError(
            "network='transformer' reads tokens alone, and the observations have an 'action_mask'; use network='mlp'"
        )
    return kind


def make(env: Env, config: Config = Config()) -> Policy:
    """The policy that `config.network` names, sized for the environment's spaces.

    "auto" is a table for discrete observations, a transformer for tokens, a convolutional network for images
    [H, W, C] or [C, H, W], by themselves or among other parts, and a multi-layer perceptron on the flattened and joined
    observation for everything else. Where observations say which actions are legal, it takes these alone.
    """
    kind, legal = chosen(env, config), observations.legal(env.observation_space, env.action_space)
    if config.temperature != 1 and kind not in ("table", "sigmoid"):
        raise ValueError(
            f"temperature={config.temperature:g} only applies to network='table' or 'sigmoid', but the network is "
            f"{kind!r}; remove temperature"
        )
    for name, kinds in APPLIES.items():
        if kind not in kinds and getattr(config, name) != getattr(Config(), name):
            raise ValueError(
                f"{name}={getattr(config, name)} only applies to {_either(kinds)}, but the network is {kind!r}; remove "
                f"{name}"
            )
    if config.critic in critics.CLASSES and kind not in (*TOWERS, *MEMORIES):
        raise ValueError(f"critic={config.critic!r} needs {_either((*TOWERS, *MEMORIES))}, but the network is {kind!r}")
    if config.critics > 1 and config.critic != "value":
        raise ValueError(f"critics={config.critics} needs critic='value', got {config.critic!r}; use critics=1")
    if kind in memories.UNITS:
        if not config.hidden:
            raise ValueError(f"network={kind!r} needs hidden widths, got hidden=()")
        unit = memories.UNITS[kind]
        remembering = linear_memory if hasattr(unit, "recurrence") else recurrent
        size = unit.size * config.hidden[-1]
        return remembering(lambda rngs: unit(env, config, rngs=rngs), size, constants=False, legal=legal)
    if kind == "transformer":
        shape = transformer.shape_of(env, config)
        tokens = lambda rngs: transformer.Transformer(shape, rngs=rngs)  # noqa: E731
        return transformer.policy(*functional(tokens, constants=False), shape, env.observation_space.prompt)
    if kind not in MODULES:
        known = ["auto", *MODULES, *memories.UNITS, "transformer"]
        raise ValueError(f"network must be one of {', '.join(known)}; got {kind!r}")
    return from_nnx(lambda rngs: MODULES[kind](env, config, rngs=rngs), constants=False, apart=True, legal=legal)


def _either(kinds: Iterable[str]) -> str:
    return "network=" + " or ".join(map(repr, kinds))
