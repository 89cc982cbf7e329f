"""The cost of a study as tables on the terminal."""

from __future__ import annotations

from rich.table import Table

from stratalaw.cost.estimate import Cost
from stratalaw.cost.rates import CPU
from stratalaw.cost.schedule import WORTHWHILE, Schedule
from stratalaw.study.variants import BASELINE_NAME
from stratalaw.terminal.base import PlainConsole, new_table, of_shipped_shapes
from stratalaw.units import counted, readable_bytes

HOUR, MINUTE, GB = 3600, 60, 1e9


def show_cost(study: str, cost: Cost, gpus: int | None = None) -> None:
    """Print what a study takes by stage and model, how long on how many GPUs, and what that rests on."""
    console = PlainConsole()
    console.print(table_of_models(cost))
    worker = "core" if cost.device == CPU else "GPU"
    done = cost.variants.done_seconds.sum()
    of_which = f" ({hours(done)} of them done)" if done else ""
    console.print(
        f"{study}: {hours(cost.gpu_seconds)} {worker}-hours on {cost.device}{of_which}; "
        f"{readable_bytes(cost.disk_bytes)} of disk for all models and checkpoints.",
        highlight=False,
    )
    if cost.device != CPU:
        console.print(
            "Reference toolchain (gptqmodel, then lm-eval's hf model on the packed checkpoint, one after the other): "
            f"{hours(cost.reference_seconds)} GPU-hours, {cost.reference_seconds / cost.gpu_seconds:.1f} x.",
            highlight=False,
        )
    console.print(table_of_schedules(cost, worker, gpus))
    console.print(
        f"Beyond {cost.most_worthwhile} {worker}s adding more helps little: twice as many save less than "
        f"{1 - WORTHWHILE:.0%} of the time. No number of them is faster than {duration(cost.shortest)}, "
        "the longest chain of jobs that wait for one another.",
        highlight=False,
    )
    for note in notes(cost):
        console.print(f"Note: {note}.", highlight=False)


def table_of_models(cost: Cost) -> Table:
    """Hours of workers by model and stage, beside those of the reference toolchain, and disk."""
    columns = ["checkpoints", "answers", "together"]
    if is_compared := cost.device != CPU:
        columns += ["reference", "saved"]
    table = new_table("Hours by model and stage", "model", "variants", *columns, "disk (GB)")
    for column in table.columns[1:]:
        column.justify = "right"
    models = [(str(name), rows) for name, rows in cost.variants.groupby("model", sort=False)]
    for name, rows in [*models, ("all", cost.variants)]:
        checkpoints, answers = rows.checkpoints.sum(), rows.answers.sum()
        cells = [hours(checkpoints), hours(answers), hours(checkpoints + answers)]
        if is_compared:
            reference = rows.reference_checkpoints.sum() + rows.reference_answers.sum()
            cells += [hours(reference), f"{1 - (checkpoints + answers) / reference:.0%}"]
        dense = sum(cost.model_bytes[model] for model in rows.model.unique())
        if name == "all":
            table.add_section()
        count = str((rows.variant != BASELINE_NAME).sum())
        table.add_row(name, count, *cells, f"{(dense + rows.checkpoint_bytes.sum()) / GB:,.1f}")
    return table


def table_of_schedules(cost: Cost, worker: str, gpus: int | None) -> Table:
    """Wall time and utilization by the number of workers; ``gpus``: the number that was asked for."""
    table = new_table("Wall time of what is left", f"{worker}s", "wall time", "utilization")
    for column in table.columns:
        column.justify = "right"
    for schedule in cost.schedules:
        style = "bold" if schedule.workers == gpus else None
        table.add_row(*row_of(schedule), style=style)
    return table


def row_of(schedule: Schedule) -> tuple[str, str, str]:
    return str(schedule.workers), duration(schedule.makespan), f"{schedule.utilization:.0%}"


def notes(cost: Cost) -> list[str]:
    """What an estimate rests on."""
    lines = []
    if cost.runs:
        lines.append(f"the measured rates are refined by {counted(cost.runs, 'job')} that ran here")
    else:
        lines.append("nothing was run here yet; the rates were measured at true shapes (rates.csv)")
    if cost.shipped:
        lines.append(of_shipped_shapes(cost.shipped))
    if cost.is_estimated:
        lines.append(
            "the tokens of a benchmark are estimated from a table; once the requests are recorded "
            "(results/requests/MODEL), they are counted"
        )
    lines.append("waiting in a cluster's queue, failures and retries are not in it")
    return lines


def hours(seconds: float) -> str:
    """Hours with three significant digits."""
    value = seconds / HOUR
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    if seconds >= 2 * 24 * HOUR:
        return f"{seconds / 24 / HOUR:.1f} days"
    if seconds >= 2 * HOUR:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / MINUTE:.1f} min" if seconds >= 2 * MINUTE else f"{seconds:.0f} s"
