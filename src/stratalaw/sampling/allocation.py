"""How many items of each benchmark a precision takes: as few as will do in all.

The mean over benchmarks weighs them alike, however many items they have. Its error is smallest for a number of items
where each benchmark is asked in proportion to the standard deviation of what is unexplained there (Neyman's allocation:
Cochran, Sampling Techniques, 3rd edition, 1977, section 5.5), so that a benchmark of 14,000 items is asked no more than
another of 1,000.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from stratalaw.sampling.difference import Difference

FIRST = 100  # items of each benchmark, on average, that are asked first
# Of the goal, that the next items are to reach: with all of it, every other block would end just short of it.
AIM = 0.98
LEAST_VARIANCE = 1e-12


def stderr_of_mean(differences: Iterable[Difference]) -> float:
    """The standard error of the mean over benchmarks."""
    variances = [one.variance for one in differences]
    return float(np.sqrt(sum(variances)) / len(variances))


def first_shares(items: Mapping[str, int]) -> dict[str, float]:
    """The share of each benchmark that is asked first, from the number of its items."""
    return {name: min(1.0, FIRST / count) for name, count in items.items()}


def next_shares(shares: Mapping[str, float], differences: Mapping[str, Difference], goal: float) -> dict[str, float]:
    """The shares to ask next; the same again where the goal is reached, or nothing is left to ask.

    Args:
        shares: of each benchmark, that were asked.
        differences: as these let them be estimated.
        goal: the standard error of the mean over benchmarks.
    """
    if stderr_of_mean(differences.values()) <= goal:
        return dict(shares)
    needed = dict(zip(differences, items_needed(list(differences.values()), AIM * goal), strict=True))
    return {name: _enlarged(share, differences[name], needed[name]) for name, share in shares.items()}


def items_needed(differences: list[Difference], goal: float) -> list[float]:
    """How many items of each benchmark give the mean over them a standard error, those that were asked among them; all
    of them where these are not enough, or nothing can be said yet."""
    asked, items = (np.array([getattr(one, name) for one in differences], float) for name in ("asked", "items"))
    unexplained = np.array([one.unexplained for one in differences])
    room = (goal * len(differences)) ** 2 - sum(one.lasting for one in differences)
    if not np.isfinite(unexplained).all() or not room > 0:
        return list(items)
    deviation = np.sqrt(np.maximum(unexplained, LEAST_VARIANCE))
    low, high = 0.0, float((items / deviation).max())
    for _ in range(60):
        middle = (low + high) / 2
        found = np.clip(middle * deviation, asked, items)
        low, high = (low, middle) if (unexplained * (1 / found - 1 / items)).sum() <= room else (middle, high)
    return list(np.clip(np.ceil(high * deviation), asked, items))


def _enlarged(share: float, difference: Difference, needed: float) -> float:
    """The share at which a benchmark is expected to have so many items asked, given how many it has now."""
    if needed >= difference.items:
        return 1.0
    return share + (1 - share) * (needed - difference.asked) / (difference.items - difference.asked)
