"""What does it cost when those who act are k updates old, and what does V-trace win back?

    python experiments/lag.py            # 7 minutes on two cores that other work shared
    python experiments/lag.py --smoke    # a size for tests

CartPole, 100,000 steps, 16 seeds, the return after training. At A2C's learning rate .002 an update moves the
policy little: without a correction a lag of 0, 1, 2, 4, 8, 16 comes to 336, 428, 319, 269, 255, 278, with V-trace to
367, 402, 371, 333, 409, 273. The intervals, some +-80 wide, overlap everywhere; at 8 they barely do (154 to 365 against
331 to 477). At .008 a lag of one update costs 140 (258 to 118, with V-trace 349 to 118), and from 2 on both rows mostly
fail (9 to 97): where the ratios are far from 1, clipping them leaves little to learn from. The rows differ without a
lag too: V-trace's returns reach to the end of the batch of 16 steps, those of A3C five steps far.
"""

import argparse
import pathlib

import numpy as np

import pgjax
from pgjax.statistics import bootstrap

LAGS = (0, 1, 2, 4, 8, 16)
ROWS = {"a3c": "no correction (A3C)", "impala": "V-trace (IMPALA)"}
RATES = (2e-3, 8e-3)  # that of the row `a2c`, and one at which policies move apart faster


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/lag"))
    options = parser.parse_args(arguments)
    env, lags, seeds, steps = ("CartPole-v1", LAGS, options.seeds, 100_000)
    if options.smoke:
        env, lags, seeds, steps = "Catch-bsuite", (0, 2), 2, 1024
    found = {}
    for name, label in ROWS.items():
        swept = {"lag": list(lags), "learning_rate": list(RATES)}
        result = pgjax.run(name, env, seeds=seeds, steps=steps, settings=swept, progress=False)
        returns = result.metrics.final_return_stochastic.mean("episode")
        for rate in RATES:
            for lag in lags:
                values = returns.sel(lag=lag, learning_rate=rate).values
                low, high = bootstrap(values, np.mean)
                found[name, rate, lag] = (float(values.mean()), low, high)
                interval = "-" if np.isnan(low) else f"{low:.1f} to {high:.1f}"  # of one seed there is none
                print(f"{label:22s} learning rate {rate:g}, lag {lag:2d}: {values.mean():7.1f} ({interval})")
    draw(found, lags, env, options.out)
    return found


def draw(found, lags, env, out):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, rate in zip(figure.subplots(1, len(RATES), sharey=True), RATES, strict=True):
        for name, label in ROWS.items():
            middle, low, high = np.array([found[name, rate, lag] for lag in lags]).T
            axes.plot(range(len(lags)), middle, "o-", ms=4, label=label)
            axes.fill_between(range(len(lags)), low, high, alpha=0.2)
        axes.set_xticks(range(len(lags)), lags)
        axes.set(xlabel="updates by which the actors are older", title=f"{env}, learning rate {rate:g}")
    axes.legend(frameon=False)
    figure.axes[0].set_ylabel("return after training")
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "lag.png", dpi=150)


if __name__ == "__main__":
    main()
