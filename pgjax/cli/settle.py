"""The command `settle`."""

import shlex
import signal

from pgjax.cli import watch
from pgjax.cli.common import Action, make_console, pairs, stamp
from pgjax.cli.options import Settle
from pgjax.settling import rounds, showing
from pgjax.settling.question import asked


def settle(options: Settle, words: list[str]) -> Action:
    """Checks the options of `pgjax settle`; the function returned carries it out."""
    if len(options.arms) != 2:
        given = f"got {len(options.arms)}{': ' if options.arms else ''}{shlex.join(options.arms)}"
        raise ValueError(f'settle takes two arms, each in quotes, as "ppo clip_eps=.1" "ppo clip_eps=.2"; {given}')
    if not options.env:
        raise ValueError("say which environment: --env NAME, or --env module:factory")
    names = ("steps", "updates", "margin", "error", "most", "by", "bounds", "batch", "seed")
    place = f"runs/settle-{options.env.rpartition(':')[2].replace('/', '-')}-{stamp()}"
    question = asked(
        *options.arms,
        options.env,
        out=place if options.out is None else options.out,
        settings=pairs("--set", options.set),
        command=["pgjax", *words],
        **{name: getattr(options, name) for name in names},
    )

    def act():
        found = rounds.carried_out(question)
        watch.say(make_console(), showing.lines(found))
        if found.signal is not None:
            print("stopped; the same command goes on")
        return 0 if found.signal is None else 128 + (found.signal or signal.SIGINT)

    return act
