"""What to measure next: the variants that narrow most, for their cost, what is wished for.

Sequential design: the variance that a variant's measurement would take off every target follows from the belief alone,
whatever the measurement will say, so a whole batch can be chosen one by one, each given those before it. After the
batch, belief and its hyperparameters are learned anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stratalaw.planning.belief import Belief

Array = NDArray[np.float64]
WITHIN = 0.01  # weight of a target that is as narrow as wanted, beside one that is not


@dataclass(frozen=True)
class Targets:
    """What is wished for: numbers that the whole study would give.

    ``covariance``: of each with each cell of the belief, shape (targets, cells); ``variance``: of each; ``noise``: the
    part of it that is a cell's items' own; ``weight``: how much each counts.
    """

    covariance: Array
    variance: Array
    noise: Array
    weight: Array

    def half_widths(self, quantile: float) -> Array:
        """Of their 95 % intervals, the items' noise of what is not measured apart."""
        found: Array = quantile * np.sqrt(np.maximum(self.variance - self.noise, 0.0))
        return found


@dataclass(frozen=True)
class Batch:
    """``variants``: places of the chosen ones, in the order of their worth; ``before`` and ``after``: half the widths
    of the targets' 95 % intervals, now and as expected once the batch is measured."""

    variants: list[int]
    before: Array
    after: Array


def next_batch(
    belief: Belief,
    targets: Targets,
    seconds: Array,
    budget: float = np.inf,
    precision: float | None = None,
    most: int | None = None,
) -> Batch:
    """The variants to measure next.

    Args:
        belief: what was measured so far, and what follows.
        targets: what is wished for.
        seconds: what each variant of the belief costs; those that cannot be measured cost infinitely much.
        budget: seconds that may be spent.
        precision: half widths that are narrow enough: no more is chosen than is expected to reach them.
        most: variants of a batch.
    """
    strata = len(belief.strata)
    count = len(belief.variants)
    total, cross = belief.covariance.copy(), targets.covariance.copy()
    variance, noise = targets.variance.copy(), targets.noise.copy()
    is_free = np.array(~belief.cells.is_measured.to_numpy(bool).reshape(count, strata).all(1))
    cells = np.arange(count * strata).reshape(count, strata)
    chosen: list[int] = []
    spent = 0.0
    before = targets.half_widths(belief.quantile)
    after = before
    while len(chosen) < (count if most is None else most):
        is_wide = np.ones(len(after), bool) if precision is None else after > precision
        usable = is_free & np.isfinite(seconds) & (seconds <= budget - spent)
        if not is_wide.any() or not usable.any():
            break
        places = np.flatnonzero(usable)
        own = np.array([total[np.ix_(place, place)] for place in cells[places]]) + 1e-12 * np.eye(strata)
        seen = cross[:, cells[places]]
        weight = targets.weight * np.where(is_wide, 1.0, WITHIN)
        # What is left of a target's variance is taken off by as much as the variant's cells explain of it.
        gain = np.einsum("tvs,vsr,tvr,t->v", seen, np.linalg.inv(own), seen, weight, optimize=True)
        best = int(places[np.argmax(gain / np.maximum(seconds[places], 1e-9))])
        if gain.max() <= 0:
            break
        block = np.linalg.inv(total[np.ix_(cells[best], cells[best])] + 1e-12 * np.eye(strata))
        explained = cross[:, cells[best]] @ block
        variance = np.maximum(variance - np.einsum("ts,ts->t", explained, cross[:, cells[best]]), 0.0)
        cross = cross - explained @ total[cells[best]]
        total = total - total[:, cells[best]] @ block @ total[cells[best]]
        noise = np.minimum(noise, variance)
        chosen.append(best)
        is_free[best] = False
        spent += float(seconds[best])
        after = Targets(cross, variance, noise, targets.weight).half_widths(belief.quantile)
    return Batch(chosen, before, after)
