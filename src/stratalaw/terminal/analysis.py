"""An analysis as tables on the terminal: exponents, forms, verdicts, and what would decide the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table

from stratalaw.laws.analysis import Analysis
from stratalaw.laws.comparison import EACH_BITS, EACH_SIZE, of_stratum, strata_of
from stratalaw.laws.families import AGREE, DIFFER, Agreement
from stratalaw.laws.power import POWER, Need
from stratalaw.laws.tables import HEADLINE, WHY_NO_INTERVAL, headline_exponents
from stratalaw.laws.verdicts import (
    CONTRADICTED,
    NEGLIGIBLE,
    SUPPORTED,
    UNDECIDED,
    UNTESTABLE,
    Verdict,
    at_least,
)
from stratalaw.terminal.base import PlainConsole, new_table, styled

SHOWN_FORMS = 3
STYLES = {SUPPORTED: "green", CONTRADICTED: "red", NEGLIGIBLE: "cyan", UNDECIDED: "yellow", UNTESTABLE: "dim"}
STYLES |= {AGREE: "green", DIFFER: "red"}


def show_analysis(analysis: Analysis) -> None:
    """Print exponents, the best forms, verdicts and what a reader must know."""
    console = PlainConsole()
    if analysis.laws:
        _show_laws(console, analysis)
    for note in [*analysis.notes, *dict.fromkeys(warning for law in analysis.laws for warning in law.warnings)]:
        console.print(f"Note: {note}.")


def _show_laws(console: Console, analysis: Analysis) -> None:
    console.print(table_of_exponents(analysis))
    if headline_exponents(analysis).model_low.isna().any():
        console.print(f"Of intervals over models {WHY_NO_INTERVAL}.")
    for law in analysis.laws:
        left_out = ", ".join(f"{count} x {reason}" for reason, count in law.left_out.items()) or "nothing"
        console.print(
            f"{law.stratum}: adjusted R² {law.adjusted_r_squared:.3f} on {law.n_rows} rows; left out: {left_out}"
        )
    forms = table_of_forms(analysis)
    console.print(forms)
    shown = {str(name).removesuffix(" *") for name in forms.columns[1].cells}
    titles = {record.form: record.title for record in analysis.forms if record.form in shown}
    console.print("Forms: " + "; ".join(f"{name}: {title}" for name, title in titles.items()) + ".")
    show_verdicts(analysis.verdicts, console)
    if analysis.families:
        console.print(table_of_families(analysis.families))


def show_power(verdicts: Sequence[Verdict], needs: Sequence[Need]) -> None:
    """Print the verdicts, and what would decide the claims that are open."""
    console = PlainConsole()
    show_verdicts(verdicts, console)
    if needs:
        console.print(table_of_needs(needs))
    undecided = [verdict for verdict in verdicts if verdict.verdict == UNDECIDED]
    if not undecided:
        console.print("Every claim that the table can test is decided.")
    needed = {need.claim for need in needs}
    for verdict in (verdict for verdict in undecided if verdict.claim not in needed):
        console.print(f"Not decided, and no power is known for it: {verdict.text}.")


def show_verdicts(verdicts: Sequence[Verdict], console: Console) -> None:
    console.print(table_of_verdicts(verdicts))
    for verdict in verdicts:
        if verdict.verdict == UNTESTABLE:
            console.print(f"Not testable: {verdict.text}: {verdict.reason}.")
    tested = sum(verdict.verdict != UNTESTABLE for verdict in verdicts)
    if tested:
        console.print(f"At least {at_least(verdicts)} of the claims hold for models like these (closed testing, 95 %).")


def table_of_exponents(analysis: Analysis) -> Table:
    """Exponents of the paper's law and of the damage with intervals over models, beside the paper's."""
    table = new_table(
        "accuracy: -ln(a) = A N^alpha (log2 B)^beta (log2 C)^gamma G^delta; damage: D = -ln(a / a16), "
        "ln D = ln A + alpha ln N - c B + gamma ln C + delta ln G",
        *("stratum", "scale", "exponent", "value", f"95 % ({HEADLINE})", "models", "paper"),
    )
    previous = None
    for row in headline_exponents(analysis).to_dict("records"):
        if previous not in (None, (row["stratum"], row["scale"])):
            table.add_section()
        first = (row["stratum"], row["scale"]) != previous
        previous = (row["stratum"], row["scale"])
        interval = "none" if pd.isna(row["model_low"]) else f"{row['model_low']:.3f} to {row['model_high']:.3f}"
        models = "" if pd.isna(row["models"]) else f"{row['models']:.0f}"
        published = "" if pd.isna(row["published"]) else f"{row['published']:.3f}"
        about = (row["stratum"], row["scale"]) if first else ("", "")
        table.add_row(*about, row["exponent"], f"{row['value']:.3f}", interval, models, published)
    return table


def table_of_forms(analysis: Analysis) -> Table:
    """The best forms, the paper's law and all baselines, by their error on held-out sizes."""
    table = new_table(
        "Mean absolute error (points) on fitted rows, sizes and bit-widths held out in turn; * no law",
        *("stratum", "form", "fitted", "sizes", "bits", "AICc"),
    )
    for stratum in strata_of(analysis.forms):
        shown = [
            record
            for place, record in enumerate(of_stratum(analysis.forms, stratum))
            if place < SHOWN_FORMS or record.is_baseline or record.form in ("paper", "anchored")
        ]
        for place, record in enumerate(shown):
            errors = (record.mae, record.error(EACH_SIZE), record.error(EACH_BITS))
            cells = ["" if math.isnan(error) else f"{100 * error:.2f}" for error in errors]
            name = f"{record.form} *" if record.is_baseline else record.form
            table.add_row("" if place else stratum, name, *cells, f"{record.aicc:.0f}")
        table.add_section()
    return table


def table_of_verdicts(verdicts: Sequence[Verdict]) -> Table:
    """The paper's claims: for models like these, and for these models."""
    table = new_table(
        "The paper's claims (p: one-sided, t over models, Holm's correction)",
        *("claim", "models like these", "p", "estimate (95 %)", "these models", "agree"),
    )
    for verdict in verdicts:
        told = styled(verdict.verdict, STYLES[verdict.verdict])
        if verdict.verdict == UNTESTABLE:
            table.add_row(verdict.text, told, "", "", "", "")
            continue
        estimate = f"{verdict.estimate:.3f} ({verdict.low:.3f} to {verdict.high:.3f})"
        agree = "" if math.isnan(verdict.agree) else f"{verdict.agree:.0f} of {verdict.models}"
        table.add_row(verdict.text, told, f"{verdict.p_adjusted:.4f}", estimate, verdict.these_models, agree)
    return table


def table_of_families(rows: Sequence[Agreement]) -> Table:
    """Whether the exponents of the damage agree between families."""
    table = new_table(
        "Exponents of the damage between families (p: Welch's t over models, Holm's correction)",
        *("stratum", "exponent", "families", "difference (95 %)", "would not matter", "verdict", "p agree", "p differ"),
    )
    for row in rows:
        difference = f"{row.difference:+.3f} ({row.low:+.3f} to {row.high:+.3f})"
        p_values = (f"{row.p_agree:.4f}", f"{row.p_differ:.4f}")
        told = styled(row.verdict, STYLES[row.verdict])
        families = f"{row.first} - {row.second}"
        table.add_row(row.stratum, row.exponent, families, difference, f"{row.negligible:g}", told, *p_values)
    return table


def table_of_needs(needs: Sequence[Need]) -> Table:
    """What would decide each open claim with 80 % power, if its estimate is right."""
    table = new_table(
        f"What would decide the rest with {POWER:.0%} power, if the estimates are right (each by itself)",
        *("claim", "would be", "power now", "models (now)", "items", "draws"),
    )
    for need in needs:
        models = f"{need.models:.0f} ({need.models_now})" if math.isfinite(need.models) else "out of reach"
        items = "" if math.isnan(need.items) else f"x {need.items:.1f}" if math.isfinite(need.items) else "no number"
        draws = (
            "unknown"
            if math.isnan(need.draws)
            else str(math.ceil(need.draws))
            if math.isfinite(need.draws)
            else "no number"
        )
        table.add_row(need.text, need.direction, f"{need.power:.0%}", models, items, draws)
    return table
