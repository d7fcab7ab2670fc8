"""The pgjax side of peers.py against the tutorial: REINFORCE on CartPole, lanes of whole episodes, nothing learned."""

import dataclasses
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import peer
import peer_jax
from peer_pgjax import PACKAGES

from pgjax import algorithms, envs, hyperparameters, policies
from pgjax.hyperparameters import bind
from pgjax.training import vectorised


def main() -> None:
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    options = peer.arguments("lanes", "envs", "updates")
    devices = peer_jax.every_core(options.lanes)
    row = algorithms.entry("reinforce")
    # As the tutorial: reward-to-go less its mean, over its standard deviation, and no critic.
    algorithm = row.algorithm._replace(advantage=bind(row.algorithm.advantage, normalize=True))
    config = dataclasses.replace(row.config, num_envs=options.envs, hidden=peer.HIDDEN, activation=peer.ACTIVATION)
    env = envs.make(peer.ENV)
    policy = policies.make(env, config)
    reinforce = row.learner(env, policy, algorithm, config)
    rates = {"learning_rate": peer.FROZEN_LEARNING_RATE}
    hypers = hyperparameters.default_hypers(algorithm, advantage={"discount": peer.DISCOUNT}, optimizer=rates)

    width = options.lanes // len(devices)

    def lanes(number, place):
        first = number * options.lanes + place * width
        return vectorised.lanes([hypers], list(range(first, first + width)), config.generator)

    began = time.perf_counter()
    init = lambda keys, h: vectorised.init(keys, reinforce, h)  # noqa: E731
    segment = lambda keys, states, h: vectorised.segment(keys, reinforce, states, h, options.updates)  # noqa: E731
    trained = peer_jax.abreast(devices, lanes, init, segment)
    compile_seconds = {"train": time.perf_counter() - began}

    def playing(weights):
        """A program that trains lanes whose actor is given."""

        def program(number):
            done = trained(number, lambda s: s._replace(learner=s.learner._replace(params=weights(s.learner.params))))
            counted = int(sum(np.asarray(metrics["env_steps"]).sum(dtype=float) for _, metrics in done))
            return {"episodes": options.lanes * options.envs * options.updates, "env_steps": counted}

        return program

    programs = {"uniform": playing(uniform), "balancing": playing(balancing)}
    peer_jax.serve(programs, PACKAGES, compile_seconds)


def uniform(params):
    """The parameters with an actor whose logits are all 0."""
    return {**params, "actor_head": jax.tree.map(jnp.zeros_like, params["actor_head"])}


def balancing(params):
    """The parameters with an actor that balances: one unit of each layer carries the sign of BALANCING @ obs."""
    actor = jax.tree.map(jnp.zeros_like, {name: params[name] for name in ("actor_torso", "actor_head")})
    first, second = actor["actor_torso"]["layers"].values()
    first["kernel"] = first["kernel"].at[:, :, 0].set(peer.SHARPNESS * jnp.array(peer.BALANCING))
    second["kernel"] = second["kernel"].at[:, 0, 0].set(peer.SHARPNESS)
    output = actor["actor_head"]["output"]
    output["kernel"] = output["kernel"].at[:, 0].set(peer.SHARPNESS * jnp.array([-1.0, 1.0]))
    return {**params, **actor}


if __name__ == "__main__":
    main()
