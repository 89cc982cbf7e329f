"""Tables on the terminal: an analysis, what was pinned, and what a study needs."""

from __future__ import annotations

import pandas as pd
from rich.console import Console
from rich.table import Table

from stratalaw.laws.analysis import Analysis
from stratalaw.laws.holdout import BASELINES, EACH_BITS, EACH_SIZE
from stratalaw.laws.tables import exponents_table
from stratalaw.terminal.base import new_table

SHOWN_FORMS = 3
VERDICT_STYLES = {"supported": "green", "contradicted": "red", "not decidable": "yellow"}


def show_analysis(analysis: Analysis) -> None:
    """Print exponents, the best forms, verdicts and what a reader must know."""
    console = Console()
    if analysis.laws:
        _show_laws(console, analysis)
    for note in [*analysis.notes, *dict.fromkeys(warning for law in analysis.laws for warning in law.warnings)]:
        console.print(f"Note: {note}.")


def _show_laws(console: Console, analysis: Analysis) -> None:
    console.print(table_of_exponents(analysis))
    for law in analysis.laws:
        left_out = ", ".join(f"{count} x {reason}" for reason, count in law.left_out.items()) or "nothing"
        console.print(
            f"{law.stratum}: adjusted R² {law.adjusted_r_squared:.3f} on {law.n_rows} rows; left out: {left_out}"
        )
    if f"{EACH_SIZE} mae" in analysis.forms:
        console.print(table_of_forms(analysis))
    console.print(table_of_verdicts(analysis))


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
    # A column is missing where no claim has a value in it.
    verdicts = analysis.verdicts.reindex(columns=["text", "verdict", "probability", "estimate", "low", "high"])
    for row in verdicts.astype(object).where(verdicts.notna(), None).itertuples():
        verdict = f"[{VERDICT_STYLES[row.verdict]}]{row.verdict}[/]"
        probability = "" if row.probability is None else f"{row.probability:.3f}"
        estimate = "" if row.estimate is None else f"{row.estimate:.3f} ({row.low:.3f} to {row.high:.3f})"
        table.add_row(row.text, verdict, probability, estimate)
    return table
