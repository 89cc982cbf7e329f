"""How much of what is seen is the luck of the draw: variants that differ in nothing but the calibration seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stratalaw.laws.rows import stratum_accuracies, with_baselines
from stratalaw.study.variants import BASELINE_BITS

SAME = ["stratum", "model", "bits", "group_size", "calibration_size"]
CELL = [*SAME, "family", "held_out", "n_params", "method"]


def draw_spread(observations: pd.DataFrame) -> pd.DataFrame:
    """Spread of the adjusted accuracy between draws of the calibration set, on the same items.

    Columns: stratum, bits, calibration_size, configurations (that were drawn more than once), draws (of all of them),
    spread (standard deviation within configurations, pooled), largest (difference of two draws). Empty where nothing
    was drawn twice.
    """
    accuracies = stratum_accuracies(observations)
    quantized = accuracies[accuracies.bits < BASELINE_BITS]
    grouped = quantized.groupby([*SAME, "method"], sort=False).accuracy_adjusted
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


def mean_over_draws(accuracies: pd.DataFrame) -> tuple[pd.DataFrame, dict[tuple[str, str], str]]:
    """One row for each setting of a model in each stratum: the mean over the draws of its calibration set.

    Args:
        accuracies: as ``rows.stratum_accuracies`` gives them.

    Returns:
        The rows, in the order in which their settings appear and named after the variant that was drawn first, and
        that name for each model and variant. Standard errors are of the mean of draws with independent item noise,
        which is how rows are resampled.
    """
    # The strata share variants: the first of a setting is the same in all of them.
    about = accuracies.drop_duplicates(["model", "variant", "method"])
    first = about.groupby([name for name in CELL if name != "stratum"], sort=False, dropna=False).variant
    names = dict(zip(zip(about.model, about.variant, strict=True), first.transform("first"), strict=True))
    grouped = accuracies.assign(variance=accuracies.stderr_adjusted**2).groupby(CELL, sort=False, dropna=False)
    means = grouped.agg(
        variant=("variant", "first"),
        calibration_seed=("calibration_seed", "first"),
        effective_bits=("effective_bits", "mean"),
        accuracy_adjusted=("accuracy_adjusted", "mean"),
        chance=("chance", "mean"),
        known=("variance", "count"),
        variance=("variance", "sum"),
        draws=("variant", "size"),
    ).reset_index()
    means["variant"] = [names[key] for key in zip(means.model, means.variant, strict=True)]
    stderr = np.sqrt(means.variance) / means.draws
    means["stderr_adjusted"] = stderr.where(means.known == means.draws)
    kept = [name for name in accuracies.columns if name in means]
    return with_baselines(means[kept]), names
