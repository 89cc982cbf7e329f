"""Rows that may be compared: variants that differ in one factor and in nothing else.

A mean over all variants of a width compares models and settings too wherever a study is not balanced: the largest model
may lack 8 bits, or one model the small groups.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME, NAME_PATTERN, Quantization

SETTINGS = ("model", "bits", "group_size", "calibration_size", "calibration_seed")


def is_of_grids(variant: str) -> bool:
    """Whether a variant is one of a grid, by its name: the others have mixed bits, are calibrated on a mixture of
    corpora, or existed."""
    return NAME_PATTERN.fullmatch(variant) is not None


def with_settings(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the originals and of the variants of the grids, with what the names of the variants say: the columns
    of ``SETTINGS``.

    Args:
        table: with a column ``variant``.
    """
    table = table[(table.variant == BASELINE_NAME) | table.variant.map(is_of_grids)]
    names = {name: Quantization.from_name(name) for name in table.variant.unique() if name != BASELINE_NAME}
    settings: dict[str, pd.Series] = {
        column: table.variant.map({name: getattr(one, column) for name, one in names.items()})
        for column in SETTINGS
        if column != "model"
    }
    settings["bits"] = settings["bits"].fillna(BASELINE_BITS).astype(int)
    return table.assign(**settings)


def matched(table: pd.DataFrame, factor: str, levels: Sequence[float]) -> pd.DataFrame:
    """The rows at some levels of a factor, of those models and settings that have all of the levels.

    Args:
        table: with the columns of ``SETTINGS``.
        factor: one of them.
        levels: of it.
    """
    rows = table[table[factor].isin(levels)]
    cell = [column for column in SETTINGS if column != factor]
    return rows[rows.groupby(cell)[factor].transform("nunique") == len(set(levels))]
