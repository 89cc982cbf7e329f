"""Which variants to measure: the subset of a study that tells most about the exponents within a budget.

D-optimal design (Wynn, 1970; Fedorov, 1972): the determinant of the information matrix of the paper's law is as large
as it can be, its logarithm summed over the strata. What a row tells of ln(-ln a) follows from the accuracy that a pilot
law expects of it: near 0 and 1 the logarithm is noisy.

Exponents are not all: a skeleton that keeps the claims testable is bought first (``skeleton``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pulp
from numpy.typing import NDArray
from scipy import stats

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.fit import LawFit
from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.planning.prediction import points_of
from stratalaw.planning.skeleton import Skeleton
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_BITS
from stratalaw.text import one_line

# Keeps the first determinants from being zero; in units of a row's information it is nothing.
RIDGE = 1e-6
EXTREME = 0.02  # adjusted accuracies are taken to be no nearer to 0 and 1


class SelectionError(StratalawError):
    """Variants cannot be chosen; the message is one line."""


@dataclass(frozen=True)
class Designs:
    """What each candidate row tells of each stratum's law.

    ``names``: of the parameters; ``rows`` (strata, candidates, parameters): the rows of the regression on logarithms,
    each divided by its standard error.
    """

    names: list[str]
    rows: NDArray[np.float64]

    def information(self, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Information matrices, shape (strata, parameters, parameters), of the chosen candidates (a mask)."""
        part = self.rows[:, chosen]
        found: NDArray[np.float64] = np.einsum("snp,snq->spq", part, part) + RIDGE * np.eye(self.rows.shape[2])
        return found

    def value(self, chosen: NDArray[np.bool_]) -> float:
        """Logarithm of the determinants of the information, summed over the strata."""
        return float(np.linalg.slogdet(self.information(chosen))[1].sum())

    def widths(self, chosen: NDArray[np.bool_], level: float = 0.95) -> NDArray[np.float64]:
        """Expected widths of the parameters' intervals, shape (strata, parameters)."""
        freedom = int((chosen & self.rows.any(axis=(0, 2))).sum()) - len(self.names)
        quantile = stats.t.ppf((1 + level) / 2, freedom) if freedom > 0 else np.inf
        variance = np.einsum("spp->sp", np.linalg.inv(self.information(chosen)))
        found: NDArray[np.float64] = 2 * quantile * np.sqrt(variance)
        return found


def candidates_with_cost(study: Study, seconds_file: Path, analysis: Analysis) -> pd.DataFrame:
    """The variants of a study that its law can be fitted to, those of 2 bits beside them, and what each costs.

    Columns: model, variant, n_params, bits, effective_bits, group_size, calibration_size, seconds, and weakest: the
    adjusted accuracy of the model's original in the stratum in which it has the least, as it was measured, or else as
    the law expects it of the model's best variant.

    Raises:
        SelectionError: the file is no table, a variant has no cost, or a model no size.
    """
    try:
        cost = pd.read_csv(seconds_file)
    except (OSError, ValueError) as error:  # of pandas, or of the encoding
        raise SelectionError(f"{seconds_file}: not a table: {one_line(error)}") from None
    missing = {"model", "variant", "seconds", "n_params"} - set(cost.columns)
    if missing:
        raise SelectionError(f"{seconds_file}: the column {sorted(missing)[0]} is missing")
    cost = cost.set_index(["model", "variant"])
    fitted_bits = analysis.laws[0].levels["bits"]
    tables = []
    for model in study.models:
        if model.held_out:
            continue
        quantizations = [
            q
            for q in study.quantizations_of(model)
            if q.bits in (PHASE_TRANSITION_BITS, *fitted_bits)
            and q.group_size > 0
            and q.calibration_size > 1
            and q.is_of_laws
        ]
        if not quantizations:
            continue
        names = pd.MultiIndex.from_tuples([(model.name, q.name) for q in quantizations])
        unknown = sorted(set(names) - set(cost.index))
        if unknown:
            raise SelectionError(f"{seconds_file}: no seconds of {unknown[0][0]}/{unknown[0][1]}")
        own = cost.loc[names]
        points = points_of(own.n_params.iloc[0], quantizations)
        tables.append(
            points.assign(
                model=model.name,
                variant=names.get_level_values(1),
                seconds=own.seconds.to_numpy(),
                weakest=_weakest(analysis, model.name, points),
            )
        )
    return pd.concat(tables, ignore_index=True)


def _weakest(analysis: Analysis, model: str, points: pd.DataFrame) -> float:
    measured = analysis.measured
    originals = measured[(measured.model == model) & (measured.bits >= BASELINE_BITS)].accuracy_adjusted
    least = originals.min() if len(originals) else min(law.predict(points).max() for law in analysis.laws)
    return max(float(least), EXTREME)


def designs_of(laws: Sequence[LawFit], candidates: pd.DataFrame) -> Designs:
    """What candidates tell of laws that a pilot study, or the paper, gave: nothing where 2 bits are not fitted.

    Args:
        laws: of the strata, by ``logarithm`` and with the same parameters.
        candidates: n_params, bits, effective_bits, group_size and calibration_size of each.
    """
    rows = []
    for law in laws:
        expected = np.clip(law.predict(candidates).to_numpy(), EXTREME, 1 - EXTREME)
        spread = law.residual_stderr / np.abs(expected * np.log(expected))
        spread[candidates.bits <= PHASE_TRANSITION_BITS] = np.inf
        rows.append(law.form.log_design(law.rows_of(candidates).factors) / spread[:, None])
    return Designs(list(laws[0].params.index), np.array(rows))


def select(
    designs: Designs, cost: NDArray[np.float64], budget: float, known: Skeleton | None = None
) -> NDArray[np.bool_]:
    """A subset of large determinant within the budget, by greedy choice and exchange (Fedorov); a mask.

    Every step takes the best change of one candidate for another, an addition included, until none helps; then each is
    given up once for whatever its cost buys instead, which gets out of many optima that are only local.

    Args:
        cost: of each candidate, shape (candidates,), in any unit; positive.
        budget: in the same unit.
        known: candidates that are part of the subset in any case, and those that may be; none, and all, if not given.

    Raises:
        SelectionError: the budget does not buy as many candidates as there are parameters.
    """
    n_needed = designs.rows.shape[2]
    if np.sort(cost)[:n_needed].sum() > budget:
        raise SelectionError(
            f"a budget of {budget:.4g} does not buy {n_needed} variants, as many as the law has parameters; "
            f"the {n_needed} cheapest cost {np.sort(cost)[:n_needed].sum():.4g}"
        )
    kept = np.zeros(len(cost), dtype=bool) if known is None else known.kept
    barred = np.zeros(len(cost), dtype=bool) if known is None else ~known.reached
    best, best_value = kept, -np.inf
    for exponent in (1.0, 0.5, 0.0):  # greed by gain for its cost, and by gain alone
        chosen = _exchange(designs, cost, budget, _greedy(designs, cost, budget, exponent, kept, barred), kept, barred)
        if chosen.sum() >= n_needed and (value := designs.value(chosen)) > best_value:
            best, best_value = chosen, value
    for given_up in np.flatnonzero(best & ~kept):
        one = np.arange(len(cost)) == given_up
        without = _greedy(designs, cost, budget, 1.0, best & ~one, barred | one)
        chosen = _exchange(designs, cost, budget, without, kept, barred)
        if chosen.sum() >= n_needed and (value := designs.value(chosen)) > best_value:
            best, best_value = chosen, value
    return best


def _greedy(
    designs: Designs,
    cost: NDArray[np.float64],
    budget: float,
    exponent: float,
    chosen: NDArray[np.bool_],
    barred: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """``chosen``, a mask, and what the rest of the budget buys of what is not ``barred``."""
    chosen = chosen.copy()
    while True:
        affordable = ~chosen & ~barred & (cost <= budget - cost[chosen].sum())
        if not affordable.any():
            return chosen
        gain = np.where(affordable, np.log1p(_distances(designs, chosen)).sum(0) / cost**exponent, -np.inf)
        if gain.max() <= 0:
            return chosen
        chosen[gain.argmax()] = True


def _distances(designs: Designs, chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each candidate in each stratum, the variance of its prediction over that of its own error."""
    inverse = np.linalg.inv(designs.information(chosen))
    found: NDArray[np.float64] = np.einsum("snp,spq,snq->sn", designs.rows, inverse, designs.rows)
    return found


def _exchange(
    designs: Designs,
    cost: NDArray[np.float64],
    budget: float,
    chosen: NDArray[np.bool_],
    kept: NDArray[np.bool_],
    barred: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    while True:
        inside, outside = np.flatnonzero(chosen & ~kept), np.flatnonzero(~chosen & ~barred)
        if not len(outside):
            return chosen
        inverse = np.linalg.inv(designs.information(chosen))
        left, right = designs.rows[:, inside], designs.rows[:, outside]
        of_left = np.einsum("snp,spq,snq->sn", left, inverse, left)[:, :, None]
        of_right = np.einsum("snp,spq,snq->sn", right, inverse, right)[:, None]
        between = np.einsum("snp,spq,smq->snm", left, inverse, right)
        # The determinant after one row goes and another comes, over the one before.
        swapped = np.log(np.maximum((1 + of_right) * (1 - of_left) + between**2, 1e-300)).sum(0)
        free = budget - cost[chosen].sum()
        swapped[cost[outside][None] - cost[inside][:, None] > free] = -np.inf
        added = np.where(cost[outside] <= free, np.log1p(of_right[:, 0]).sum(0), -np.inf)
        if max(swapped.max(initial=-np.inf), added.max()) < 1e-9:
            return chosen
        chosen = chosen.copy()
        if added.max() >= swapped.max(initial=-np.inf):
            chosen[outside[added.argmax()]] = True
        else:
            out, into = np.unravel_index(swapped.argmax(), swapped.shape)
            chosen[inside[out]], chosen[outside[into]] = False, True


def select_exactly(designs: Designs, cost: NDArray[np.float64], budget: float, gap: float = 1e-6) -> NDArray[np.bool_]:
    """The best subset within the budget, proven: for small problems.

    The logarithm of the determinant is concave in the information, so that its tangents bound it from above: a
    mixed-integer program under the tangents so far gives a subset and a bound, and the subset a new tangent, until both
    meet (outer approximation).
    """
    problem = pulp.LpProblem("design", pulp.LpMaximize)
    takes = [problem.add_variable(f"takes_{i}", cat="Binary") for i in range(len(cost))]
    bound = problem.add_variable("bound")
    problem.setObjective(bound)
    problem += pulp.lpSum(c * take for c, take in zip(cost, takes, strict=True)) <= budget
    chosen = select(designs, cost, budget)
    best, best_value = chosen, designs.value(chosen)
    while True:
        inverse = np.linalg.inv(designs.information(chosen))
        slope = np.einsum("snp,spq,snq->n", designs.rows, inverse, designs.rows)
        constant = designs.value(chosen) - slope[chosen].sum()
        problem += bound <= constant + pulp.lpSum(s * take for s, take in zip(slope, takes, strict=True))
        problem.solve(pulp.PULP_CBC_CMD(msg=False, gapRel=0, gapAbs=0))
        chosen = np.array([take.value() > 0.5 for take in takes])
        if (value := designs.value(chosen)) > best_value:
            best, best_value = chosen, value
        if bound.value() - best_value < gap:
            return best


def random_subset(cost: NDArray[np.float64], budget: float, seed: int) -> NDArray[np.bool_]:
    """Candidates in random order, as many as the budget buys; a mask: what a selection is compared with."""
    chosen, left = np.zeros(len(cost), dtype=bool), budget
    for place in np.random.default_rng(seed).permutation(len(cost)):
        if cost[place] <= left:
            chosen[place] = True
            left -= cost[place]
    return chosen
