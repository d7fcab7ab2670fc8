"""What do the policy gradients of 2024 to 2026 ascend, how biased are they, and how noisy?

    python experiments/certificates.py            # every method on five worlds, batches of 2, 4, 8 and 16
    python experiments/certificates.py --smoke    # a size for tests

Every figure is exact: a sum over all batches of episodes, in float64, on worlds small enough to write them down. See
`pgjax.certify`. The worlds are `verifier` (one of three answers is right), `bandit` (answers that pay 1, 0 and .4),
`prompts` (two starts with other right answers), `tokens` (two tokens of two; 1, .5 or 0) and `stopping` (an episode's
length is what its actions decide; 0, 2 or 1), at 12 policies each; the reference is another policy.

A batch is one group here, so what GPG and DAPO do between groups plays no part: their rows are Dr. GRPO's and GRPO's.
At a batch's first gradient step GRPO, DAPO, GSPO, CISPO, SAPO and GMPO are one method where answers have one length. It
turns the gradient of no objective as soon as there are three returns. Of the KL penalties only k1 in the reward is that
of whole episodes: k2 and k3 in the loss hold the states fixed, which for more than one token is the gradient of
nothing; k1 in the loss is no penalty, and k3 in the reward pushes away from the reference at the same time as to it.
"""

import argparse
import pathlib
from typing import Annotated

import jax
import jax.numpy as jnp
from methods.gmpo import gmpo
from methods.pass_at_k import pass_at_k
from methods.sapo import sapo
from methods.topr import topr

import pgjax
from pgjax import Algorithm, Range, Role, bind, optimizers
from pgjax.advantages import group_relative, leave_one_out, monte_carlo, penalised
from pgjax.algorithms.roster import ROSTER
from pgjax.declarations import plays, whole_episodes
from pgjax.estimators import surrogate
from pgjax.losses import anchored, policy_gradient, ppo_clip
from pgjax.report import certificate as pages
from pgjax.runs import folder

WORLDS = ("verifier", "bandit", "prompts", "tokens", "stopping")
BINARY = ("verifier", "prompts")  # the worlds whose returns are 0 or 1
BETA = 0.1  # of every KL penalty
Samples = Annotated[int, Range(2), Role.SAMPLES]


def _returns(trajectory, samples):
    """[B / K, K] of whole episodes."""
    return jnp.sum(jnp.where(trajectory.mask > 0, trajectory.reward, 0.0), axis=0).reshape(-1, samples)


def _spread(x, trajectory):
    return jnp.broadcast_to(x.reshape(-1), trajectory.mask.shape)


@whole_episodes
def gpg(trajectory, now, *, samples: Samples = 8):
    """Chu et al. 2025, GPG: R - mean over the share of groups whose returns differ, with a divisor of 1."""
    total = _returns(trajectory, samples)
    centred = total - jnp.mean(total, axis=1, keepdims=True)
    unlike = jnp.any(jnp.abs(centred) > 1e-9, axis=1)
    share = jnp.maximum(jnp.mean(1.0 * unlike), 1 / unlike.size)
    return _spread(centred / share, trajectory), now.value


@whole_episodes
@plays
def until_mixed(play, trajectory, now, *, samples: Samples = 8):
    """R - mean, of groups drawn again until their 0/1 returns differ, as 2601.08521 and DAPO's eq. 11 have them.

    Given that, the mean update is over P(mixed) = 1 - p^K - (1 - p)^K, p the policy's success, which is played for.
    """
    total = _returns(trajectory, samples)
    p = play(jax.tree.map(lambda x: x[:1], trajectory))[0].reshape(-1, samples)
    centred = total - jnp.mean(total, axis=1, keepdims=True)
    return _spread(centred / (1 - p**samples - (1 - p) ** samples), trajectory), now.value


@whole_episodes
def u_statistic(trajectory, now, *, samples: Samples = 8):
    """The U-statistic of (R_i - R_j)(score_i - score_j) / 2 over pairs: the mean of R_i - R_j over the others."""
    total = _returns(trajectory, samples)
    return _spread(jnp.sum(total[:, :, None] - total[:, None], axis=2) / (samples - 1), trajectory), now.value


@whole_episodes
def per_turn(trajectory, now):
    """hectopascal/agent-credit-bench: G_t minus the mean of the others that act at t, 0 where none does."""
    mask = trajectory.mask
    to_go = jnp.cumsum((mask * trajectory.reward)[::-1], axis=0)[::-1]
    others = lambda x: jnp.sum(x, axis=1, keepdims=True) - x  # noqa: E731
    return to_go - others(mask * to_go) / jnp.maximum(others(mask), 1.0), now.value


@whole_episodes
def optimal_token(trajectory, now, *, samples: Samples = 8):
    """Li et al. 2026, The optimal token baseline: G minus its mean over the group, weighed by W_t.

    W_t = sum_{s <= t} 1 - 2 pi(a_s) + sum_a pi(a)^2 is their logit-gradient proxy; the sum is over answers that have
    not ended, the episode itself among them.
    """
    pi = jnp.exp(now.dist.log_probs())
    proxy = 1 - 2 * jnp.exp(now.log_prob) + jnp.sum(pi**2, axis=-1)
    weight = jax.lax.stop_gradient(jnp.cumsum(proxy * trajectory.mask, axis=0) * trajectory.mask)
    to_go = jnp.cumsum((trajectory.reward * trajectory.mask)[::-1], axis=0)[::-1]
    grouped = lambda x: x.reshape(len(x), -1, samples)  # noqa: E731
    total = jnp.sum(grouped(weight), axis=2, keepdims=True)
    mean = jnp.sum(grouped(weight * to_go), axis=2, keepdims=True) / jnp.where(total > 0, total, 1.0)
    return to_go - jnp.broadcast_to(mean, (*total.shape[:2], samples)).reshape(to_go.shape), now.value


def _made(advantage, loss=policy_gradient, reduce="episode"):
    return Algorithm(advantage, surrogate(loss, reduce=reduce), optimizers.adam)


def _with_kl(kind):
    return bind(anchored(policy_gradient), reference_coef=BETA, reference_kl=kind)


def _row(name, **hypers):
    algorithm = ROSTER[name].algorithm
    return algorithm._replace(estimator=bind(algorithm.estimator, **hypers))


METHODS = {
    "REINFORCE": _made(bind(monte_carlo, reward_to_go=False)),
    "RLOO": _row("rloo"),
    "U-statistic GRPO": _made(u_statistic),
    "GRPO": _row("grpo"),
    "Dr. GRPO": _row("dr_grpo"),
    "GPG": _made(gpg),
    "groups until mixed": _made(until_mixed),
    "DAPO": _row("dapo"),
    "GSPO": _row("gspo"),
    "CISPO": _row("cispo"),
    "SAPO": _made(group_relative, sapo, "episode_mean"),
    "GMPO": _made(group_relative, gmpo, "episode_mean"),
    "TOPR": _made(leave_one_out, topr),
    "REINFORCE++": _row("reinforce_pp"),
    "ReMax": _row("remax"),
    "OPO": _row("opo"),
    "optimal token baseline": _made(optimal_token),
    "per-turn leave-one-out": _made(per_turn),
    "pass@2": _made(bind(pass_at_k, k=2), ppo_clip, "episode_mean"),
    "RLOO, k1 in the reward": _made(bind(penalised(leave_one_out), reference_penalty=BETA)),
    "RLOO, k2 in the reward": _made(bind(penalised(leave_one_out), reference_penalty=BETA, reference_kl="k2")),
    "RLOO, k3 in the reward": _made(bind(penalised(leave_one_out), reference_penalty=BETA, reference_kl="k3")),
    "RLOO, k1 in the loss": _made(leave_one_out, _with_kl("k1")),
    "RLOO, k2 in the loss": _made(leave_one_out, _with_kl("k2")),
    "RLOO, k3 in the loss": _made(leave_one_out, _with_kl("k3")),
}

BINARY_ALONE = ("groups until mixed", "pass@2")


def certificates(names=tuple(METHODS), batch=(2, 4, 8, 16), worlds=WORLDS):
    """Name -> Certificate; a batch that a method refuses is left out."""
    found = {}
    for name in names:
        sizes = [size for size in batch if name != "pass@2" or size > 2]
        these = [world for world in worlds if name not in BINARY_ALONE or world in BINARY]
        found[name] = pgjax.certify(METHODS[name], batch=sizes, worlds=these, discount=1.0)
        print(f"{name}: {found[name].verdict}", flush=True)
    return found


def _by_size(cases, world, value, batch):
    """The value of the cases in a world, a size of the batch after another."""
    known = {case.batch: value(case) for case in cases if case.world == world}
    return " / ".join(known.get(size, "-") for size in batch)


def table(found, batch, world="tokens"):
    """Markdown: what each ascends where rewards are 0 or 1 and in general; bias and error by the size of the batch."""
    sizes = " / ".join(map(str, batch))
    head = ["method", "0/1 rewards, one step", "in general", f"bias at K = {sizes}", f"error at K = {sizes}"]
    lines = [head, ["---"] * len(head)]
    for name, certificate in found.items():
        cases = certificate.on_policy()
        binary = max((case for case in cases if case.world == "verifier"), key=lambda case: case.verdict.rank)
        worst = certificate.example
        seen = world if name not in BINARY_ALONE else "prompts"
        lines.append(
            [
                name,
                _told(binary),
                f"{_told(worst)} ({worst.world})",
                _by_size(cases, seen, lambda case: "0" if case.bias < 1e-9 else f"{case.bias:.3f}", batch),
                _by_size(cases, seen, lambda case: f"{case.error:.3f}", batch),
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _told(case):
    named = case.verdict.name.removeprefix("gradient of ")
    told = named + (f": {case.verdict.detail}" if case.verdict.detail else "")
    return told.replace("|", r"\|")  # in a table of Markdown


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a size for tests")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/certificates"))
    options = parser.parse_args(arguments)
    batch = (2, 4) if options.smoke else (2, 4, 8, 16)
    some = {"names": ("RLOO", "GRPO"), "worlds": ("verifier", "tokens")} if options.smoke else {}
    found = certificates(batch=batch, **some)
    text = table(found, batch)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "certificates.md").write_text(text, encoding="utf-8")
    for name, certificate in found.items():
        place = options.out / name.replace(" ", "_").replace("@", "_at_")
        place.mkdir(exist_ok=True)
        pages.write(certificate, place)
    folder.write_json(options.out / "verdicts.json", {name: c.verdict for name, c in found.items()})
    print(text)
    return found


if __name__ == "__main__":
    main()
