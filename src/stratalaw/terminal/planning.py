"""Predictions, plans and selections as tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.planning.portfolio import TOLERANCE, Candidate, Plan, Workload, reason
from stratalaw.planning.selection import Designs
from stratalaw.planning.skeleton import LEAST_MODELS
from stratalaw.terminal.base import PlainConsole, new_table, styled
from stratalaw.units import readable_bytes


def show_predictions(predictions: pd.DataFrame, title: str, level: float) -> None:
    """Print the predicted accuracy of each stratum with its interval."""
    table = new_table(title, "stratum", "accuracy", f"{100 * level:g} % interval", "form", "not fitted")
    for row in predictions.to_dict("records"):
        style = "yellow" if row["outside"] else ""
        interval = f"{row['low']:.3f} to {row['high']:.3f}"
        table.add_row(
            row["stratum"], f"{row['accuracy']:.3f}", interval, row["form"], row["outside"] or "-", style=style
        )
    PlainConsole().print(table)


def show_plan(
    plan: Plan, workloads: Sequence[Workload], candidates: Sequence[Candidate], memory: int | None, title: str
) -> None:
    """Print which variant serves each workload, what it takes and reaches, and why it was chosen."""
    console, strata = PlainConsole(), list(candidates[0].accuracy)
    table = new_table(title, "workload", "variant", "memory", *strata)
    for workload in workloads:
        chosen = plan.choices[workload.name]
        cells = []
        for stratum in strata:
            missed = chosen.accuracy[stratum] < workload.floors.get(stratum, 0) - TOLERANCE
            cells.append(styled(f"{chosen.accuracy[stratum]:.3f}", "red" if missed else ""))
        table.add_row(workload.name, chosen.name, readable_bytes(chosen.memory), *cells)
    console.print(table)
    limit = "" if memory is None else f" of {readable_bytes(memory)}"
    console.print(f"Memory {readable_bytes(plan.memory)}{limit}; mean accuracy by shares and weights {plan.value:.3f}.")
    for workload in workloads:
        chosen = plan.choices[workload.name]
        if plan.shortfall <= TOLERANCE:
            console.print(f"{workload.name}: {reason(workload, plan, candidates, memory)}.")
        if chosen.note:
            console.print(f"Note: {chosen.name} is {chosen.note}.")


def show_selection(
    designs: Designs,
    candidates: pd.DataFrame,
    chosen: NDArray[np.bool_],
    contrasts: Mapping[str, int],
    strata: Sequence[str],
) -> None:
    """Print what is chosen of which model and bits, its cost, what claims can be tested on, and how wide the intervals
    will be; ``contrasts``: how many models have what claims are tested on."""
    console = PlainConsole()
    counts = candidates[chosen].groupby(["model", "bits"], sort=False).size().unstack(fill_value=0)
    table = new_table("Variants to measure", "model", *(f"{bits:g} bits" for bits in counts))
    for model, row in counts.iterrows():
        table.add_row(str(model), *map(str, row))
    console.print(table)
    hours = candidates.seconds[chosen].sum() / 3600, candidates.seconds.sum() / 3600
    console.print(f"{chosen.sum()} of {len(chosen)} variants, {hours[0]:.3g} of {hours[1]:.3g} hours.")
    if contrasts:
        table = new_table("What claims rest on", "contrast", "models")
        for name, models in contrasts.items():
            table.add_row(name, str(models))
        console.print(table)
        if min(contrasts.values()) < LEAST_MODELS:
            console.print(f"Note: claims that rest on fewer than {LEAST_MODELS} models cannot be tested.")
    else:
        console.print("Note: the budget does not keep the paper's claims testable on two models.")
    table = new_table("Expected widths of the 95 % intervals: chosen (all)", "stratum", *designs.names[1:])
    some, everything = designs.widths(chosen), designs.widths(np.ones_like(chosen))
    for stratum, few, all_of_them in zip(strata, some[:, 1:], everything[:, 1:], strict=True):
        table.add_row(stratum, *(f"{a:.3f} ({b:.3f})" for a, b in zip(few, all_of_them, strict=True)))
    console.print(table)
