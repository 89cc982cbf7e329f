"""Sensitivities and an allocation on the terminal: one line for each group of matrices, and what speaks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

import pandas as pd

from stratalaw.jobs.allocation import BY_LOSS, BY_LOSS_TRADED, CHOSEN, Allocated
from stratalaw.sensitivities.measuring import MEASURED
from stratalaw.terminal.base import PlainConsole, new_table, styled
from stratalaw.units import readable_bytes


def show_sensitivities(table: pd.DataFrame, title: str) -> None:
    """Print what each group changes in each stratum with another variant's bits, with its standard error, and how the
    kinds agree."""
    strata = list(table.stratum.unique())
    console = PlainConsole()
    measured, estimated = table[table.kind == MEASURED], table[table.kind != MEASURED]
    start = shared_start(measured.group)
    shown = new_table(title, f"{start}…", "takes more", *(f"{stratum}, nats" for stratum in strata))
    for group, rows in measured.groupby("group", sort=False):
        cells = {row["stratum"]: f"{row['gain']:+.3f} ± {row['stderr']:.3f}" for row in rows.to_dict("records")}
        name, more = str(group).removeprefix(start), _more(rows.bytes.iloc[0])
        shown.add_row(name, more, *(cells[stratum] for stratum in strata))
    console.print(shown)
    both = measured.merge(estimated, on=["group", "stratum"])
    for stratum, rows in both.groupby("stratum", sort=False):
        agreement = rows.gain_x.corr(rows.gain_y, method="spearman")
        console.print(f"{stratum}: rank correlation with first-order estimates {agreement:.2f}.", highlight=False)


def shared_start(names: Iterable[str]) -> str:
    """The parts with which all of some dotted names start, and the dot after them."""
    parts = zip(*(name.split(".")[:-1] for name in names), strict=False)
    return "".join(f"{found[0]}." for found in takewhile(lambda found: len(set(found)) == 1, parts))


def show_allocation(allocated: Allocated, weights: Mapping[str, float], title: str) -> None:
    """Print the bits of each group with the reason, what was measured of the whole, and the trade-off."""
    console, base = PlainConsole(), allocated.base
    kept = ", ".join(weights)
    start = shared_start(allocated.options.group)
    others = list(allocated.options.variant.unique())
    by_loss = allocated.is_simple and allocated.uniform is None
    reason = "GPTQ's loss less" if by_loss else f"nats of {kept}"
    headings = (heading for other in others for heading in ("takes more", f"{_precision(other)}, {reason}"))
    table = new_table(title, f"{start}…", "bits", *headings)
    for group, rows in allocated.options.groupby("group", sort=False):
        chosen = next(iter(rows.variant[rows.is_chosen]), base.name)
        bits = styled(_precision(chosen), "" if chosen == base.name else "bold")
        cells = []
        for row in rows.to_dict("records"):
            gain = f"{row['loss']:+.3g}" if by_loss else f"{row['gain']:+.3f} ± {row['stderr']:.3f}"
            cells += [_more(row["bytes"]), gain]
        table.add_row(str(group).removeprefix(start), bits, *cells)
    console.print(table)
    console.print(
        f"Weights {readable_bytes(allocated.bytes)}; from {base.name} to {' and '.join(others)}.", highlight=False
    )
    strata = list(allocated.judged.stratum.unique())
    table = new_table("On items that had no part in the choice", "candidate", *strata)
    for candidate, rows in allocated.judged.groupby("candidate", sort=False):
        cells = []
        for row in rows.to_dict("records"):
            more = f" ({100 * row['more']:+.1f} ± {100 * row['stderr']:.1f})" if candidate == CHOSEN else ""
            cells.append(f"{row['accuracy']:.3f}{more}")
        table.add_row(str(candidate), *cells)
    console.print(table)
    if allocated.are_written:
        console.print(
            "Of items that are answered by writing, those that the original answers right; they count where the same "
            "is written.",
            highlight=False,
        )
    console.print(
        f"In brackets: points more than with bits {_of_rule(allocated)}, which knows of no stratum, paired by item, "
        "with the standard error.",
        highlight=False,
    )
    if not allocated.rule_meets_floors:
        console.print("No simple rule meets the floors.", highlight=False)
    if allocated.unmeasured is not None:
        console.print(
            f"{allocated.unmeasured} takes no more and was not measured: measure from it as --base, or compare this "
            "allocation with it.",
            highlight=False,
        )
    if allocated.is_simple:
        console.print(
            f"Bits are {_of_rule(allocated)}: nothing that was measured keeps more of {kept} beyond doubt.",
            highlight=False,
        )
    elif allocated.recommends_rule:
        console.print(
            f"On these items it is not shown to keep more of {kept} than bits {_of_rule(allocated)}: take the simple "
            "rule.",
            highlight=False,
        )
    columns = [str(name) for name in allocated.trade_off if name != "weight"]
    table = new_table("Expected shares, from the smallest to the largest variant", f"weight of {kept}", *columns)
    for point in allocated.trade_off.to_dict("records"):
        shares = ("unsure" if pd.isna(point[stratum]) else f"{point[stratum]:.0%}" for stratum in columns)
        table.add_row(f"{point['weight']:.2f}", *shares)
    console.print(table)
    if allocated.trade_off.isna().any(axis=None):
        console.print("Unsure: all groups together add nothing to the stratum that can be told from nothing.")


def _of_rule(allocated: Allocated) -> str:
    """The simple rule, as bits have it."""
    return allocated.rule if allocated.rule in (BY_LOSS, BY_LOSS_TRADED) else f"of {allocated.rule}"


def _precision(variant: str) -> str:
    """The part of a variant's name that says bits and group size."""
    return variant.partition("-c")[0]


def _more(count: int) -> str:
    return f"{'-' if count < 0 else ''}{readable_bytes(abs(count))}"
