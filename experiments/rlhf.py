"""RLHF whole, on a laptop: when does a learned reward stop being worth following, and what does the KL penalty do?

    python experiments/rlhf.py            # 15 minutes on two busy cores
    python experiments/rlhf.py --smoke    # a size for tests

The gold reward likes the letter a and dislikes h, each up to three times, and dislikes any letter that comes more
often; 4.68 at most. Of the texts that taught the policy 2 % have a letter so often, and none an a, so 256 labelled
pairs show little of it; the model also learns their coins by heart (it knows the better of two new answers in .64).
RLOO follows it for 400 updates, 16 seeds, 95 % intervals; seeds 100 to 103 were highest at 80, lowest at 200 updates.

Without a penalty the KL goes from 14 to 28 nats between them, the model's reward from 3.49 to 4.52, and gold falls by
1.80 (.47 to 3.22): in 10 of the 16 seeds; 7 end below 0. The curves of seeds 0 to 7 had been seen when 80 and 200 were
chosen; the other eight alone give 1.1 (-.1 to 2.4), and ten more, 16 to 25, run to see whether it holds, 3.97 (1.77
to 6.26), and a rise of .53 (.03 to 1.02) with .1. With a penalty of .01 it falls by 1.40 (.24 to 2.74), with .03 by
.29 (-.75 to 1.32), with .1 it rises by .24 (.08 to .40). In the figure's means gold turns at 8 nats with
the small penalties, later comes back in part, and never turns with .1. At the end, at 32, 23, 18, 12 and 7 nats, it is
.38 (-.93 to 1.68), 1.93 (.83 to 2.87), 2.75 (2.43 to 3.07), 2.72 (2.36 to 3.05) and 1.95 (1.67 to 2.24). DPO on the
same pairs turns too, from 1.06 (.95 to 1.17) at 4.5 nats to -.10 (-.46 to .26) at 17. The best of 64 by the model, at
3.2 nats at most, has as much of the model as RLOO comes to, 4.72, and 1.26 (1.09 to 1.45) of gold.

The world was made to show this, the sixth gold reward tried (on seeds 100 to 103); a random network flattens instead.
"""

import argparse
import concurrent.futures
import itertools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pgjax import algorithms, envs, hyperparameters, policies, rollout, statistics
from pgjax.algorithms import imitation, on_policy, rlhf
from pgjax.config import Config
from pgjax.envs.tokens import END, TokenWorld
from pgjax.hyperparameters import bind
from pgjax.policies import transformer
from pgjax.training import loop

LETTERS, PROMPT, ANSWER = "abcdefgh", 3, 8
WORTH, ENOUGH, COST = (1.2, 0, 0, 0, 0, 0, 0, -1.2), 3, 3.0


class Size(NamedTuple):
    seeds: int = 16
    penalties: tuple = (0.0, 0.01, 0.03, 0.1, 0.3)  # times the KL in the reward of RLOO
    betas: tuple = (0.03, 0.1, 0.3, 1.0)  # of DPO
    best: tuple = (1, 2, 4, 8, 16, 32, 64)  # of n answers
    pairs: int = 256
    updates: int = 400
    every: int = 20  # updates between two looks
    looked: int = 512  # episodes of a look
    told: tuple = (80, 200)  # updates that the report tells of
    taught: int = 300  # gradient steps of the first policy
    fitted: int = 300  # of the reward model, and of DPO


SMOKE = Size(2, (0.0, 1.0), (0.1,), (1, 4), pairs=64, updates=4, every=2, looked=32, told=(2, 4), taught=10, fitted=10)


class Letters(TokenWorld):
    """Three letters to be gone on with by eight, as texts in which no letter repeats the one before.

    The gold reward is what the letters are WORTH, each up to ENOUGH times, less the COST of each that comes more
    often; less the mean of that over the texts.
    """

    def __init__(self):
        g = np.random.default_rng(0)
        follows = g.dirichlet(np.full(len(LETTERS), 0.7), size=len(LETTERS))
        np.fill_diagonal(follows, 0.0)
        follows /= follows.sum(axis=1, keepdims=True)
        problems = []
        for prompt in itertools.product(range(len(LETTERS)), repeat=PROMPT):
            text = list(prompt)
            for _ in range(ANSWER):
                text.append(g.choice(len(LETTERS), p=follows[text[-1]]))
            words = "".join(LETTERS[c] for c in text)
            problems.append((words[:PROMPT], words[PROMPT:]))
        super().__init__(problems, END + LETTERS, "letters")
        self.usual = jax.vmap(self.liked)(jnp.asarray(self.answers)).mean()

    def liked(self, answer):
        counts = jax.nn.one_hot(answer - 1, len(LETTERS)).sum(axis=0)
        worth = jnp.array(WORTH) * jnp.minimum(counts, ENOUGH)
        return worth.sum() - COST * jnp.maximum(counts - ENOUGH, 0).sum()

    def score(self, problem, answer):
        return self.liked(answer) - self.usual


WORLD = envs.from_gymnax(Letters())
CONFIG = Config(num_envs=64, num_steps=0, rollout="episodes", hidden=(32, 32))
POLICY = policies.make(WORLD, CONFIG)
SHAPE = transformer.shape_of(WORLD, Config(hidden=(32,)))
START, SCORE = transformer.reward_model(
    *policies.functional(lambda rngs: transformer.Transformer(SHAPE, rngs=rngs), constants=False)
)


def look(key, params, reference, model, size):
    """Gold and proxy reward and KL to the reference, of sampled answers to the prompts that training had not."""
    held_out = WORLD.held_out(WORLD.params)
    episodes, found = rollout.episodes(key, WORLD, POLICY, params, size.looked, env_params=held_out)
    away = episodes.log_prob - POLICY.evaluate(reference, episodes).log_prob
    kl = jnp.sum(jnp.where(episodes.mask > 0, away, 0.0), axis=0)
    return {
        "gold": jnp.mean(found.episode_return),
        "proxy": jnp.mean(SCORE(model, transformer.written(episodes))),
        "kl": jnp.mean(kl),
    }


def prepare(key, size):
    """The first policy, taught by supervision; a reward model of labelled pairs of its answers; the pairs."""
    key_policy, key_pairs, key_model, key_fit = jax.random.split(key, 4)
    reference = imitation.pretrained(WORLD, POLICY, size.taught, 400)(key_policy, WORLD.params)
    pairs = rlhf.collect(key_pairs, WORLD, POLICY, reference, size.pairs)
    texts = tuple(transformer.written(imitation.swapped(x)) for x in pairs)
    model, losses = imitation.fit(
        key_fit, START(key_model), rlhf.bradley_terry(SCORE), texts, size.fitted, batch_size=64
    )
    return reference, model, pairs, losses


def reinforce(key, penalty, reference, model, size):
    """RLOO against the reward model with a KL penalty in the reward; a look before it and every so many updates."""
    world = rlhf.rescored(WORLD, SCORE, model)
    row = algorithms.entry("rloo").algorithm
    row = row._replace(optimizer=bind(row.optimizer, learning_rate=5e-4))
    policy = POLICY._replace(init=lambda key: reference)
    made = on_policy.make_learner(world, policy, row, CONFIG)
    hypers = hyperparameters.default_hypers(row, advantage={"reference_penalty": penalty})
    key_train, key_first, key_rest = jax.random.split(key, 3)

    def on(state, key):
        state, _ = loop.train(key_train, made, state, hypers, size.every)
        return state, look(key, state.learner.params, reference, model, size)

    first = look(key_first, reference, reference, model, size)
    keys = jax.random.split(key_rest, size.updates // size.every)
    rest = jax.lax.scan(on, loop.init(key_train, made, hypers), keys)[1]
    return jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, rest)


def prefer(key, beta, reference, model, pairs, size):
    """Direct preference optimisation on the same pairs, and a look at its end."""
    key_fit, key_look = jax.random.split(key)
    loss = rlhf.dpo(POLICY, reference, beta)
    params, _ = imitation.fit(key_fit, reference, loss, pairs, size.fitted, batch_size=64, learning_rate=3e-4)
    return look(key_look, params, reference, model, size)


def choose(key, reference, model, size):
    """The best of n answers by the reward model: both rewards, and log n - (n - 1) / n, which the KL is at most.
    How often the model and the gold reward agree which of two answers is better."""
    count = size.best[-1] * (size.looked // 8)
    held_out = WORLD.held_out(WORLD.params)
    episodes, found = rollout.episodes(key, WORLD, POLICY, reference, count, env_params=held_out, samples=size.best[-1])
    proxy = SCORE(model, transformer.written(episodes)).reshape(-1, size.best[-1])
    gold = found.episode_return.reshape(proxy.shape)
    best = lambda worth: jnp.stack([rlhf.best_of_n(proxy, worth, n) for n in size.best])  # noqa: E731
    n = jnp.array(size.best, jnp.float32)
    agreement = jnp.mean((proxy[:, 0] > proxy[:, 1]) == (gold[:, 0] > gold[:, 1]))
    return {"gold": best(gold), "proxy": best(proxy), "kl": jnp.log(n) - (n - 1) / n}, agreement


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/rlhf"))
    options = parser.parse_args(arguments)
    size = SMOKE if options.smoke else Size()

    @jax.jit
    def whole(key):
        key_prepare, key_rl, key_dpo, key_best = jax.random.split(key, 4)
        reference, model, pairs, losses = prepare(key_prepare, size)
        penalties, betas = jnp.array(size.penalties), jnp.array(size.betas)
        best, agreement = choose(key_best, reference, model, size)
        return {
            "rlhf": jax.vmap(lambda x: reinforce(key_rl, x, reference, model, size))(penalties),
            "dpo": jax.vmap(lambda x: prefer(key_dpo, x, reference, model, pairs, size))(betas),
            "best": best,
            "losses": losses,
            "agreement": agreement,
        }

    # A seed at a time on each core: so the program's arrays stay in the caches.
    whole_of = lambda seed: jax.tree.map(np.asarray, whole(jax.random.key(seed)))  # noqa: E731
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(whole_of, range(size.seeds)))
    found = jax.tree.map(lambda *x: np.stack(x), *found)
    report(found, size)
    draw(options.out, found, size)
    return found


def interval(x):
    """'mean (low to high)': 95 %, by bootstrap over seeds; '(-)' of one seed."""
    low, high = statistics.bootstrap(x, np.mean)
    return f"{x.mean():.2f} " + ("(-)" if np.isnan(low) else f"({low:.2f} to {high:.2f})")


def report(found, size):
    print(f"{size.seeds} seeds, 95 % intervals")
    updates = np.array((*size.told, size.updates))
    looks = updates // size.every
    for i, penalty in enumerate(size.penalties):
        print(f"RLOO, penalty {penalty:g}")
        for n, look in zip(updates, looks, strict=True):
            x = {name: interval(values[:, i, look]) for name, values in found["rlhf"].items()}
            print(f"  after {n} updates: KL {x['kl']}, gold {x['gold']}, proxy {x['proxy']}")
        gold = found["rlhf"]["gold"][:, i, looks]
        print(f"  gold less by {interval(gold[:, 0] - gold[:, 1])} after {updates[1]} than after {updates[0]}")
    print(f"gold of each seed without a penalty, after {updates}:\n", found["rlhf"]["gold"][:, 0, looks].T.round(1))
    print(f"reward model: loss {interval(found['losses'][:, -10:].mean(axis=1))}", end=", ")
    print(f"which of two answers is better as the gold reward has it: {interval(found['agreement'])}")
    for i, beta in enumerate(size.betas):
        x = {name: interval(values[:, i]) for name, values in found["dpo"].items()}
        print(f"DPO, beta {beta:g}: KL {x['kl']}, gold {x['gold']}, proxy {x['proxy']}")
    for i, n in enumerate(size.best):
        x = {name: interval(values[:, i]) for name, values in found["best"].items() if name != "kl"}
        print(f"best of {n}: KL {found['best']['kl'][0, i]:.2f}, gold {x['gold']}, proxy {x['proxy']}")


def draw(out, found, size):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, penalty in enumerate(size.penalties):
        mean = {name: x[:, i].mean(axis=0) for name, x in found["rlhf"].items()}
        left.plot(mean["kl"], mean["gold"], "o-", ms=3, color=f"C{i}", label=f"RLOO, penalty {penalty:g}: gold")
        left.plot(mean["kl"], mean["proxy"], "--", color=f"C{i}", lw=1, label="its proxy" if i == 0 else None)
        updates = size.every * np.arange(len(mean["gold"]))
        low, high = statistics.bootstrap(found["rlhf"]["gold"][:, i], np.mean)
        right.plot(updates, mean["gold"], color=f"C{i}", label=f"penalty {penalty:g}")
        right.fill_between(updates, low, high, color=f"C{i}", alpha=0.15, lw=0)
    for name, style, label in (("dpo", "ks", "DPO: gold"), ("best", "k^", "best of n: gold")):
        mean = {key: x.mean(axis=0) for key, x in found[name].items()}
        left.plot(mean["kl"], mean["gold"], style + ":", ms=4, lw=0.8, label=label)
    left.set(xlabel="KL(policy || reference), nats per answer", ylabel="reward", title="gold and proxy against KL")
    right.set(xlabel="updates", ylabel="gold reward", title="gold reward over training, 95 % intervals")
    for axes in (left, right):
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=7, loc="best" if axes is right else "upper left", ncols=1)
    left.set_ylim(top=1.6 * left.get_ylim()[1])  # room for the legend
    out.mkdir(parents=True, exist_ok=True)
    figure.savefig(out / "rlhf.png", dpi=150)


if __name__ == "__main__":
    main()
