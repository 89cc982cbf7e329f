"""Maximum likelihood with a beta-binomial error.

A variant with adjusted accuracy a answers an item rightly with probability chance + (1 - chance) a, so that a collapsed
variant sits at chance and stays in the data. Rows scatter more than their items do (the draw of the calibration set,
the form's misfit): the probability of a row is beta-distributed around the form's, with one overdispersion for all
rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize
from scipy.special import betaln, digamma

from stratalaw.laws.forms import Form
from stratalaw.laws.rows import Rows

SMALLEST = 1e-9
# Beyond it the error is binomial, and differences of digamma functions lose their digits.
LARGEST_WORTH = 1e7


@dataclass(frozen=True)
class Maximum:
    """``fitted`` (p,) and ``covariance`` (p, p): the form's parameters; ``overdispersion``: correlation of two items of
    a row; ``log_likelihood``: in nats, up to a constant; ``relative_gradient``: per effective item, 0 at the
    maximum."""

    fitted: NDArray[np.float64]
    covariance: NDArray[np.float64]
    overdispersion: float
    log_likelihood: float
    relative_gradient: float


@dataclass(frozen=True)
class Counts:
    """``right`` of ``items`` (rows,): as many independent items as the rows' standard errors amount to."""

    right: NDArray[np.float64]
    items: NDArray[np.float64]
    chance: NDArray[np.float64]


def counts_of(rows: Rows) -> Counts:
    """What the rows' accuracies and standard errors amount to as counts, which need not be whole numbers."""
    chance = rows.table.chance.to_numpy(float)
    accuracy = chance + (1 - chance) * rows.accuracy
    inside = np.clip(accuracy, 0.01, 0.99)
    variance = np.maximum(((1 - chance) * rows.stderr) ** 2, 1e-12)
    items = np.clip(inside * (1 - inside) / variance, 1, 1e7)
    return Counts(np.clip(accuracy, 0, 1) * items, items, chance)


def log_likelihood(
    form: Form, factors: dict[str, NDArray[np.float64]], counts: Counts, theta: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Log-likelihood and its gradient; ``theta``: the form's fitted parameters, then ln(items a row is worth)."""
    accuracy, jacobian = form.evaluate(theta[:-1], factors)
    if not (np.isfinite(accuracy).all() and np.isfinite(jacobian).all()):
        return -np.inf, np.zeros_like(theta)
    worth = min(np.exp(theta[-1]), LARGEST_WORTH)
    probability = np.clip(counts.chance + (1 - counts.chance) * accuracy, SMALLEST, 1 - SMALLEST)
    first, second = probability * worth, (1 - probability) * worth
    wrong = counts.items - counts.right
    value = (betaln(counts.right + first, wrong + second) - betaln(first, second)).sum()
    by_first = digamma(counts.right + first) - digamma(first)
    by_second = digamma(wrong + second) - digamma(second)
    common = digamma(counts.items + worth) - digamma(worth)
    by_probability = worth * (by_first - by_second) * (1 - counts.chance)
    by_worth = (probability * (by_first - common) + (1 - probability) * (by_second - common)).sum() * worth
    return value, np.append(by_probability @ jacobian, by_worth if worth < LARGEST_WORTH else 0.0)


def maximize(form: Form, rows: Rows, candidates: NDArray[np.float64]) -> Maximum:
    """The maximum that is reached from candidate parameters, shape (candidates, p)."""
    counts = counts_of(rows)
    scale = counts.items.sum()

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, gradient = log_likelihood(form, rows.factors, counts, theta)
        return -value / scale, -gradient / scale

    found = [
        minimize_with_gradient(loss, np.append(candidate, np.log(300.0)), tolerance=1e-10) for candidate in candidates
    ]
    best = min(found, key=lambda result: result.fun)
    information = scale * hessian(lambda theta: loss(theta)[1], best.x)
    # Mean and dispersion are nearly orthogonal, and without overdispersion the data say nothing of the latter.
    covariance = np.linalg.pinv(information[:-1, :-1])
    _, gradient = loss(best.x)
    return Maximum(
        fitted=best.x[:-1],
        covariance=covariance,
        overdispersion=float(1 / (1 + min(np.exp(best.x[-1]), LARGEST_WORTH))),
        log_likelihood=float(-best.fun * scale),
        relative_gradient=float(np.abs(gradient).max()),
    )


def minimize_with_gradient(
    loss: Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]],
    start: NDArray[np.float64],
    tolerance: float,
    curvature: NDArray[np.float64] | None = None,
) -> OptimizeResult:
    """BFGS; ``loss`` gives value and gradient. Whether it converged is for the caller to judge by the gradient.

    ``curvature``: the inverse of the second derivatives, as far as it is known: with it, few steps suffice.
    """
    with warnings.catch_warnings():
        # Near the minimum the line search stops at the last digits, and says so.
        warnings.simplefilter("ignore", category=RuntimeWarning)
        return minimize(loss, start, jac=True, method="BFGS", options={"gtol": tolerance, "hess_inv0": curvature})


def hessian(
    gradient: Callable[[NDArray[np.float64]], NDArray[np.float64]], theta: NDArray[np.float64], step: float = 1e-5
) -> NDArray[np.float64]:
    """Central differences of a gradient, made symmetric."""
    columns = [
        (gradient(theta + offset) - gradient(theta - offset)) / (2 * step) for offset in step * np.eye(len(theta))
    ]
    matrix = np.array(columns)
    return (matrix + matrix.T) / 2
