"""Variants beside their originals, on the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich.table import Table

from stratalaw.damage.table import ALL, GENERAL
from stratalaw.report.damage import (
    MOST_SHOWN,
    SIGNIFICANT,
    is_loss,
    overall,
    rows_by_bits,
    strata_of,
    what_was_lost,
)
from stratalaw.terminal.base import PlainConsole, new_table, styled
from stratalaw.units import points, readable_bytes


def show_damage(damage: pd.DataFrame, metrics: Mapping[str, str]) -> None:
    """Print each pair as a table: in general, by stratum and by benchmark; and how to read it."""
    console = PlainConsole()
    for (_, variant, original), rows in damage.groupby(["model", "variant", "original"], sort=False):
        console.print(table_of_damage(rows, str(variant), str(original)))
        if rows.bytes.notna().all() and rows.bytes_original.notna().all():
            own, before = int(rows.bytes.iloc[0]), int(rows.bytes_original.iloc[0])
            console.print(f"Weights: {readable_bytes(own)} of {readable_bytes(before)} ({100 * own / before:.0f} %).\n")
    if metrics:
        console.print("Scores: " + "; ".join(f"{task}: {metric}" for task, metric in metrics.items()) + ".")
    console.print(
        "Accuracy in %, difference in points with its 95 % interval, paired by item. Lost: right, then wrong; gained: "
        "wrong, then right. p: McNemar's exact test, and adjusted by Holm. Seen: the smallest loss found with 80 % "
        "power at p < 0.05."
    )


def show_overview(damage: pd.DataFrame) -> None:
    """Print what was lost: each variant with a verdict, or of many variants their number by bits."""
    header, *rows = rows_by_bits(damage) if len(overall(damage)) > MOST_SHOWN else overview_rows(damage)
    if not rows:
        return
    console = PlainConsole()
    table = new_table("What was lost: change against the original, points, paired by item; * p < 0.05 (Holm)", *header)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(
        "±: half of the 95 % interval; the report has those of the strata. Verdict: in how many strata it loses, or "
        "the smallest loss that would have been found with 80 % power.\n"
    )


def overview_rows(damage: pd.DataFrame) -> list[list[str]]:
    """The variants as rows of text, the header first: memory, change on average over strata and in each, verdict."""
    strata = strata_of(damage)
    rows = [["variant", "memory", *strata, "verdict"]]
    for lost in what_was_lost(damage):
        first = lost.first
        changes = [
            f"{points(row['difference'])}{'*' if row['p_holm'] < SIGNIFICANT else ''}" if row else ""
            for row in map(lost.changes.get, strata)
        ]
        half = max(first["high"] - first["difference"], first["difference"] - first["low"])
        changes[0] += f" ± {100 * half:.1f}"
        memory = "unknown" if pd.isna(first["bytes"]) else readable_bytes(first["bytes"])
        rows.append([f"{lost.model} {lost.variant}", memory, *changes, _short_verdict(lost.means)])
    return rows


def _short_verdict(means: pd.DataFrame) -> str:
    """``report.damage.verdict_of`` in so few words that a variant has one line."""
    strata = means[means.stratum != GENERAL]
    losses = int(is_loss(strata).sum())
    if losses:
        return "loses" if len(strata) == 1 else f"loses in {losses} of {len(strata)}"
    if is_loss(means).any():
        return "loses on average"
    seen = means.iloc[0].detectable_loss
    return "too few items" if pd.isna(seen) else f"no loss over {100 * seen:.1f}"


def table_of_damage(rows: pd.DataFrame, variant: str, original: str) -> Table:
    """One pair; losses and gains that stay significant after the adjustment are coloured."""
    columns = ("benchmark", "items", "before", "after", "difference", "lost", "gained", "p", "adjusted", "seen")
    table = new_table(f"{variant} beside {original}", *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows.to_dict("records"):
        name = row["benchmark"] if row["benchmark"] != ALL else styled(row["stratum"], "bold")
        low, high = 100 * row["low"], 100 * row["high"]
        is_significant = row["p_holm"] < SIGNIFICANT  # not where there is no p
        colour = ("red" if row["difference"] < 0 else "green") if is_significant else ""
        difference = styled(f"{100 * row['difference']:+.1f} ({low:+.1f} to {high:+.1f})", colour)
        accuracies = (f"{100 * row['accuracy_original']:.1f}", f"{100 * row['accuracy']:.1f}")
        counts, p = (str(row["lost"]), str(row["gained"])), map(readable_p, (row["p"], row["p_holm"]))
        seen = "none" if pd.isna(row["detectable_loss"]) else f"{100 * row['detectable_loss']:.1f}"
        table.add_row(name, str(row["n_items"]), *accuracies, difference, *counts, *p, seen)
        if row["stratum"] == GENERAL:
            table.add_section()
    return table


def readable_p(p: float) -> str:
    """A probability as text; none is nothing."""
    return "<1e-99" if p < 1e-99 else f"{p:.2g}"
