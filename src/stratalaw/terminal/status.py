"""How far a study is, on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stratalaw.jobs.adoption import Adoption
from stratalaw.jobs.status import StageStatus, TimeLeft, failures_table
from stratalaw.jobs.verification import StageVerified
from stratalaw.units import counted, readable_time


def show_status(statuses: Sequence[StageStatus], left: TimeLeft) -> None:
    """Print the stages as a table, the causes of failures with advice, and the time that the rest will take."""
    from rich.table import Table

    from stratalaw.terminal.base import PlainConsole

    console = PlainConsole()
    table = Table("stage", "done", "running", "failed", "remaining", "left")
    for status in statuses:
        takes = "?" if status.seconds_left is None else readable_time(status.seconds_left)
        counts = (status.done, status.running, len(status.failed), status.remaining)
        table.add_row(status.stage.name, *map(str, counts), takes)
    console.print(table)
    for (stage, cause), alike in failures_table(statuses).groupby(["stage", "cause"], sort=False):
        first = alike.iloc[0]
        console.print(f"{stage}: {counted(len(alike), 'job')}: {cause}: {first.advice}", soft_wrap=True, markup=False)
        console.print(f"    {first.job}: {first.line} ({first.log})", soft_wrap=True, markup=False)
    console.print(sentence_of(left), soft_wrap=True, markup=False, highlight=False)


def sentence_of(left: TimeLeft) -> str:
    """How long the rest takes, in words."""
    least = readable_time(left.least)
    if left.most is None:
        return f"More than {least} left; too little is done of {', '.join(left.unknown)} to tell how much more."
    if left.most == 0:
        return "Nothing is left."
    basis = "by the cost model where too little is done to tell a rate" if left.assumed else "at the rates so far"
    return f"{least} to {readable_time(left.most)} left, as far as stages overlap, {basis}."


def show_verified(stages: Sequence[StageVerified], study: str) -> None:
    """Print how many files of each stage are whole, a line for each that is not, and how to make the first again, from
    which others may follow."""
    from rich.table import Table

    from stratalaw.terminal.base import PlainConsole

    console = PlainConsole()
    table = Table("stage", "whole", "not")
    for stage in stages:
        table.add_row(stage.stage, str(stage.whole), str(len(stage.problems)))
    console.print(table)
    for problem in dict.fromkeys(problem for stage in stages for problem in stage.problems):
        console.print(problem, soft_wrap=True, markup=False)
    if first := next((stage for stage in stages if stage.jobs), None):
        again = f"stratalaw redo {study} {first.jobs[0]} --from {first.stage}"
        console.print(f"Begin with the first: {again}", soft_wrap=True, markup=False)


def show_adoption(adoption: Adoption, study: Path) -> None:
    """Print what was verified, and how many finished jobs count as up to date, or why none does."""
    from stratalaw.terminal.base import PlainConsole

    show_verified(adoption.verified, str(study))
    console = PlainConsole()
    if not adoption.adopted:
        console.print("Nothing was adopted: not all results are what their seals say.", markup=False)
        return
    count = f"{len(adoption.adopted)} finished jobs {'would count' if adoption.only_shown else 'count'} as up to date."
    console.print(count, markup=False, highlight=False)
    if not adoption.has_records:
        console.print(
            f"Taken on trust: that {study} and the tasks are those with which they were made. Snakemake's records of "
            "that (.snakemake) are not here.",
            soft_wrap=True,
            markup=False,
        )
