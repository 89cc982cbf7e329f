"""What quantization costs, in a sentence and a table: what most readers of a report look for first."""

from __future__ import annotations

import pandas as pd

from stratalaw.damage.table import ALL, GENERAL
from stratalaw.study.variants import NAME_PATTERN, Quantization
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


def verdicts_of(damage: pd.DataFrame) -> pd.Series:
    """The verdict of each variant, by model and variant."""
    means = damage[damage.benchmark == ALL]
    keys, texts = [], []
    for key, own in means.groupby(["model", "variant"], sort=False):
        keys.append(key)
        texts.append(verdict_of(own))
    return pd.Series(texts, index=pd.MultiIndex.from_tuples(keys, names=["model", "variant"]), dtype=object)


def damage_sentence(damage: pd.DataFrame) -> str:
    """How many variants lose accuracy, by bits, and how small a loss would have been seen; empty without variants."""
    rows = overall(damage)
    if rows.empty:
        return ""
    parts = [f"{own.loses.sum()} of {len(own)} at {bits} bits" for bits, own in _by_bits(rows)]
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


def is_made_here(variant: str) -> bool:
    """Whether a variant was quantized here, by its name: the others existed."""
    return NAME_PATTERN.fullmatch(variant) is not None


def _by_bits(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    """One row for each variant, by bits from many to few; with a column ``loses``: more than the noise of the items."""
    rows = rows[rows.variant.map(is_made_here)]
    bits = rows.variant.map(lambda name: Quantization.from_name(name).bits)
    marked = rows.assign(loses=is_loss(rows))
    return [(int(width), marked[bits == width]) for width in sorted(bits.unique(), reverse=True)]


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
    means, strata, verdicts = damage[damage.benchmark == ALL], strata_of(damage), verdicts_of(damage)
    rows = [["variant", "memory", *strata, "verdict"]]
    for (model, variant), own in means.groupby(["model", "variant"], sort=False):
        of_stratum = own.set_index("stratum")
        cells = [_difference(of_stratum.loc[stratum]) if stratum in of_stratum.index else "" for stratum in strata]
        rows.append([f"{model} {variant}", memory_of(own.iloc[0]), *cells, str(verdicts[model, variant])])
    return rows


def change_of(row: pd.Series) -> str:
    """A difference with its interval, in points."""
    return f"{points(row.difference)} ({points(row.low)} to {points(row.high)})"


def _difference(row: pd.Series) -> str:
    return f"**{change_of(row)}**" if row.p_holm < SIGNIFICANT else change_of(row)


def memory_of(row: pd.Series) -> str:
    """Bytes of the weights, and their share of the original's, in words."""
    if pd.isna(row.bytes) or pd.isna(row.bytes_original):
        return "unknown"
    return f"{readable_bytes(row.bytes)} ({100 * row.bytes / row.bytes_original:.0f} %)"
