"""The edge: a plan in, a Result and a run folder out. Here programs are compiled, and time passes."""

import contextlib
import pathlib
import signal
import sys
import threading
import time
import warnings
from typing import Any

import jax
import numpy as np

from pgjax import report, results, sweep
from pgjax.progress import Progress
from pgjax.results import Result, Store
from pgjax.settings import Group, Plan, plan


def run(
    algorithm: Any,
    env: Any,
    *,
    seeds: int | list[int] = 1,
    seed: int = 0,
    steps: int | None = None,
    updates: int | None = None,
    settings: dict[str, Any] | None = None,
    loss: Any = None,
    policy: Any = None,
    out: str | pathlib.Path | None = None,
    progress: bool = True,
    command: list[str] | None = None,
) -> Result:
    """Train every setting with every seed, as lanes of one compiled program for each static choice.

    Example: `run("ppo", "CartPole-v1", seeds=32, settings={"learning_rate": [1e-3, 3e-4]})`.

    Args:
      algorithm, env, seeds, seed, steps, updates, settings, loss, policy: see `settings.plan`.
      out: the run folder, which must not exist; None writes nothing.
      progress: show a live bar (lines where the output is no terminal).
      command: what the user typed, for config.json.

    Returns:
      a Result. After Ctrl-C it holds what was done up to then, and `interrupted` is true; a second
      Ctrl-C stops at once.

    Raises:
      ValueError, TypeError: for bad input, before anything is compiled or written.
    """
    chosen = plan(
        algorithm,
        env,
        seeds=seeds,
        seed=seed,
        steps=steps,
        updates=updates,
        settings=settings,
        loss=loss,
        policy=policy,
    )
    path = None if out is None else pathlib.Path(out)
    config = _config(chosen, algorithm, env, settings, loss, command)
    if path is not None:
        results.create(path, config)
    store, states, clock = Store(chosen), [], {"compile_seconds": 0.0, "train_seconds": 0.0, "evaluate_seconds": 0.0}
    with _interruptible() as stop, Progress(chosen, shown=progress) as bar:
        for group in chosen.groups:
            if stop.is_set():
                break
            states.append(_train(group, chosen, store, clock, bar, stop))
    result = _result(chosen, config, store, states, clock, path, stop.is_set())
    if path is not None:
        results.write(result)
        report.curve(result.metrics, path / "curve.png", title=f"{config['algorithm']} on {config['env']}")
    return result


def _train(group: Group, chosen: Plan, store: Store, clock: dict, bar: Progress, stop: threading.Event) -> Any:
    keys, hypers = sweep.lanes(group.hypers, chosen.seeds)
    length = _segment(group.updates)
    bar.say(f"compiling for {len(keys)} lanes")
    began = time.perf_counter()
    first = jax.jit(lambda keys, hypers: sweep.init(keys, group.learner, hypers)).lower(keys, hypers).compile()
    states = first(keys, hypers)
    step = _compile(lambda k, s, h: sweep.segment(k, group.learner, s, h, length), keys, states, hypers, donate=1)
    clock["compile_seconds"] += time.perf_counter() - began
    bar.say(f"compiled in {time.perf_counter() - began:.1f} s")

    bar.start(group)
    for done in range(0, group.updates, length):
        if stop.is_set():
            return states
        began = time.perf_counter()
        states, metrics = jax.block_until_ready(step(keys, states, hypers))
        clock["train_seconds"] += time.perf_counter() - began
        finite = np.asarray(states.finite)
        metrics = {name: np.asarray(value) for name, value in metrics.items()}
        store.add(group, done, metrics, finite)
        bar.update(length, metrics, finite)
    bar.say("evaluating")
    began = time.perf_counter()
    episodes = group.config.eval_episodes
    measure = _compile(
        lambda k, s, h: sweep.evaluate(k, group.env, group.learner, s, h, episodes), keys, states, hypers
    )
    for kind, outcome in measure(keys, states, hypers).items():
        store.add_final(group, f"final_return_{kind}", np.asarray(outcome.episode_return))
        store.add_final(group, f"final_length_{kind}", np.asarray(outcome.episode_length))
    clock["evaluate_seconds"] += time.perf_counter() - began
    return states


def _compile(function: Any, *arguments: Any, donate: int | tuple = ()) -> Any:
    with warnings.catch_warnings():
        # A key of the state that the program only reads can't be reused; nothing is lost by it.
        warnings.filterwarnings("ignore", message="Some donated buffers were not usable")
        return jax.jit(function, donate_argnums=donate).lower(*arguments).compile()


def _segment(updates: int, wanted: int = 40) -> int:
    """Updates of one segment: the largest divisor of `updates` that leaves `wanted` segments or more."""
    most = max(1, updates // wanted)
    return max(n for n in range(1, most + 1) if updates % n == 0)


@contextlib.contextmanager
def _interruptible():
    """Yields an event that the first Ctrl-C sets; the second stops the program as usual."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number, frame):
        stop.set()
        signal.signal(signal.SIGINT, before)
        print("\nstopping after this segment; Ctrl-C again to stop at once", file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _config(chosen: Plan, algorithm: Any, env: Any, settings: Any, loss: Any, command: Any) -> dict[str, Any]:
    """Everything needed to run it again."""
    return {
        "algorithm": algorithm
        if isinstance(algorithm, str)
        else results.name(getattr(algorithm, "algorithm", algorithm).estimator),
        "env": env if isinstance(env, str) else results.name(env),
        "loss": None if loss is None else results.name(loss),
        "seeds": chosen.seeds,
        "settings": settings or {},
        "command": command,
        "groups": [
            {
                "config": vars(group.config),
                "hypers": [{part: values for part, values in h._asdict().items()} for h in group.hypers],
                "updates": group.updates,
                "env_steps_at_most": group.updates * group.steps_per_update,
            }
            for group in chosen.groups
        ],
        **results.machine(),
    }


def _result(chosen, config, store, states, clock, path, interrupted) -> Result:
    metrics = store.dataset()
    trained = float(np.nansum(np.nanmax(np.nan_to_num(store.env_steps), axis=-1)))
    summary = {
        "algorithm": config["algorithm"],
        "env": config["env"],
        "interrupted": interrupted,
        "lanes": int(store.finite.size),
        "failed_lanes": int((~store.finite).sum()),
        "eval_episodes": max(group.config.eval_episodes for group in chosen.groups),
        "env_steps": trained,
        **clock,
        "env_steps_per_second": trained / clock["train_seconds"] if clock["train_seconds"] else None,
        "settings": report.summarise(metrics),
    }
    return Result(metrics, summary, path, interrupted, chosen, states)
