"""The pgjax side of peers.py: PPO as `pgjax train` runs it, without its evaluation and its files."""

import dataclasses
import time
import warnings

import jax
import numpy as np
import optax
import peer
import peer_jax

from pgjax import algorithms, envs, hyperparameters, policies, rollout
from pgjax.estimators import pieces
from pgjax.training import vectorised

PACKAGES = ("pgjax-research", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")


def main() -> None:
    # A key of the state that the program only reads can't be reused; nothing is lost by it.
    warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
    options = peer.arguments("lanes", "envs", "updates", "collections", "returns")
    devices = peer_jax.every_core(options.lanes)
    row = algorithms.entry("ppo")
    config = dataclasses.replace(
        row.config,
        num_envs=options.envs,
        num_steps=peer.NUM_STEPS,
        num_epochs=peer.NUM_EPOCHS,
        num_minibatches=peer.NUM_MINIBATCHES,
        hidden=peer.HIDDEN,
        activation=peer.ACTIVATION,
    )
    env = envs.make(peer.ENV)
    policy = policies.make(env, config)
    ppo = row.learner(env, policy, row.algorithm, config)
    hypers = hyperparameters.default_hypers(
        row.algorithm,
        advantage={"discount": peer.DISCOUNT, "gae_lambda": peer.GAE_LAMBDA},
        estimator={
            "clip_eps": peer.CLIP_EPS,
            "value_clip": peer.CLIP_EPS,
            "value_coef": peer.VALUE_COEF,
            "entropy_coef": peer.ENTROPY_COEF,
        },
        optimizer={
            "learning_rate": peer.LEARNING_RATE,
            "max_grad_norm": peer.MAX_GRAD_NORM,
            "eps": peer.ADAM_EPS,
        },
    )

    width = options.lanes // len(devices)

    def lanes(number, place):
        first = number * options.lanes + place * width
        return vectorised.lanes([hypers], list(range(first, first + width)), config.generator)

    began = time.perf_counter()
    init = lambda keys, h: vectorised.init(keys, ppo, h)  # noqa: E731
    segment = lambda keys, states, h: vectorised.segment(keys, ppo, states, h, options.updates)  # noqa: E731
    trained = peer_jax.abreast(devices, lanes, init, segment)
    compile_seconds = {"train": time.perf_counter() - began}

    def counted(done):
        metrics = [{name: np.asarray(value) for name, value in metrics.items()} for _, metrics in done]
        counts = [
            np.asarray(optax.tree.get_all_with_path(states.learner.updater, "count")[0][1]).sum() for states, _ in done
        ]
        return {"env_steps": int(sum(m["env_steps"].sum(dtype=float) for m in metrics)), "gradient_steps": sum(counts)}

    def train(number):
        return counted(trained(number))

    def returns(number):
        done = trained(number)
        measure = jax.jit(lambda k, s, h: vectorised.evaluate(k, env, ppo, s, h, options.returns))
        found = []
        for place, (states, _) in enumerate(done):
            keys, stacked = jax.device_put(lanes(number, place), devices[place])
            found.append(np.asarray(measure(keys, states, stacked)["stochastic"].episode_return.mean(1)))
        return {**counted(done), "returns": np.concatenate(found)}

    if options.returns:
        peer_jax.serve({"returns": returns}, PACKAGES, compile_seconds, warm=False)
        return

    def unroll(key, params, stream):
        return rollout.unroll(key, env, policy, params, stream, peer.NUM_STEPS)

    def unroll_and_evaluate(key, params, stream):
        stream, trajectory = unroll(key, params, stream)
        return stream, (trajectory, pieces.evaluate(policy, params, trajectory))  # as the learner does it

    def over_lanes(collect):
        """A program that makes `collections` rollouts, each continuing the stream of the one before."""

        def step(keys, number, params, stream):
            return jax.vmap(lambda k, p, s: collect(jax.random.fold_in(k, number), p, s))(keys, params, stream)

        keys, stacked = vectorised.lanes([hypers], list(range(options.lanes)), config.generator)
        start = jax.jit(init)(keys, stacked).learner
        run = peer_jax.compiled(step, keys, np.int32(0), start.params, start.rollout, donate=(3,))
        stream = start.rollout

        def program(number):
            nonlocal stream
            for index in range(options.collections):
                turn = np.int32(number * options.collections + index)
                stream, _ = jax.block_until_ready(run(keys, turn, start.params, stream))
            return {"env_steps": options.collections * options.lanes * options.envs * peer.NUM_STEPS}

        return program

    programs = {"train": train}
    if options.collections:
        for name, collect in (("rollout", unroll), ("rollout_values", unroll_and_evaluate)):
            began = time.perf_counter()
            programs[name] = over_lanes(collect)
            compile_seconds[name] = time.perf_counter() - began
    peer_jax.serve(programs, PACKAGES, compile_seconds)


if __name__ == "__main__":
    main()
