"""How much of what is seen is the luck of the draw: variants that differ in nothing but the calibration seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stratalaw.laws.rows import stratum_accuracies
from stratalaw.study.variants import BASELINE_BITS

SAME = ["stratum", "model", "bits", "group_size", "calibration_size"]


def draw_spread(observations: pd.DataFrame) -> pd.DataFrame:
    """Spread of the adjusted accuracy between draws of the calibration set, on the same items.

    Columns: stratum, bits, calibration_size, configurations (that were drawn more than once), draws (of all of them),
    spread (standard deviation within configurations, pooled), largest (difference of two draws). Empty where nothing
    was drawn twice.
    """
    accuracies = stratum_accuracies(observations)
    quantized = accuracies[accuracies.bits < BASELINE_BITS]
    grouped = quantized.groupby(SAME, sort=False).accuracy_adjusted
    within = grouped.agg(draws="size", variance="var", largest=np.ptp).reset_index()
    within = within[within.draws > 1]
    within["freedom"] = within.draws - 1
    within["squares"] = within.variance * within.freedom
    pooled = within.groupby(["stratum", "bits", "calibration_size"], sort=False).agg(
        configurations=("draws", "size"),
        draws=("draws", "sum"),
        squares=("squares", "sum"),
        freedom=("freedom", "sum"),
        largest=("largest", "max"),
    )
    spread = np.sqrt(pooled.squares / pooled.freedom)
    return pooled.assign(spread=spread).reset_index().drop(columns=["squares", "freedom"])
