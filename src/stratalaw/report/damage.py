"""What quantization costs, in a sentence and a table: what most readers of a report look for first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stratalaw.damage.table import ALL, GENERAL
from stratalaw.report.matching import is_of_grids
from stratalaw.study.variants import Quantization, is_mixed, is_quantized_here
from stratalaw.units import points, readable_bytes

SIGNIFICANT = 0.05
MOST_SHOWN = 48  # variants that are shown one by one on the landing page and the terminal
HOW_TO_READ = (
    "Change against the original in points of accuracy, paired by item, with its 95 % interval; bold: p < 0.05 by "
    "McNemar's exact test after Holm's adjustment for all variants. The verdict goes by that test; where it found no "
    "loss, it says how large one would have been found with 80 % power. Memory: of the weights, and its share of the "
    "original's."
)


def overall(damage: pd.DataFrame) -> pd.DataFrame:
    """One row for each variant: in general, or in the only stratum."""
    return damage.groupby(["model", "variant"], sort=False).head(1)


def strata_of(damage: pd.DataFrame) -> list[str]:
    """The strata of the means in their order, the one in general first."""
    return list(dict.fromkeys(damage[damage.benchmark == ALL].stratum))


def is_loss(rows: pd.DataFrame) -> pd.Series:
    """Which rows lose more than the noise of the items."""
    return (rows.p_holm < SIGNIFICANT) & (rows.difference < 0)


def verdict_of(means: pd.DataFrame) -> str:
    """What the rows of one variant (its means over benchmarks) say, in words.

    A loss or gain is named where it is significant; silence about the others is no claim that they are unharmed, so
    where nothing was found the words say how large a loss would have been.
    """
    strata = means[means.stratum != GENERAL]
    is_gain = (means.p_holm < SIGNIFICANT) & (means.difference > 0)
    found = (("loses", is_loss(means)), ("gains", is_gain))
    parts = [f"{verb} {_where(means[chosen], strata)}" for verb, chosen in found if chosen.any()]
    if parts:
        return "; ".join(parts)
    power = means.iloc[0].detectable_loss
    if pd.isna(power):
        return "too few items to find a loss"
    return f"no loss found; one of {100 * power:.1f} points would have been"


def _where(chosen: pd.DataFrame, strata: pd.DataFrame) -> str:
    named = [stratum for stratum in chosen.stratum if stratum != GENERAL]
    if len(strata) == 1:
        return f"{abs(100 * chosen.difference.iloc[0]):.1f} points"
    if len(named) == len(strata):
        return "in every stratum"
    return f"in {' and '.join(named)}" if named else "on average over strata"


@dataclass(frozen=True)
class Lost:
    """What a variant lost: a row of every table that begins a page.

    Attributes:
        model, variant: their names.
        changes: rows of the damage table by stratum, the one in general first.
        verdict: in words.
        means: the same rows as a table.
    """

    model: str
    variant: str
    changes: Mapping[str, Mapping[str, Any]]
    verdict: str
    means: pd.DataFrame

    @property
    def first(self) -> Mapping[str, Any]:
        """The row in general, or of the only stratum."""
        return next(iter(self.changes.values()))


def what_was_lost(damage: pd.DataFrame) -> list[Lost]:
    """What each variant lost, in the order of the damage table."""
    means = damage[damage.benchmark == ALL]
    return [
        Lost(
            str(own.model.iloc[0]),
            str(own.variant.iloc[0]),
            {str(row["stratum"]): {str(name): value for name, value in row.items()} for row in own.to_dict("records")},
            verdict_of(own),
            own,
        )
        for _, own in means.groupby(["model", "variant"], sort=False)
    ]


def damage_sentence(damage: pd.DataFrame) -> str:
    """How many variants lose accuracy, by bits, and how small a loss would have been seen; empty without variants."""
    rows = overall(damage)
    if rows.empty:
        return ""
    parts = [f"{own.loses.sum()} of {len(own)} at {bits} bits" for bits, own in _by_bits(rows)]
    mixed, here = rows.variant.map(is_mixed), rows.variant.map(is_quantized_here)
    of_mixtures = here & ~mixed & ~rows.variant.map(is_of_grids)
    others = {
        "of mixed bits": _marked(rows[mixed]),
        "calibrated on mixtures": _marked(rows[of_mixtures]),
        "checkpoints that existed": _marked(rows[~here]),
    }
    parts += [f"{own.loses.sum()} of {len(own)} {what}" for what, own in others.items() if len(own)]
    seen = 100 * rows.detectable_loss.dropna()
    power = ""
    if len(seen):
        span = (
            f"{seen.min():.1f}"
            if round(seen.min(), 1) == round(seen.max(), 1)
            else f"{seen.min():.1f} to {seen.max():.1f}"
        )
        power = f"; the smallest loss that would have been seen is {span} points"
    return f"Variants that lose more than the noise of the items (p < 0.05, Holm): {', '.join(parts)}{power}."


def _by_bits(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """One row for each variant of the grids, by bits from many to few; with a column ``loses``: more than
    the noise of the items."""
    rows = rows[rows.variant.map(is_of_grids)]
    bits = rows.variant.map(lambda name: Quantization.from_name(name).bits)
    return [(int(width), _marked(rows)[bits == width]) for width in sorted(bits.unique(), reverse=True)]


def _marked(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(loses=is_loss(rows))


def rows_by_bits(damage: pd.DataFrame) -> list[list[str]]:
    """All variants by bits, as rows of text, the header first: for studies of many."""
    rows = [["bits", "variants", "that lose", "change, mean", "least", "most", "flips of 1,000 items"]]
    for bits, own in _by_bits(overall(damage)):
        flips = 1000 * (own.lost + own.gained).sum() / own.n_items.sum()
        losses = [own.difference.mean(), own.difference.max(), own.difference.min()]
        differences = [points(loss) for loss in losses]
        rows.append([str(bits), str(len(own)), str(own.loses.sum()), *differences, f"{flips:.0f}"])
    return rows


def damage_rows(damage: pd.DataFrame) -> list[list[str]]:
    """The variants beside their originals as rows of text, the header first; reStructuredText in the cells."""
    strata = strata_of(damage)
    rows = [["variant", "memory", *strata, "verdict"]]
    for lost in what_was_lost(damage):
        cells = [_difference(lost.changes[name]) if name in lost.changes else "" for name in strata]
        rows.append([f"{lost.model} {lost.variant}", memory_of(lost.first), *cells, lost.verdict])
    return rows


def _difference(row: Mapping[str, Any]) -> str:
    """A difference with its interval, in points."""
    text = f"{points(row['difference'])} ({points(row['low'])} to {points(row['high'])})"
    return f"**{text}**" if row["p_holm"] < SIGNIFICANT else text


def memory_of(row: Mapping[str, Any]) -> str:
    """Bytes of the weights, and their share of the original's, in words."""
    if pd.isna(row["bytes"]) or pd.isna(row["bytes_original"]):
        return "unknown"
    return f"{readable_bytes(row['bytes'])} ({100 * row['bytes'] / row['bytes_original']:.0f} %)"
