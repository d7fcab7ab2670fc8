"""`make` builds the policy that a `Config` describes for an environment."""

from pgjax.config import Config
from pgjax.envs.spaces import check_actions, check_image, layout
from pgjax.policies import networks, transformer
from pgjax.policies.modules import from_nnx, functional, recurrent
from pgjax.types import Env, Policy


def chosen(env: Env, config: Config) -> str:
    """The kind of network that `config.network` means: "auto" goes by the layout of the observations.

    Raises:
      ValueError: where no network of this package fits the environment's spaces.
    """
    check_actions(env.action_space)
    seen = layout(env.observation_space)
    kind: str = config.network
    if kind == "auto":
        kind = {"": "table", "L": "transformer", "HWC": "cnn"}.get(seen, "mlp")
    if (kind, seen) == ("cnn", "HWC"):
        check_image(env.observation_space, told=config.network == "cnn")
    return kind


def make(env: Env, config: Config = Config()) -> Policy:
    """The policy that `config.network` names, sized for the environment's spaces.

    "auto" is a table for discrete observations, a transformer for tokens, a convolutional network for images
    [H, W, C], and a multi-layer perceptron on the flattened observation for everything else.
    """
    kind = chosen(env, config)
    if config.temperature != 1 and kind not in ("table", "sigmoid"):
        raise ValueError(
            f"temperature={config.temperature:g} only applies to network='table' or 'sigmoid', but the network is "
            f"{kind!r}; remove temperature"
        )
    for name in ("heads", "positions"):
        if kind != "transformer" and getattr(config, name) != getattr(Config(), name):
            raise ValueError(
                f"{name}={getattr(config, name)} only applies to network='transformer', but the network is {kind!r}; "
                f"remove {name}"
            )
    if kind == "gru":
        if not config.hidden:
            raise ValueError("network='gru' needs hidden widths, got hidden=()")
        return recurrent(lambda rngs: networks.Recurrent(env, config, rngs=rngs), config.hidden[-1], constants=False)
    if kind == "transformer":
        shape = transformer.shape_of(env, config)
        build = lambda rngs: transformer.Transformer(shape, rngs=rngs)  # noqa: E731
        return transformer.policy(*functional(build, constants=False), shape, env.observation_space.prompt)
    kinds = {"mlp": networks.MLP, "cnn": networks.CNN, "table": networks.Table, "sigmoid": networks.Sigmoid}
    if kind not in kinds:
        raise ValueError(f"network must be one of auto, gru, transformer, {', '.join(kinds)}; got {kind!r}")
    return from_nnx(lambda rngs: kinds[kind](env, config, rngs=rngs), constants=False, apart=True)
