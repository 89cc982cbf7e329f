"""Two variants on the same items: how far apart they are, how sure that is, and what could have been seen.

All of it rests on the differences of the items' scores (variant minus original). Right and wrong answers make
differences of -1, 0 and 1; other scores (a share of words, say) any number.

- Interval, right and wrong: Wald's with two items added, one that is lost and one that is gained (Bonett and Price,
  Journal of Educational and Behavioral Statistics 37, 2012; recommended for paired proportions by Fagerland, Lydersen
  and Laake, Statistics in Medicine 33, 2014). Computed exactly for 10 to 1,000 items and flips of 0.2 to 10 %
  (benchmarks/paired_intervals.py), it covers 94.9 % at worst, Wald's own 7 %, and Tango's score interval 93.6 %, though
  it is wider.
- Interval, other scores: Student's t on the differences.
- Test: each difference is as likely to have the other sign if quantization does nothing (Fisher's randomization test,
  all signs). For right and wrong answers that is McNemar's exact test.
- Means over benchmarks: intervals are combined by squares and added (Zou and Donner, Statistics in Medicine 27, 2008),
  and the test takes all items, each with its weight in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL, POWER = 0.05, 0.8
FINEST = 60  # parts of the smallest difference that others are counted in
LATTICE = 2**14  # steps that all differences together take where no such part fits them
QUANTILE = float(stats.norm.ppf(1 - LEVEL / 2))
STANDARD_DEVIATIONS = 9  # of the number of flips, beyond which its probability does not count

Floats = NDArray[np.float64]


def is_binary(differences: Floats) -> bool:
    """Whether items are only lost, gained or the same."""
    return bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())


def paired_interval(differences: Floats) -> tuple[float, float]:
    """The 95 % interval of the mean difference; ``differences``: shape (items,).

    For a single item whose score is neither right nor wrong it is not a number.
    """
    n = len(differences)
    if is_binary(differences):
        lost, gained = (np.count_nonzero(differences == flip) + 1 for flip in (-1, 1))
        mean = (gained - lost) / (n + 2)
        half = QUANTILE * np.sqrt(((gained + lost) / (n + 2) - mean**2) / (n + 2))
        return max(float(mean - half), -1.0), min(float(mean + half), 1.0)
    mean, half = differences.mean(), stats.t.ppf(1 - LEVEL / 2, n - 1) * standard_error(differences)
    return float(mean - half), float(mean + half)


def standard_error(differences: Floats) -> float:
    """Of the mean of independent differences; not a number for a single one."""
    return float(np.std(differences, ddof=1) / np.sqrt(len(differences))) if len(differences) > 1 else float("nan")


def combined_interval(
    means: Sequence[float], intervals: Sequence[tuple[float, float]], weights: Sequence[float]
) -> tuple[float, float]:
    """The interval of a weighted sum of independent means, each with its own; that of the mean itself for one."""
    mean, (low, high), weight = np.asarray(means), np.transpose(intervals), np.asarray(weights)
    centre = weight @ mean
    return (
        float(centre - np.sqrt(((weight * (mean - low)) ** 2).sum())),
        float(centre + np.sqrt(((weight * (high - mean)) ** 2).sum())),
    )


def sign_flip_p(differences: Floats) -> float:
    """The probability of a sum at least as far from zero when each difference has either sign as likely (two-sided).

    ``differences``: shape (items,), with their weights if they are weighted. With right and wrong answers of one weight
    this is McNemar's exact test, and exact for all sizes with a common part; others are first rounded to a lattice.
    """
    differences = differences[differences != 0]
    if len(differences) == 0:
        return 1.0
    steps = np.rint(np.abs(differences) / _unit(np.abs(differences))).astype(int)
    if np.ptp(steps) == 0:
        rarer = min(np.count_nonzero(differences > 0), np.count_nonzero(differences < 0))
        return min(2 * float(stats.binom.cdf(rarer, len(steps), 0.5)), 1.0)
    probability = np.ones(1)  # of the sum of the positive steps
    for step, count in zip(*np.unique(steps[steps > 0], return_counts=True), strict=True):
        longer = np.zeros(len(probability) + step * count)
        for positive, chance in enumerate(_of_heads(int(count))):
            longer[step * positive : step * positive + len(probability)] += chance * probability
        probability = longer
    distance = np.abs(2 * np.arange(len(probability)) - steps.sum())
    observed = abs(2 * steps[differences > 0].sum() - steps.sum())
    return min(float(probability[distance >= observed].sum()), 1.0)


@cache
def _of_heads(tosses: int) -> Floats:
    """The probability of each number of heads."""
    return np.asarray(stats.binom.pmf(np.arange(tosses + 1), tosses, 0.5))


def _unit(sizes: Floats) -> float:
    """A part that all sizes are multiples of, or a fine one that they are rounded to."""
    smallest = float(sizes.min())
    ratios = np.unique(sizes) / smallest
    for parts in range(1, FINEST + 1):
        if np.allclose(parts * ratios, np.rint(parts * ratios), rtol=0, atol=1e-6):
            unit = smallest / parts
            return unit if sizes.sum() / unit <= 4 * LATTICE else float(sizes.sum() / LATTICE)
    return float(sizes.sum() / LATTICE)


@cache
def detectable_loss(n_items: int, gained: int) -> float:
    """The smallest loss of accuracy that McNemar's exact test finds with 80 % power at a level of 0.05 (two-sided).

    Args:
        n_items: items that both answer.
        gained: those that become right by chance; as many become wrong by chance, and the loss comes on top.

    Returns:
        The loss as a share of the items, from above to 0.0001; not a number where so few items can show none.
    """
    by_chance = min(gained / n_items, 0.5)
    low, high = 0.0, 1 - 2 * by_chance
    if _power(n_items, by_chance, high) < POWER:
        return float("nan")
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(n_items, by_chance, middle) >= POWER else (middle, high)
    return high


def _power(n_items: int, by_chance: float, loss: float) -> float:
    """The probability that the exact test finds a loss."""
    share = min(2 * by_chance + loss, 1.0)
    if share == 0:
        return 0.0
    spread = STANDARD_DEVIATIONS * np.sqrt(n_items * share * (1 - share)) + STANDARD_DEVIATIONS
    flips = np.arange(max(int(n_items * share - spread), 0), min(int(n_items * share + spread), n_items) + 1)
    # The most gained items of so many flips at which the test still finds a loss; -1 where none is enough.
    most = stats.binom.ppf(LEVEL / 2, flips, 0.5)
    most -= stats.binom.cdf(most, flips, 0.5) > LEVEL / 2
    found = stats.binom.cdf(most, flips, by_chance / share)
    return float(stats.binom.pmf(flips, n_items, share) @ found)


def detectable_mean_loss(differences: Floats) -> float:
    """As ``detectable_loss`` for scores other than right and wrong, by their standard error (normal approximation)."""
    return float((QUANTILE + stats.norm.ppf(POWER)) * standard_error(differences))
