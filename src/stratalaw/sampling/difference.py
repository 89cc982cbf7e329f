"""The paired difference of a benchmark, from the items that were asked so far.

All items are known of the original: whether it answers them right, and by what margin. A regression of the differences
on what is known says how the items that were asked differ from the others (the regression estimator of a finite
population: Cochran, Sampling Techniques, 3rd edition, 1977, chapter 7; of a ridge, since of what an original hardly
ever gets wrong, few are asked). What it leaves is sampled; nothing is made up for items that were not asked, and the
error of leaving them out is part of the standard error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE = 10.0  # items: two or three wrong answers of an original must not say by themselves what becomes of all others
# As if two more items had been asked, one lost and one gained (``damage.paired`` says whose rule it is):
# without them, items that happen to be all the same would end the asking at once.
ADDED = 2
LEAST_GAP = 1e-9  # nats
LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class Difference:
    """The mean difference of a benchmark's items (variant minus original), estimated from some of them.

    Attributes:
        mean: the estimate.
        asked: items that it rests on.
        items: items of the benchmark.
        unexplained: variance of a difference around what is known of its item.
        lasting: variance of the mean over all items: what remains once every item was asked.
    """

    mean: float
    asked: int
    items: int
    unexplained: float
    lasting: float

    @property
    def variance(self) -> float:
        """Of ``mean``: by the items of the benchmark, and by leaving some of them out."""
        return self.lasting + self.left_out

    @property
    def stderr(self) -> float:
        return float(np.sqrt(self.variance))

    @property
    def left_out(self) -> float:
        """The part of ``variance`` that asking all items would take away."""
        if self.asked == self.items:
            return 0.0
        return (1 / self.asked - 1 / self.items) * self.unexplained if self.asked else float("inf")


def estimated_difference(differences: Floats, known: Floats) -> Difference:
    """The mean difference over all items of a benchmark.

    Args:
        differences: of the items' scores, between -1 and 1; not a number where an item was not asked. Shape (items,).
        known: what is known of every item, shape (items, regressors).
    """
    is_asked = np.isfinite(differences)
    asked, items = int(is_asked.sum()), len(differences)
    found = differences[is_asked]
    if asked == items:
        lasting = float(np.var(found, ddof=1) / items) if items > 1 else float("nan")
        return Difference(float(found.mean()), asked, items, lasting * items, lasting)
    if asked < 2:
        return Difference(float("nan"), asked, items, float("inf"), float("inf"))
    lasting = _variance(found - found.mean(), asked - 1) / items
    centre = known[is_asked].mean(0)
    centred = (known - centre) / np.maximum(known[is_asked].std(0), LEAST_SCALE)
    of_asked = centred[is_asked]
    inverse = np.linalg.inv(of_asked.T @ of_asked + RIDGE * np.eye(known.shape[1]))
    weights = inverse @ of_asked.T @ found
    leverage = 1 / asked + np.einsum("ir,rs,is->i", of_asked, inverse, of_asked)
    left_out = (found - found.mean() - of_asked @ weights) / (1 - leverage)  # each item left out in turn
    mean = float(found.mean() + (centred @ weights).mean())
    return Difference(mean, asked, items, _variance(left_out, asked), lasting)


def differences_of(original: pd.DataFrame, variant: pd.DataFrame) -> dict[str, Difference]:
    """The difference of each benchmark, by task.

    Args:
        original: its items: task, document, score, and if it is known gap (see ``planning.forecasts.gaps``).
        variant: the items that it was asked: task, document, score.

    Raises:
        ValueError: the variant was asked an item that the original was not.
    """
    place = ["task", "document"]
    beside = original.merge(variant[[*place, "score"]], on=place, how="left", suffixes=("", "_variant"), sort=False)
    if beside.score_variant.notna().sum() != len(variant):
        raise ValueError("not the same items as the original's")
    return {
        str(task): estimated_difference((rows.score_variant - rows.score).to_numpy(float), known_of(rows))
        for task, rows in beside.groupby("task", sort=False, observed=True)
    }


def known_of(original: pd.DataFrame) -> Floats:
    """What is known of the items of a benchmark, shape (items, 3): the original's score, the margin by which it answers
    (the logarithm of ``gap`` in units of its median; 0 where there is none), and their product."""
    score = original.score.to_numpy(float)
    gap = original.gap.to_numpy(float) if "gap" in original else np.full(len(score), np.nan)
    is_told = np.isfinite(gap)
    unit = max(float(np.median(gap[is_told])), LEAST_GAP) if is_told.any() else 1.0
    margin = np.log1p(np.where(is_told, gap, 0.0) / unit)
    return np.column_stack([score, margin, score * margin])


def _variance(deviations: Floats, degrees: int) -> float:
    return float(((deviations**2).sum() + ADDED) / (degrees + ADDED))
