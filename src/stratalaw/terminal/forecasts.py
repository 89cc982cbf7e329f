"""A forecast of items on the terminal: how many will go, and which first."""

from __future__ import annotations

from stratalaw.jobs.forecast import ItemForecast
from stratalaw.terminal.base import PlainConsole, new_table

MOST_SHOWN = 10


def show_forecast(forecast: ItemForecast, name: str) -> None:
    """Print what each stratum is expected to keep, and the items that are likeliest to go."""
    console = PlainConsole()
    table = new_table(f"{name}, predicted", "stratum", "accuracy", "95 % interval", "right before", "lost", "gained")
    for row in forecast.strata.itertuples():
        own = forecast.items[forecast.items.stratum == row.stratum]
        lost = (own.original * (1 - own.probability)).sum()
        gained = ((1 - own.original) * own.probability).sum()
        table.add_row(
            str(row.stratum),
            f"{row.accuracy:.3f}",
            f"{row.low:.3f} to {row.high:.3f}",
            f"{own.original.sum():.0f} of {len(own)}",
            f"{lost:.0f}",
            f"{gained:.0f}",
        )
    console.print(table)
    table = new_table("Likeliest to go, of what the original answers right", "stratum", "item", "survives", "asked")
    for row in forecast.items[forecast.items.original == 1].head(MOST_SHOWN).itertuples():
        table.add_row(str(row.stratum), f"{row.task} {row.document}", f"{row.probability:.0%}", str(row.asked))
    console.print(table)
