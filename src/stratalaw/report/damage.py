"""What quantization costs, in a sentence and a table: what most readers of a report look for first."""

from __future__ import annotations

import pandas as pd

from stratalaw.damage.table import ALL
from stratalaw.study.variants import NAME_PATTERN, Quantization
from stratalaw.units import readable_bytes

SIGNIFICANT = 0.05
MOST_SHOWN = 12  # variants in the table of the landing page
HOW_TO_READ = (
    "Difference to the original in points of accuracy, paired by item, with its 95 % interval; bold: p < 0.05 by "
    "McNemar's exact test after Holm's adjustment. Lost: items right before and wrong after; gained: the other way "
    "around. Seen: the smallest loss (points) that would have been found with 80 % power."
)


def overall(damage: pd.DataFrame) -> pd.DataFrame:
    """One row for each variant: in general, or in the only stratum."""
    return damage.groupby(["model", "variant"], sort=False).head(1)


def damage_sentence(damage: pd.DataFrame) -> str:
    """How many variants lose accuracy, by bits, and how small a loss would have been seen; empty without variants."""
    rows = overall(damage)
    if rows.empty:
        return ""
    parts = [f"{own.loses.sum()} of {len(own)} at {bits} bits" for bits, own in _by_bits(rows)]
    existing = _marked(rows[~rows.variant.map(is_made_here)])
    parts += [f"{existing.loses.sum()} of {len(existing)} checkpoints that existed"] if len(existing) else []
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
    """One row for each variant that was quantized here, by bits from many to few; with a column ``loses``: more than
    the noise of the items."""
    rows = rows[rows.variant.map(is_made_here)]
    bits = rows.variant.map(lambda name: Quantization.from_name(name).bits)
    return [(int(width), _marked(rows)[bits == width]) for width in sorted(bits.unique(), reverse=True)]


def _marked(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(loses=(rows.p_holm < SIGNIFICANT) & (rows.difference < 0))


def rows_by_bits(damage: pd.DataFrame) -> list[list[str]]:
    """All variants by bits, as rows of text, the header first: for studies of many."""
    rows = [["bits", "variants", "that lose", "difference, mean", "least", "most", "flips of 1,000 items"]]
    for bits, own in _by_bits(overall(damage)):
        flips = 1000 * (own.lost + own.gained).sum() / own.n_items.sum()
        losses = [own.difference.mean(), own.difference.max(), own.difference.min()]
        differences = [f"{100 * loss:+.1f}" for loss in losses]
        rows.append([str(bits), str(len(own)), str(own.loses.sum()), *differences, f"{flips:.0f}"])
    return rows


def damage_rows(damage: pd.DataFrame) -> list[list[str]]:
    """The variants beside their originals as rows of text, the header first; reStructuredText in the cells."""
    means = damage[damage.benchmark == ALL]
    strata = list(dict.fromkeys(means.stratum))
    rows = [["variant", *strata, "lost", "gained", "seen", "memory"]]
    for (model, variant), own in means.groupby(["model", "variant"], sort=False):
        of_stratum, first = own.set_index("stratum"), own.iloc[0]
        seen = "none" if pd.isna(first.detectable_loss) else f"{100 * first.detectable_loss:.1f}"
        counts = [str(first.lost), str(first.gained)]
        cells = [_difference(of_stratum.loc[stratum]) if stratum in of_stratum.index else "" for stratum in strata]
        rows.append([f"{model} {variant}", *cells, *counts, seen, _memory(first)])
    return rows


def _difference(row: pd.Series) -> str:
    text = f"{100 * row.difference:+.1f} ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
    return f"**{text}**" if row.p_holm < SIGNIFICANT else text


def _memory(row: pd.Series) -> str:
    if pd.isna(row.bytes) or pd.isna(row.bytes_original):
        return "unknown"
    return f"{readable_bytes(row.bytes)} of {readable_bytes(row.bytes_original)}"
