"""Tokens per second of decoding with a cache of keys and values, as a ratio against reading everything once more.

    python benchmarks/decoding.py [--smoke]

Both ways are the same rollout of the same module in the same world, from the same keys, and run in turn. One is
`transformer.policy`, whose memory holds each layer's keys and values; the other is what one would write first: a
policy without memory that reads the whole sequence for each token and looks at its last place. The sequence is [B, L]
there from the first token on, zeros behind what is written, since a compiled program has one shape. Both must write
the same tokens (checked). Results: results/decoding.json.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from common import RESULTS, commit, cpu, spread, write_json
from token_world import PROMPT, VOCABULARY, world

from pgjax import policies, rollout
from pgjax.policies import transformer
from pgjax.policies.distributions import Categorical
from pgjax.runs import record
from pgjax.types import Policy

NETWORKS = {
    "64x64": dict(width=64, layers=2, heads=4),
    "128x128x128x128": dict(width=128, layers=4, heads=4),
}


def uncached(merge):
    """The policy that reads the whole sequence for each token."""

    def act(params, memory, obs):
        module = merge(params)
        features, _ = module(obs)
        last = jnp.sum(obs != 0, axis=-1) - 1
        here = jnp.take_along_axis(features, last[:, None, None], axis=1)[:, 0]
        return Categorical(module.logits(here)), memory

    return Policy(init=None, memory=lambda batch: (), act=act, evaluate=None)


def compare(name, length, batch, repeats):
    """Both ways on `batch` sequences of `length` tokens."""
    shape = transformer.Shape(vocabulary=len(VOCABULARY), length=length, **NETWORKS[name])
    functional = policies.functional(lambda rngs: transformer.Transformer(shape, rngs=rngs), constants=False)
    env = world(length)
    kinds = {"cached": transformer.policy(*functional, shape, PROMPT), "uncached": uncached(functional[1])}
    params = jax.jit(functional[0])(jax.random.key(0))
    params["embedding"] *= 10  # so that what is written depends on what was

    def program(policy):
        def play(key, params):
            trajectory, done = rollout.episodes(key, env, policy, params, batch)
            return trajectory.action, trajectory.log_prob, done.episode_length

        return jax.jit(play)

    ways = {way: program(policy) for way, policy in kinds.items()}
    key = jax.random.key(1)
    found = {way: jax.block_until_ready(play(key, params)) for way, play in ways.items()}  # compiles
    # Rounding may tip one token in thousands, and all behind it; the sequences that it leaves alone must agree.
    same = np.all(found["cached"][0] == found["uncached"][0], axis=0)
    assert same.mean() > 0.9, f"{(~same).sum()} of {batch} sequences differ"
    np.testing.assert_allclose(found["cached"][1][:, same], found["uncached"][1][:, same], atol=1e-4)
    assert all(np.all(lengths == length - PROMPT) for _, _, lengths in found.values())
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}  # the second hardly sees what else runs here
    seconds = {clock: {way: [] for way in ways} for clock in clocks}
    for _ in range(repeats):
        for way, play in ways.items():
            began = {clock: now() for clock, now in clocks.items()}
            jax.block_until_ready(play(key, params))
            for clock, now in clocks.items():
                seconds[clock][way].append(now() - began[clock])
    tokens = batch * (length - PROMPT)
    pairs = {clock: zip(s["uncached"], s["cached"], strict=True) for clock, s in seconds.items()}
    ratios = {clock: [u / c for u, c in x] for clock, x in pairs.items()}
    row = {
        "network": name,
        "length": length,
        "batch": batch,
        "tokens": tokens,
        "sequences_alike": float(same.mean()),
        "seconds": {clock: {way: spread(x) for way, x in s.items()} for clock, s in seconds.items()},
        "tokens_per_second": {way: tokens / statistics.median(x) for way, x in seconds["wall"].items()},
        "ratio": {clock: spread(x) for clock, x in ratios.items()},
        "ratio_of_least": {clock: min(s["uncached"]) / min(s["cached"]) for clock, s in seconds.items()},
    }
    print(f"{name}, length {length}: ", end="")
    print(", ".join(f"{rate:.0f} tokens/s {way}" for way, rate in row["tokens_per_second"].items()), end="")
    for clock, ratio in row["ratio"].items():
        print(f"; {ratio['median']:.1f}x by {clock} ({ratio['min']:.1f} to {ratio['max']:.1f})", end="")
    print(flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small, and nothing is written")
    options = parser.parse_args()
    cases = [(name, length) for name in NETWORKS for length in (16, 32, 64, 128)][:-1]
    if options.smoke:
        cases = [("64x64", 16)]
    rows = [compare(*case, *((8, 1) if options.smoke else (64, 5))) for case in cases]
    if not options.smoke:
        facts = {"vocabulary": len(VOCABULARY), "prompt": PROMPT, "cpu": cpu(), "commit": commit()}
        write_json(RESULTS / "decoding.json", {**facts, **record.machine(), "rows": rows})


if __name__ == "__main__":
    main()
