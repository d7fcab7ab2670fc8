"""The rosters in; the tables of `pgjax list` out."""

from typing import Any

from pgjax import advantages, envs, hyperparameters, losses, optimizers, variance
from pgjax.algorithms.roster import ROSTER, Entry
from pgjax.cli.common import Action, make_console
from pgjax.cli.options import List
from pgjax.dependencies import importing
from pgjax.envs import registry
from pgjax.envs.parameters import NOTES, UNUSED, derived
from pgjax.estimators.surrogate import surrogate
from pgjax.losses import policy, sequences


def show_list(options: List, words: list[str]) -> Action:
    console = make_console()
    if options.env_name:
        return lambda: show_environment(console, options.env_name) or 0
    return lambda: show(console) or 0


def show(console: Any) -> None:
    """Print algorithms, plugs and environments, with hyperparameters and defaults."""
    with importing("rich"):
        from rich.table import Table

    table = Table("algorithm", "what it is", "hyperparameters and defaults", title="algorithms", show_lines=True)
    for name, row in ROSTER.items():
        table.add_row(f"{name}", f"{row.summary}\n[dim]{row.paper}[/dim]", "\n".join(_settings(row)))
    console.print(table)
    for title, roster in (
        ("advantages", advantages.ADVANTAGES),
        ("losses", losses.LOSSES | sequences.LOSSES),
        ("estimators", {"surrogate(loss, reduce)": surrogate(policy.policy_gradient)}),
        ("optimizers", optimizers.OPTIMIZERS),
    ):
        table = Table("name", "hyperparameters and defaults", title=title)
        for name, plug in roster.items():
            table.add_row(name, _defaults(hyperparameters.hyperparameters(plug)) or "none")
        console.print(table)
    table = Table("estimator", "returns", "other than the defaults", "unbiased", title="estimators of `pgjax variance`")
    for name, row in variance.ESTIMATORS.items():
        plain = variance.ScoreFunction(batch=row.batch)
        others = {k: v for k, v in vars(row).items() if k != "returns" and v != getattr(plain, k)}
        unbiased, why = variance.statement(row)
        table.add_row(name, row.returns, _defaults(others), f"{'yes' if unbiased else 'no'}: {why}")
    console.print(table)
    console.print("environments", style="bold")
    console.print("  ".join(envs.names()), highlight=False)
    console.print("gymnasium:ID, stepped on the host; brax:NAME: extras of these names bring them.", highlight=False)
    console.print("`pgjax list ENV` shows an environment's parameters.", highlight=False)
    console.print("A number may be a list, name=value,value: floats share one program, the rest compile one each.")


def show_environment(console: Any, name: str) -> None:
    """Print the parameters of one environment, and what it shows and takes."""
    settable = registry.settable(name)
    env = envs.make(name)
    computed, unused = derived(env.params), UNUSED.get(name, ())
    console.print(f"{name}: observations {env.observation_space!r}, actions {env.action_space!r}", highlight=False)
    free = {key: value for key, value in settable.items() if key not in computed and key not in unused}
    console.print("  ".join(f"env.{key}={value}" for key, value in free.items()), highlight=False)
    for key, found in computed.items():
        console.print(f"env.{key} is computed as {found.formula}, and can't be set.", highlight=False)
    for key in unused:
        console.print(f"env.{key} can't be set: nothing depends on it, in gymnax.", highlight=False)
    if name in NOTES:
        console.print(NOTES[name], highlight=False)


def _settings(row: Entry) -> list[str]:
    algorithm, config = row.algorithm, row.config
    lines = [
        f"{part}: {_defaults(hyperparameters.hyperparameters(getattr(algorithm, part))) or 'none'}"
        for part in ("advantage", "estimator", "optimizer")
    ]
    return [*lines, f"config: {_defaults(vars(config))}"]


def _defaults(values: dict[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return "x".join(map(str, value))
        if isinstance(value, bool):
            return str(value).lower()
        return f"{value:g}" if isinstance(value, float) else str(value)

    return " ".join(f"{name}={text(value)}" for name, value in values.items())
