"""Weighted non-linear least squares, for many sets of weights at once.

A bootstrap, a set of hold-outs and a set of starting points are all the same problem with other weights or another
start, so one batch solves them: Levenberg's and Marquardt's damped steps, each problem with a damping of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stratalaw.laws.forms import Form

STEPS = 200
DAMPING = 1e-3
LARGEST_STEP = 3.0  # of a fitted parameter; a logarithm that moves further has left the data behind
RELATIVE_GRADIENT = 1e-6
PRIOR_ERROR = 0.02  # of adjusted accuracy: a prior counts as much as a row with this error
TOGETHER = 100_000  # rows of all problems that are evaluated at a time, which bounds the memory
NEGLIGIBLE = 1e-7  # residuals of adjusted accuracy; smaller ones are a perfect fit


@dataclass(frozen=True)
class Solutions:
    """``fitted`` (problems, p): parameters as they are fitted; ``cost`` (problems,): weighted sum of squares (or of the
    robust loss); ``gradient`` (problems,): the largest slope along a parameter relative to the residuals and to the
    loss's curvature along it, 0 at a minimum (of plain squares: the largest cosine between the residuals and a column
    of the Jacobian); ``converged`` (problems,): whether it is small enough."""

    fitted: NDArray[np.float64]
    cost: NDArray[np.float64]
    gradient: NDArray[np.float64]

    @property
    def converged(self) -> NDArray[np.bool_]:
        is_small: NDArray[np.bool_] = self.gradient < RELATIVE_GRADIENT**0.5
        return is_small


def solve(
    form: Form,
    factors: dict[str, NDArray[np.float64]],
    accuracy: NDArray[np.float64],
    weights: NDArray[np.float64],
    starts: NDArray[np.float64],
    robust_scale: NDArray[np.float64] | None = None,
) -> Solutions:
    """Minimize, for each problem, the weighted sum over rows of rho(accuracy - form), and what priors add to it.

    Args:
        form: of the law.
        factors: shape (rows,) each.
        accuracy: adjusted accuracies, shape (rows,) or (problems, rows).
        weights: shape (problems, rows); 0 leaves a row out.
        starts: fitted parameters, shape (problems, p).
        robust_scale: shape (rows,); residuals beyond it count linearly (soft L1). None: plain squares.
    """
    shape = (len(starts), accuracy.shape[-1])
    weights, accuracy = np.broadcast_to(weights, shape), np.broadcast_to(accuracy, shape)
    size = max(TOGETHER // shape[1], 1)
    blocks = [slice(first, first + size) for first in range(0, max(len(starts), 1), size)]
    found = [_solve(form, factors, accuracy[part], weights[part], starts[part], robust_scale) for part in blocks]
    return Solutions(
        np.concatenate([part.fitted for part in found]),
        np.concatenate([part.cost for part in found]),
        np.concatenate([part.gradient for part in found]),
    )


def _solve(
    form: Form,
    factors: dict[str, NDArray[np.float64]],
    accuracy: NDArray[np.float64],
    weights: NDArray[np.float64],
    starts: NDArray[np.float64],
    robust_scale: NDArray[np.float64] | None,
) -> Solutions:
    fitted = np.array(starts, dtype=float)
    damping = np.full(len(fitted), DAMPING)
    priors = [parameter.prior or (0.0, np.inf) for parameter in form.parameters]
    centre = np.array([mean for mean, _ in priors])
    precision = np.array([(PRIOR_ERROR / spread) ** 2 for _, spread in priors])
    cost = _cost(form, fitted, factors, accuracy, weights, robust_scale) + (precision * (fitted - centre) ** 2).sum(-1)
    active = np.arange(len(fitted))
    gradient = np.full(len(fitted), np.inf)
    for _ in range(STEPS):
        prediction, jacobian = form.evaluate(fitted[active], factors)
        residual = accuracy[active] - prediction
        robust = _robust_weight(residual, robust_scale)
        effective = weights[active] * robust
        transposed = np.swapaxes(jacobian, -1, -2)
        # Where residuals are large the robust loss curves less than its weight says, with the third power of it: with
        # the curvature, a few steps reach what takes dozens of reweighted ones.
        normal = transposed @ (jacobian * (effective * robust**2)[..., None]) + np.diag(precision)
        slope = (transposed @ (effective * residual)[..., None])[..., 0] - precision * (fitted[active] - centre)
        diagonal = np.einsum("...pp->...p", normal)
        length = (effective * (residual**2 + NEGLIGIBLE**2)).sum(-1)
        scale = np.sqrt(np.maximum(diagonal * length[..., None], 1e-300))
        gradient[active] = np.abs(slope / scale).max(-1)
        usable = np.isfinite(slope).all(-1) & np.isfinite(normal).all((-2, -1))
        going_on = usable & (gradient[active] > RELATIVE_GRADIENT) & (damping[active] < 1e12)
        if not going_on.any():
            break
        active, normal, slope, diagonal = (part[going_on] for part in (active, normal, slope, diagonal))
        damped = normal + (damping[active, None] * (diagonal + 1e-12))[:, None] * np.eye(fitted.shape[1])
        step = np.linalg.solve(damped, slope[..., None])[..., 0]
        longest = np.abs(step).max(-1, keepdims=True)
        trial = fitted[active] + step * np.minimum(1, LARGEST_STEP / np.maximum(longest, 1e-300))
        trial_cost = _cost(form, trial, factors, accuracy[active], weights[active], robust_scale)
        trial_cost = trial_cost + (precision * (trial - centre) ** 2).sum(-1)
        better = trial_cost < cost[active]
        fitted[active[better]], cost[active[better]] = trial[better], trial_cost[better]
        damping[active] = np.where(better, np.maximum(damping[active] / 5, 1e-12), damping[active] * 4)
    return Solutions(fitted, cost, gradient)


def _robust_weight(
    residual: NDArray[np.float64], robust_scale: NDArray[np.float64] | None
) -> NDArray[np.float64] | float:
    """Derivative of the soft-L1 loss by the squared residual."""
    return 1.0 if robust_scale is None else 1 / np.sqrt(1 + (residual / robust_scale) ** 2)


def _cost(
    form: Form,
    fitted: NDArray[np.float64],
    factors: dict[str, NDArray[np.float64]],
    accuracy: NDArray[np.float64],
    weights: NDArray[np.float64],
    robust_scale: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    residual = accuracy - form.accuracy(fitted, factors)
    if robust_scale is None:
        loss = residual**2
    else:
        loss = 2 * robust_scale**2 * (np.sqrt(1 + (residual / robust_scale) ** 2) - 1)
    cost = (weights * loss).sum(-1)
    return np.where(np.isfinite(cost), cost, np.inf)
