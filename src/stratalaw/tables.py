"""Analyses, predictions and plans as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from stratalaw.laws.analysis import Analysis, exponents_table
from stratalaw.laws.holdout import BASELINES, EACH_BITS, EACH_SIZE
from stratalaw.planning.portfolio import TOLERANCE, Candidate, Plan, Workload, gigabytes, reason
from stratalaw.planning.selection import Designs

SHOWN_FORMS = 3
VERDICT_STYLES = {"supported": "green", "contradicted": "red", "not decidable": "yellow"}


def show_analysis(analysis: Analysis) -> None:
    """Print exponents, the best forms, verdicts and what a reader must know."""
    console = Console()
    console.print(table_of_exponents(analysis))
    for law in analysis.laws:
        left_out = ", ".join(f"{count} x {reason}" for reason, count in law.left_out.items()) or "nothing"
        console.print(
            f"{law.stratum}: adjusted R² {law.adjusted_r_squared:.3f} on {law.n_rows} rows; left out: {left_out}"
        )
    if f"{EACH_SIZE} mae" in analysis.forms:
        console.print(table_of_forms(analysis))
    console.print(table_of_verdicts(analysis))
    for note in [*analysis.notes, *dict.fromkeys(warning for law in analysis.laws for warning in law.warnings)]:
        console.print(f"Note: {note}.")


def table_of_exponents(analysis: Analysis) -> Table:
    """Exponents of the paper's law with their intervals, beside the paper's."""
    table = new_table(
        "-ln(adjusted accuracy) = A N^alpha (log2 B)^beta (log2 C)^gamma G^delta",
        *("stratum", "exponent", "value", "95 % (models, items)", "paper"),
    )
    previous = None
    for row in exponents_table(analysis).itertuples():
        if previous not in (None, row.stratum):
            table.add_section()
        stratum, previous = "" if row.stratum == previous else row.stratum, row.stratum
        interval = f"{row.bootstrap_low:.3f} to {row.bootstrap_high:.3f}"
        published = "" if pd.isna(row.published) else f"{row.published:.3f}"
        table.add_row(stratum, row.exponent, f"{row.value:.3f}", interval, published)
    return table


def table_of_forms(analysis: Analysis) -> Table:
    """The best forms, the paper's law and the baselines, by their error on held-out sizes."""
    always = {"paper", *(baseline.name for baseline in BASELINES)}
    table = new_table(
        "Mean absolute error (points) on fitted rows, sizes and bit-widths held out in turn",
        *("stratum", "form", "fitted", "sizes", "bits", "AICc"),
    )
    for stratum, rows in analysis.forms.groupby("stratum", sort=False):
        shown = rows[(rows.reset_index().index < SHOWN_FORMS) | rows.form.isin(always).to_numpy()]
        for place, row in enumerate(shown.to_dict("records")):
            errors = [row["mae"], row[f"{EACH_SIZE} mae"], row.get(f"{EACH_BITS} mae", float("nan"))]
            cells = ["" if pd.isna(error) else f"{100 * error:.2f}" for error in errors]
            aicc = f"{row['aicc']:.0f}"
            table.add_row("" if place else stratum, row["form"], *cells, aicc)
        table.add_section()
    return table


def table_of_verdicts(analysis: Analysis) -> Table:
    """The paper's claims, each with its verdict."""
    table = new_table("The paper's claims", "claim", "verdict", "probability", "estimate (95 %)")
    for row in analysis.verdicts.astype(object).where(analysis.verdicts.notna(), None).itertuples():
        verdict = f"[{VERDICT_STYLES[row.verdict]}]{row.verdict}[/]"
        probability = "" if row.probability is None else f"{row.probability:.3f}"
        estimate = "" if row.estimate is None else f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})"
        table.add_row(row.text, verdict, probability, estimate)
    return table


def show_predictions(predictions: pd.DataFrame, title: str, level: float) -> None:
    """Print the predicted accuracy of each stratum with its interval."""
    table = new_table(title, "stratum", "accuracy", f"{100 * level:g} % interval", "form", "outside the fitted range")
    for row in predictions.itertuples():
        style = "yellow" if row.outside else ""
        interval = f"{row.low:.3f} to {row.high:.3f}"
        table.add_row(row.stratum, f"{row.accuracy:.3f}", interval, row.form, row.outside or "no", style=style)
    Console().print(table)


def show_plan(
    plan: Plan, workloads: Sequence[Workload], candidates: Sequence[Candidate], memory: int | None, title: str
) -> None:
    """Print which variant serves each workload, what it takes and reaches, and why it was chosen."""
    console, strata = Console(), list(candidates[0].accuracy)
    table = new_table(title, "workload", "variant", "memory", *strata)
    for workload in workloads:
        chosen = plan.choices[workload.name]
        cells = []
        for stratum in strata:
            missed = chosen.accuracy[stratum] < workload.floors.get(stratum, 0) - TOLERANCE
            cells.append(f"[red]{chosen.accuracy[stratum]:.3f}[/]" if missed else f"{chosen.accuracy[stratum]:.3f}")
        table.add_row(workload.name, chosen.name, gigabytes(chosen.memory), *cells)
    console.print(table)
    limit = "" if memory is None else f" of {gigabytes(memory)}"
    console.print(f"Memory {gigabytes(plan.memory)}{limit}; mean accuracy by shares and weights {plan.value:.3f}.")
    for workload in workloads:
        chosen = plan.choices[workload.name]
        if plan.shortfall <= TOLERANCE:
            console.print(f"{workload.name}: {reason(workload, plan, candidates, memory)}.")
        if chosen.note:
            console.print(f"Note: {chosen.name} is {chosen.note}.")


def show_selection(designs: Designs, candidates: pd.DataFrame, chosen: np.ndarray, strata: Sequence[str]) -> None:
    """Print what is chosen of which model and bits, its cost, and how wide the intervals will be."""
    console = Console()
    counts = candidates[chosen].groupby(["model", "bits"], sort=False).size().unstack(fill_value=0)
    table = new_table("Variants to measure", "model", *(f"{bits:g} bits" for bits in counts))
    for model, row in counts.iterrows():
        table.add_row(model, *map(str, row))
    console.print(table)
    hours = candidates.seconds[chosen].sum() / 3600, candidates.seconds.sum() / 3600
    console.print(f"{chosen.sum()} of {len(chosen)} variants, {hours[0]:.3g} of {hours[1]:.3g} hours.")
    table = new_table("Expected widths of the 95 % intervals: chosen (all)", "stratum", *designs.names[1:])
    some, everything = designs.widths(chosen), designs.widths(np.ones_like(chosen))
    for stratum, few, all_of_them in zip(strata, some[:, 1:], everything[:, 1:], strict=True):
        table.add_row(stratum, *(f"{a:.3f} ({b:.3f})" for a, b in zip(few, all_of_them, strict=True)))
    console.print(table)


def new_table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
