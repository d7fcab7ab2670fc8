"""The edge: a plan in, a Result and a run folder out. Here programs are compiled, and time passes."""

import contextlib
import pathlib
import signal
import sys
import threading
import time
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

from pgjax import report, results, sweep
from pgjax.envs.adapter import param_names
from pgjax.parsing import anchor, whole
from pgjax.plugs import hyperparameters, name_of
from pgjax.progress import Progress
from pgjax.results import Result, Store
from pgjax.settings import Group, Plan, plan


class Prepared(NamedTuple):
    """A run that was checked, its folder made, and nothing compiled yet."""

    plan: Plan
    config: dict[str, Any]
    path: pathlib.Path | None
    snapshots: int


def prepare(
    algorithm: Any,
    env: Any,
    *,
    out: str | pathlib.Path | None = None,
    command: list[str] | None = None,
    specs: dict[str, str] | None = None,
    snapshots: int = 0,
    **options: Any,
) -> Prepared:
    """Check a run and make its folder: all that bad input can spoil happens here. See `run`."""
    snapshots = whole("snapshots", snapshots, least=0) or 0
    if snapshots and out is None:
        raise ValueError(f"snapshots={snapshots} needs a run folder to be written to; give out")
    chosen = plan(algorithm, env, **options)
    config = _config(chosen, algorithm, env, command, specs or {}, options)
    path = None if out is None else pathlib.Path(out)
    if path is not None:
        results.create(path, config)
    return Prepared(chosen, config, path, snapshots)


def execute(prepared: Prepared, progress: bool = True) -> Result:
    """Train, evaluate, and write what came of it. See `run`."""
    chosen, config, path, snapshots = prepared
    store, states, clock = Store(chosen), [], {"compile_seconds": 0.0, "train_seconds": 0.0, "evaluate_seconds": 0.0}
    with _interruptible() as stop, Progress(chosen, shown=progress) as bar:
        for index, group in enumerate(chosen.groups):
            if stop.is_set():
                break
            saves = {u: path / "snapshots" / f"update-{u:08}" / f"group{index}" for u in _points(group, snapshots)}
            states.append(_train(group, chosen, store, clock, bar, stop, saves))
    result = _result(chosen, config, store, states, clock, path)
    if path is not None:
        results.write(result)
        report.curve(result.metrics, path / "curve.png", title=f"{config['algorithm']} on {config['env']}")
    return result


def run(algorithm: Any, env: Any, *, progress: bool = True, **options: Any) -> Result:
    """Train every setting with every seed, as lanes of one compiled program for each static choice.

    Example: `run("ppo", "CartPole-v1", seeds=32, settings={"learning_rate": [1e-3, 3e-4]})`.

    Args:
      algorithm, env: names, or objects of one's own.
      seeds=1, seed=0, steps, updates, settings, loss, policy: see `settings.plan`.
      out: the run folder, which must not exist; None writes nothing.
      snapshots: how often to save the parameters during training, besides at its end: first before
        training, then at even distances, each at the nearest end of a segment. See `runs.load`.
      progress: show a live bar (lines where the output is no terminal).
      command: what the user typed, for config.json; specs: "env" or "loss" -> the module:name or
        file.py:name that it was loaded from.

    Returns:
      a Result. After Ctrl-C it holds what was done up to then, and `interrupted` is true; a second
      Ctrl-C stops at once.

    Raises:
      ValueError, TypeError: for bad input, before anything is compiled or written.
    """
    return execute(prepare(algorithm, env, **options), progress)


def _train(
    group: Group,
    chosen: Plan,
    store: Store,
    clock: dict,
    bar: Progress,
    stop: threading.Event,
    saves: dict[int, pathlib.Path],
) -> Any:
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
        if done in saves:
            results.save(saves[done], group, states)
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
    store.groups_done += 1
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


def _points(group: Group, snapshots: int) -> set[int]:
    """The updates before which to save: fractions 0, 1/snapshots, ... of all, as whole segments."""
    length = _segment(group.updates)
    return {round(group.updates * i / snapshots / length) * length for i in range(snapshots)}


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


def _config(
    chosen: Plan, algorithm: Any, env: Any, command: Any, specs: dict[str, str], options: dict[str, Any]
) -> dict[str, Any]:
    """Everything needed to run it again; what is a function of the user's, by name and place."""
    mine = {name: options[name] for name in ("loss", "policy") if options.get(name) is not None}
    objects = {
        name: {"name": thing} if isinstance(thing, str) else {"spec": anchor(specs.get(name)) or results.spec(thing)}
        for name, thing in {"algorithm": algorithm, "env": env, **mine}.items()
    }
    return {
        "algorithm": algorithm if isinstance(algorithm, str) else name_of(chosen.groups[0].algorithm.estimator),
        "env": env if isinstance(env, str) else results.origin(env),
        **{name: results.origin(thing) for name, thing in mine.items()},
        "objects": objects,
        "seeds": chosen.seeds,
        "settings": options.get("settings") or {},
        **chosen.chosen,
        "command": command,
        "groups": [
            {
                "config": vars(group.config),
                "settings": group.settings,
                "plugs": {
                    part: {"name": name_of(plug), "defaults": hyperparameters(plug)}
                    for part, plug in group.algorithm._asdict().items()
                },
                "env": param_names(group.env.params),
                "hypers": [h._asdict() for h in group.hypers],
                "updates": group.updates,
                "env_steps_at_most": group.updates * group.steps_per_update,
            }
            for group in chosen.groups
        ],
        **results.machine(),
    }


def _result(chosen, config, store, states, clock, path) -> Result:
    metrics = store.dataset()
    interrupted = not store.complete
    trained = float(np.nansum(np.nanmax(np.nan_to_num(store.env_steps), axis=-1)))
    summary = {
        "algorithm": config["algorithm"],
        "env": config["env"],
        "interrupted": interrupted,
        "lanes": int(store.finite.size),
        "failed_lanes": int((~store.finite).sum()),
        "eval_episodes": max(group.config.eval_episodes for group in chosen.groups),
        "updates": [int(state.updates[0]) for state in states],
        "env_steps": trained,
        **clock,
        "env_steps_per_second": trained / clock["train_seconds"] if clock["train_seconds"] else None,
        "settings": report.summarise(metrics),
    }
    return Result(metrics, summary, path, interrupted, chosen, states)
