"""Observations that follow a known law, to see whether fits find it again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.forms import Form
from stratalaw.laws.rows import rows_of
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME

PAPER_SIZES = (0.6e9, 1.7e9, 4e9, 8e9, 14e9)
SCALE_BITS = 16  # a scale of 16 bits and a zero point of the weights' bits for each group


def grid(
    sizes: Sequence[float] = PAPER_SIZES,
    bits: Sequence[int] = (3, 4),
    group_sizes: Sequence[int] = (32, 64, 128, 1024),
    calibration_sizes: Sequence[int] = (8, 32, 128, 1024),
) -> pd.DataFrame:
    """All combinations, one row each, with the columns that describe a variant."""
    columns = ["n_params", "bits", "group_size", "calibration_size"]
    return _described(pd.DataFrame(list(product(sizes, bits, group_sizes, calibration_sizes)), columns=columns))


def paper_grid() -> pd.DataFrame:
    """The paper's 165 fitted points: five sizes, 3 and 4 bits in full, one configuration at 8 bits."""
    return pd.concat([grid(), grid(bits=(8,), group_sizes=(128,), calibration_sizes=(128,))], ignore_index=True)


def _described(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(
        model=table.n_params.map("{:.3g}".format),
        family="simulated",
        method="GPTQ",
        held_out=False,
        calibration_seed=0,
        effective_bits=table.bits + (SCALE_BITS + table.bits) / table.group_size,
        variant=[
            f"w{b}-g{g}-c{c}-s0" for b, g, c in zip(table.bits, table.group_size, table.calibration_size, strict=True)
        ],
    )


def expected_accuracy(form: Form, values: dict[str, float], variants: pd.DataFrame) -> NDArray[np.float64]:
    """Adjusted accuracy of each variant; ``values``: the form's parameters by name."""
    fitted = form.to_fitted([values[parameter.name] for parameter in form.parameters])
    return form.accuracy(fitted, rows_of(variants).factors)


def simulate(
    form: Form,
    values: dict[str, float],
    variants: pd.DataFrame,
    seed: int,
    n_items: int = 1000,
    chance: float = 0.25,
    stratum: str = "reasoning",
) -> pd.DataFrame:
    """An observations table: every variant answers ``n_items`` items, each rightly with the law's probability.

    Where the variants have a baseline_loss (-ln of the adjusted accuracy of their model's original), the original of
    each model answers the same number of items.
    """
    expected = expected_accuracy(form, values, variants)
    if "baseline_loss" in variants:
        originals = variants.drop_duplicates("model").assign(
            bits=BASELINE_BITS, effective_bits=BASELINE_BITS, variant=BASELINE_NAME
        )
        originals[["group_size", "calibration_size", "calibration_seed"]] = np.nan
        variants = pd.concat([variants, originals], ignore_index=True)
        expected = np.concatenate([expected, np.exp(-originals.baseline_loss)])
        variants = variants.drop(columns="baseline_loss")
    probability = chance + (1 - chance) * expected
    accuracy = np.random.default_rng(seed).binomial(n_items, probability) / n_items
    return variants.assign(
        stratum=stratum, benchmark=f"{stratum}-items", accuracy=accuracy, chance=chance, n_items=n_items
    )
