"""A mixed model of ln D fitted to kept shares: effects by penalized weighted least squares, variances by REML.

    kept = exp(-D) + noise,    ln D = Z e + u + r,    e ~ N(0, S),    u per setting and r per row ~ N(0, s^2)

Kept shares of more than 1, or below 0, are no trouble: the noise of items is on the share itself, and where a model
keeps nearly everything, its rows say little of ln D and weigh little. The share is linearized at the fitted values
(penalized quasi-likelihood) with Student's weights, so that a row that nothing explains moves nothing else. Variances
are those of the restricted likelihood by the MM algorithm (Zhou, Hu, Zhou and Lange 2019): each step multiplies a
variance by the root of what its effects show over what they would show by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve

from stratalaw.published.terms import LEAST, MOST, RANDOM, ROW, SETTING, TERMS, Levels, design, levels_of, share_kept

Array = NDArray[np.float64]

START = -2.3  # ln D, where a tenth is lost
LEAST_SLOPE = 1e-3
LARGEST_RESIDUAL = 2.5  # of ln D, in one step
FREEDOM = 4.0  # degrees of Student's weights
LEAST_VARIANCE = 1e-7
STEPS, CLOSE = 60, 0.03  # relative change of a variance that counts
COUNTED = 1e-3  # smaller variances need not have converged


@dataclass(frozen=True)
class Fit:
    """What was fitted.

    ``levels``: of the terms; ``mean``, ``covariance``: of all effects, in the order of ``terms.design``;
    ``variances``: by random term, and of ``setting`` and ``row``; ``fitted``: ln D of each row, without its own part.
    """

    levels: Levels
    mean: Array
    covariance: Array
    variances: Mapping[str, float]
    fitted: Array
    steps: int

    def places(self, name: str) -> slice:
        """Where the effects of a term are."""
        before = 0
        for other in TERMS:
            if other == name:
                break
            before += len(self.levels[other])
        return slice(before, before + len(self.levels[name]))


def fit_effects(
    rows: pd.DataFrame,
    variances: Mapping[str, float] | None = None,
    start: Array | None = None,
    fixed: bool = False,
    most_steps: int = STEPS,
) -> Fit:
    """Fit the effects, and unless they are fixed the variances.

    Args:
        rows: kept, noise, and what ``terms.covariates`` adds.
        variances: to start from; of a fit to more or to fewer rows, say.
        start: ln D of each row to start from.
        fixed: take the variances as they are.
        most_steps: at which it ends anyway.
    """
    levels = levels_of(rows)
    z = design(rows, levels)
    sizes = np.array([len(levels[name]) for name in TERMS])
    codes, settings = pd.factorize(rows[SETTING])
    u = sparse.csr_matrix((np.ones(len(rows)), (np.arange(len(rows)), codes)), (len(rows), len(settings)))
    kept, noise = rows.kept.to_numpy(float), rows.noise.to_numpy(float)
    now = {name: 0.05 for name in (*RANDOM, SETTING, ROW)} | dict(variances or {})
    fitted = np.full(len(rows), START) if start is None else start.copy()
    student, step = np.ones(len(rows)), 0
    while True:
        step += 1
        precision = np.repeat([1 / (term.prior**2 if term.prior else now[name]) for name, term in TERMS.items()], sizes)
        share = share_kept(fitted)
        slope = np.minimum(-share * np.exp(np.clip(fitted, LEAST, MOST)), -LEAST_SLOPE)
        residual = np.clip((kept - share) / slope, -LARGEST_RESIDUAL, LARGEST_RESIDUAL)
        spread = (now[ROW] + (noise / slope) ** 2) / student
        solved = _solve(z, u, codes, fitted + residual, 1 / spread, now[SETTING], precision)
        change = solved.predicted - fitted
        new = now if fixed else _variances(now, solved, z, u, codes, student, sizes)
        change_of_variance = max(abs(np.log(new[name] / now[name])) for name in new if new[name] > COUNTED)
        left = fitted + residual - solved.predicted
        student = (FREEDOM + 1) / (FREEDOM + left**2 / (spread * student))
        fitted = fitted + np.clip(change, -1, 1)
        if step == most_steps or (step > 3 and np.abs(change).max() < 0.05 and change_of_variance < CLOSE):
            return Fit(levels, solved.mean, solved.covariance, now, fitted, step)
        now = new


@dataclass(frozen=True)
class _Solved:
    mean: Array
    covariance: Array
    predicted: Array
    rest: Array  # what is left, over the variance of the rows
    weights: Array
    shrink: Array  # by setting
    whitened: sparse.csr_matrix


def _solve(
    z: sparse.csr_matrix, u: sparse.csr_matrix, codes: NDArray[np.intp], y: Array, weights: Array, setting: float,
    precision: Array,
) -> _Solved:  # fmt: skip
    """Effects at given weights; rows of one setting share an effect that is integrated out (Woodbury)."""
    w = sparse.diags(weights)
    shrink = 1 / (1 / setting + np.asarray(u.T @ weights).ravel())

    def whitened(matrix: sparse.csr_matrix | Array) -> sparse.csr_matrix | Array:
        weighted = w @ matrix
        return weighted - w @ (u @ (sparse.diags(shrink) @ (u.T @ weighted)))

    vz = sparse.csr_matrix(whitened(z))
    normal = (z.T @ vz).toarray()
    normal[np.diag_indices_from(normal)] += precision
    covariance = cho_solve(cho_factor(normal, lower=True), np.eye(len(normal)))
    mean = covariance @ (vz.T @ y)
    rest = whitened(y - z @ mean)
    predicted = z @ mean + (setting * (u.T @ rest))[codes]
    return _Solved(mean, covariance, predicted, rest, weights, shrink, vz)


def _variances(
    now: Mapping[str, float], solved: _Solved, z: sparse.csr_matrix, u: sparse.csr_matrix, codes: NDArray[np.intp],
    student: Array, sizes: NDArray[np.intp],
) -> dict[str, float]:  # fmt: skip
    new, before = {}, 0
    for (name, term), size in zip(TERMS.items(), sizes, strict=True):
        part = slice(before, before + size)
        before += size
        if term.prior is None:
            shown = (solved.mean[part] ** 2).sum() / now[name] ** 2
            chance = size / now[name] - np.trace(solved.covariance[part, part]) / now[name] ** 2
            new[name] = _stepped(now[name], shown, chance)
    weights, shrink, vz = solved.weights, solved.shrink, solved.whitened
    totals = np.asarray(u.T @ weights).ravel()
    of_settings = u.T @ vz
    chance = (totals - totals**2 * shrink).sum() - _trace(of_settings, solved.covariance)
    new[SETTING] = _stepped(now[SETTING], ((u.T @ solved.rest) ** 2).sum(), chance)
    scaled = sparse.diags(1 / np.sqrt(student)) @ vz
    chance = ((weights - weights**2 * shrink[codes]) / student).sum() - _trace(scaled, solved.covariance)
    new[ROW] = _stepped(now[ROW], (solved.rest**2 / student).sum(), chance)
    return new


def _trace(half: sparse.csr_matrix, covariance: Array) -> float:
    return float(((half.T @ half).multiply(covariance)).sum())


def _stepped(variance: float, shown: float, chance: float) -> float:
    return max(variance * float(np.sqrt(max(shown, 1e-12) / max(chance, 1e-9))), LEAST_VARIANCE)
