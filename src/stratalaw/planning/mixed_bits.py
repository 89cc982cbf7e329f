"""What a variant whose matrices have bits of their own is expected to keep, from uniform variants of its model.

Damages are taken to add up: a matrix at some bits does the part of that uniform variant's damage D that its weights are
of all, where the accuracy adjusted for chance is that of the original times exp(-D). So the expected accuracy is the
geometric mean of those of the uniform variants, weighted by shares of weights. On the ladder, for matrices that are
drawn at random, that is 1.3 points too high on average (``benchmarks/mixed_expected.py``). The rest depends on where
the bits are, which ``stratalaw allocate`` measures.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.models.shapes import Shapes
from stratalaw.study.variants import BASELINE_NAME, Quantization

FORM = "damages by shares of weights"
# Standard deviation of ln D of allocations with the same shares; measured as above.
PLACEMENT = 0.35
SMALLEST = 1e-3  # adjusted accuracy that counts as known to be above chance


def uniform_parts(mixed: Quantization, shapes: Shapes) -> dict[Quantization, float]:
    """The uniform variants that have the bits of a mixed one, calibrated alike, each with its share of the weights."""
    drawn = (mixed.calibration_size, mixed.calibration_seed)
    return {Quantization(one.bits, one.group_size, *drawn): share for one, share in shapes.shares(mixed).items()}


def expected_of_mixed(
    uniform: pd.DataFrame, shares: Mapping[str, float], chances: Mapping[str, float], level: float
) -> pd.DataFrame:
    """The accuracy of a mixed variant in each stratum: stratum, form, accuracy, low, high, outside.

    Args:
        uniform: rows of the original and of the uniform variants that it is made of, as ``prediction.predict`` gives
            them.
        shares: of all quantized weights, by the name of the uniform variant whose bits they have; they add up to 1.
        chances: chance of each stratum.
        level: of the intervals.
    """
    quantile = float(stats.norm.ppf((1 + level) / 2))
    found = []
    for stratum, rows in uniform.groupby("stratum", sort=False):
        chance = chances[str(stratum)]
        rows = rows.set_index("variant")
        adjusted = ((rows[["accuracy", "low", "high"]].astype(float) - chance) / (1 - chance)).clip(SMALLEST, 1)
        original = adjusted.accuracy[BASELINE_NAME]
        parts = list(shares)
        logs = np.log(adjusted.loc[parts].to_numpy())
        middle, least, most = np.exp(np.array([shares[part] for part in parts]) @ logs)
        damage = max(np.log(original / middle), 0.0)
        worse, better = (original * np.exp(-damage * np.exp(sign * quantile * PLACEMENT)) for sign in (1, -1))
        low = middle - np.hypot(middle - least, middle - min(worse, middle))
        high = middle + np.hypot(most - middle, max(better, middle) - middle)
        values = [chance + (1 - chance) * float(np.clip(value, 0, 1)) for value in (middle, low, high)]
        outside = {name for text in rows.outside[parts] for name in text.split(", ") if name}
        found.append([stratum, FORM, *values, ", ".join(sorted(outside))])
    return pd.DataFrame(found, columns=["stratum", "form", "accuracy", "low", "high", "outside"])
