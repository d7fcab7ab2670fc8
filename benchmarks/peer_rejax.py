"""The rejax side of peers.py; it runs in an environment of its own, without pgjax."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import peer
import peer_jax
import rejax
from rejax.evaluate import evaluate


def main() -> None:
    options = peer.arguments("lanes", "envs", "updates", "collections", "returns")
    steps = options.updates * options.envs * peer.NUM_STEPS
    algorithm = rejax.get_algo("ppo").create(
        env=peer.ENV,
        num_envs=options.envs,
        num_steps=peer.NUM_STEPS,
        num_epochs=peer.NUM_EPOCHS,
        num_minibatches=peer.NUM_MINIBATCHES,
        total_timesteps=steps,
        eval_freq=steps,
        skip_initial_evaluation=True,
        learning_rate=peer.LEARNING_RATE,
        max_grad_norm=peer.MAX_GRAD_NORM,
        gamma=peer.DISCOUNT,
        gae_lambda=peer.GAE_LAMBDA,
        clip_eps=peer.CLIP_EPS,
        vf_coef=peer.VALUE_COEF,
        ent_coef=peer.ENTROPY_COEF,
        agent_kwargs={"activation": peer.ACTIVATION, "hidden_layer_sizes": peer.HIDDEN},
    )
    # It would evaluate once, after the last update; instead nothing is computed there.
    algorithm = algorithm.replace(eval_callback=lambda algorithm, state, key: jnp.zeros(()))

    # One lane needs no vmap, and is spared it.
    over_lanes = jax.vmap if options.lanes > 1 else lambda function: function

    def keys(number):
        key = jax.random.key(number)
        return jax.random.split(key, options.lanes) if options.lanes > 1 else key

    began = time.perf_counter()
    run = peer_jax.compiled(over_lanes(algorithm.train), keys(0))
    compile_seconds = {"train": time.perf_counter() - began}

    def train(number):
        state, _ = jax.block_until_ready(run(keys(number)))
        return counts(state)

    def counts(state):
        return {"env_steps": state.global_step.sum(), "gradient_steps": state.actor_ts.step.sum()}

    def returns(number):
        def one(key, state):
            act = algorithm.make_act(state)
            return evaluate(act, key, algorithm.env, algorithm.env_params, options.returns)[1]

        state, _ = run(keys(number))
        found = jax.jit(over_lanes(one))(keys(number + 1), state)
        return {**counts(state), "returns": jnp.atleast_2d(found).mean(1)}

    packages = ("rejax", "jax", "jaxlib", "flax", "optax", "gymnax", "numpy")
    if options.returns:
        peer_jax.serve({"returns": returns}, packages, compile_seconds, warm=False)
        return

    began = time.perf_counter()
    state = peer_jax.compiled(over_lanes(algorithm.init_state), keys(0))(keys(0))
    collect = peer_jax.compiled(over_lanes(algorithm.collect_trajectories), state, donate=(0,))
    compile_seconds["rollout"] = time.perf_counter() - began

    def rollout(number):
        nonlocal state
        before = np.asarray(state.global_step).sum()
        for _ in range(options.collections):
            state, _ = jax.block_until_ready(collect(state))
        return {"env_steps": np.asarray(state.global_step).sum() - before}

    peer_jax.serve({"train": train, "rollout": rollout}, packages, compile_seconds)


if __name__ == "__main__":
    main()
