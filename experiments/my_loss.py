"""A loss of one's own beside PPO: the template to copy.

Question: does a penalty on the approximate KL divergence do as well as clipping, on CartPole?

    python experiments/my_loss.py            # 32 seeds each
    python experiments/my_loss.py --smoke    # a size for tests
    pgjax train ppo CartPole-v1 --seeds 32 --loss experiments/my_loss.py:kl_penalised
"""

import argparse
import pathlib

import jax.numpy as jnp

import pgjax


def kl_penalised(now, batch, *, beta: float = 1.0):
    """Importance-weighted policy gradient with a penalty on the approximate KL, per step [T, B]."""
    log_ratio = now.log_prob - batch.trajectory.log_prob
    kl = jnp.expm1(log_ratio) - log_ratio
    return -jnp.exp(log_ratio) * batch.advantage + beta * kl, {"kl": kl}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/my_loss"))
    options = parser.parse_args(arguments)
    size = {"seeds": 2, "updates": 4, "settings": {"num_envs": 4}} if options.smoke else {"seeds": 32, "settings": {}}

    # The same seeds for both, and all else as the roster's PPO has it: whatever differs, the loss did it.
    swept = {"beta": [0.3, 1.0, 3.0]}
    runs = {
        "ppo": pgjax.run("ppo", "CartPole-v1", out=options.out / "ppo", **size),
        "kl_penalised": pgjax.run(
            "ppo",
            "CartPole-v1",
            loss=kl_penalised,
            out=options.out / "kl_penalised",
            **{**size, "settings": {**size["settings"], **swept}},
        ),
    }
    for name, result in runs.items():
        for row in result.summary["settings"]:
            label = f"{name} {pgjax.analysis.describe(row['setting'])}"
            if "stochastic" not in row:
                print(f"{label:28s} no seed has a final return")
                continue
            interval = row["stochastic"]["iqm_95"]
            shown = "-" if interval is None else f"[{interval[0]:.1f}, {interval[1]:.1f}]"
            print(f"{label:28s} IQM of final returns {row['stochastic']['iqm']:6.1f}  {shown}")
    return runs


if __name__ == "__main__":
    main()
