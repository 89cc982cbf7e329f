"""Sensitivities and an allocation on the terminal: one line for each group of matrices, and what speaks for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

import pandas as pd

from stratalaw.jobs.allocation import CHOSEN, Allocated
from stratalaw.sensitivities.measuring import MEASURED
from stratalaw.terminal.base import PlainConsole, new_table, styled
from stratalaw.units import readable_bytes


def show_sensitivities(table: pd.DataFrame, title: str) -> None:
    """Print what each group adds to each stratum, with its standard error, and how the kinds agree."""
    strata = list(table.stratum.unique())
    console = PlainConsole()
    measured, estimated = table[table.kind == MEASURED], table[table.kind != MEASURED]
    start = shared_start(measured.group)
    shown = new_table(title, f"{start}…", "takes more", *(f"{stratum}, nats" for stratum in strata))
    for group, rows in measured.groupby("group", sort=False):
        cells = {row["stratum"]: f"{row['gain']:+.3f} ± {row['stderr']:.3f}" for row in rows.to_dict("records")}
        name, more = str(group).removeprefix(start), readable_bytes(rows.bytes.iloc[0])
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
    console, low, high = PlainConsole(), allocated.low, allocated.high
    kept = ", ".join(weights)
    start = shared_start(allocated.groups.group)
    table = new_table(title, f"{start}…", "bits", "takes more", f"gain in {kept}, nats", "rank by byte")
    groups = allocated.groups
    ranks = (groups.gain / groups.bytes).rank(method="first", ascending=False).astype(int)
    for rank, row in zip(ranks, groups.to_dict("records"), strict=True):
        bits = styled(str(row["bits"]), "bold" if row["bits"] == high.bits else "")
        gain = f"{row['gain']:+.3f} ± {row['stderr']:.3f}"
        table.add_row(
            row["group"].removeprefix(start), bits, readable_bytes(row["bytes"]), gain, f"{rank} of {len(groups)}"
        )
    console.print(table)
    console.print(f"Weights {readable_bytes(allocated.bytes)}, between {low.name} and {high.name}.", highlight=False)
    columns = list(allocated.judged.stratum.unique())
    table = new_table("On items that had no part in the choice", "candidate", *columns)
    for candidate, rows in allocated.judged.groupby("candidate", sort=False):
        cells = []
        for row in rows.to_dict("records"):
            more = f" ({100 * row['more']:+.1f} ± {100 * row['stderr']:.1f})" if candidate == CHOSEN else ""
            cells.append(f"{row['accuracy']:.3f}{more}")
        table.add_row(str(candidate), *cells)
    console.print(table)
    console.print("In brackets: points more than by GPTQ's loss, paired by item, with the standard error.")
    if allocated.uniform is not None:
        console.print(
            f"{allocated.uniform} takes no more, and no weight of it has as few bits as {low.bits}: measure between it "
            "and a larger or a smaller variant instead, or compare this allocation with it.",
            highlight=False,
        )
    if allocated.is_simple:
        console.print(
            "Bits are placed by GPTQ's loss, which knows of no stratum: nothing that was measured keeps more of "
            f"{kept} beyond doubt."
        )
    elif not allocated.is_better:
        console.print(
            f"It is not shown to keep more of {kept} than bits by GPTQ's loss, which know of no stratum: the simple "
            "rule does as well here."
        )
    table = new_table("Expected shares of what the larger variant adds", f"weight of {kept}", *columns)
    for point in allocated.trade_off.to_dict("records"):
        shares = ("unsure" if pd.isna(point[stratum]) else f"{point[stratum]:.0%}" for stratum in columns)
        table.add_row(f"{point['weight']:.2f}", *shares)
    console.print(table)
    if allocated.trade_off.isna().any(axis=None):
        console.print("Unsure: all groups together add nothing to the stratum that can be told from nothing.")
