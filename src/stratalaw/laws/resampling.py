"""How sure the parameters are: resampled models, resampled items, and profiles of the likelihood.

Rows of one model share what the law misses of it, whatever calibration set made them, so models are drawn whole (a
cluster bootstrap); the same draws serve every stratum, so that differences between strata can be read off. Every
variant answers the same items, so items are drawn jointly over all variants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2

from stratalaw.laws import beta_binomial
from stratalaw.laws.fit import LawFit, robust_scale
from stratalaw.laws.gauss_newton import solve
from stratalaw.laws.rows import Rows

FLAT = 1e-10  # a second derivative that says nothing
PROFILE_GRADIENT = 1e-6  # by item; at a curvature of 1e-2 by item, 1,000,000 items lose less than 1e-4 to it
Lost = Callable[[float, NDArray[np.float64]], tuple[float, NDArray[np.float64]]]
RESAMPLES = 1000
FEW_MODELS = 10


def model_weights(
    table: pd.DataFrame, models: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """How often each row is drawn in each resample, shape (resamples, rows).

    Args:
        table: rows of some of the models, column model.
        models: all that are drawn from; tables of the same study are resampled alike, whatever they leave out.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    names = np.unique(models)
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    return draws[:, np.searchsorted(names, table.model.to_numpy(str))].astype(float)


def refit(
    fit: LawFit, rows: Rows, weights: NDArray[np.float64], accuracy: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """The fitted parameters under other weights or accuracies, shape (resamples, p); NaN where they are undetermined.

    Args:
        fit: the fit to repeat, by ``logarithm`` or ``accuracy``.
        rows: those that it was fitted to.
        weights: shape (resamples, rows).
        accuracy: adjusted accuracies, shape (resamples, rows); the rows' own if not given.
    """
    accuracy = np.broadcast_to(rows.accuracy if accuracy is None else accuracy, weights.shape)
    if fit.estimator == "logarithm":
        found = _weighted_regressions(fit.form.log_design(rows.factors), accuracy, weights)
    else:
        starts = np.tile(fit.fitted, (len(weights), 1))
        solved = solve(fit.form, rows.factors, accuracy, weights, starts, robust_scale(rows))
        found = np.where(solved.converged[:, None], solved.fitted, np.nan)
    if "N" in fit.form.factors:
        # With one size, an exponent of the size is anything.
        sizes, place = np.unique(rows.factors["N"], return_inverse=True)
        drawn = np.stack([weights[:, place == i].sum(1) > 0 for i in range(len(sizes))], axis=1).sum(1)
        found = np.where((drawn > 1)[:, None], found, np.nan)
    return found


def _weighted_regressions(
    design: NDArray[np.float64], accuracy: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    usable = (accuracy > 0) & (accuracy < 1)
    response = np.log(-np.log(np.where(usable, accuracy, 0.5)))
    weights = weights * usable
    normal = np.einsum("br,rp,rq->bpq", weights, design, design)
    right = np.einsum("br,br,rp->bp", weights, response, design)
    determined = np.linalg.cond(normal) < 1e12
    normal[~determined] = np.eye(design.shape[1])
    return np.where(determined[:, None], np.linalg.solve(normal, right[..., None])[..., 0], np.nan)


def percentile_intervals(fit: LawFit, resampled: NDArray[np.float64], level: float = 0.95) -> pd.DataFrame:
    """Percentile intervals of the parameters, columns low and high."""
    tails = [50 * (1 - level), 50 * (1 + level)]
    bounds = fit.form.to_natural(np.nanpercentile(resampled, tails, axis=0))
    return pd.DataFrame(bounds.T, index=fit.params.index, columns=["low", "high"])


def binomial_draws(rows: Rows, resamples: int = RESAMPLES, seed: int | Sequence[int] = 0) -> NDArray[np.float64]:
    """Adjusted accuracies as other items could have given them, row by row, shape (resamples, rows).

    Rows whose standard error is not known stay as they are.
    """
    noise = np.random.default_rng(seed).normal(size=(resamples, len(rows)))
    return rows.accuracy + noise * np.nan_to_num(rows.stderr)


def item_draws(
    rows: Rows, items: pd.DataFrame, chance: dict[str, float], resamples: int = RESAMPLES, seed: int = 0
) -> NDArray[np.float64]:
    """Adjusted accuracies on resampled items, the same items for all rows, shape (resamples, rows).

    Args:
        rows: of one stratum, or of "general".
        items: one row for each item: model, variant, stratum, task, document, score; only the stratum's are used.
        chance: of each task.
    """
    identity = pd.MultiIndex.from_frame(rows.table[["model", "variant"]])
    generator = np.random.default_rng(seed)
    strata = []
    for _, of_stratum in items.groupby("stratum", sort=False, observed=True):
        tasks = []
        for task, part in of_stratum.groupby("task", sort=False, observed=True):
            scores = (
                part.astype({"model": str, "variant": str})
                .pivot(index=["model", "variant"], columns="document", values="score")
                .loc[identity]
                .to_numpy()
            )
            count = scores.shape[1]
            drawn = generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
            tasks.append((drawn @ scores.T - chance[str(task)]) / (1 - chance[str(task)]))
        strata.append(np.mean(tasks, axis=0))
    found: NDArray[np.float64] = np.mean(strata, axis=0)
    return found


def profile_interval(fit: LawFit, rows: Rows, parameter: str, level: float = 0.95) -> tuple[float, float]:
    """Interval of one parameter by its profile likelihood: all values that the best of the others can still explain.

    Args:
        fit: by ``likelihood``.
        rows: those that it was fitted to.

    An end that the data do not bound is infinite (for positive parameters: 0 or infinite).
    """
    lost, best, index, spread = _profile(fit, rows, parameter)
    ends = [_end(lost, best, index, sign * spread, chi2.ppf(level, 1)) for sign in (-1, 1)]
    is_positive = fit.form.parameters[index].positive
    low, high = (float(np.exp(end)) if is_positive else float(end) for end in ends)
    return low, high


def profile_curve(fit: LawFit, rows: Rows, parameter: str, points: int = 13, reach: float = 3.0) -> pd.DataFrame:
    """The profile of one parameter within ``reach`` standard errors: value and lost (twice the log-likelihood)."""
    lost, best, index, spread = _profile(fit, rows, parameter)
    values, costs = best[index] + spread * np.linspace(-reach, reach, points), np.empty(points)
    for side in (range(points // 2, points), range(points // 2, -1, -1)):  # outwards, each from its neighbour
        found = best
        for place in side:
            costs[place], found = lost(values[place], found)
    natural = np.exp(values) if fit.form.parameters[index].positive else values
    return pd.DataFrame({"parameter": parameter, "value": natural, "lost": costs})


def _profile(fit: LawFit, rows: Rows, parameter: str) -> tuple[Lost, NDArray[np.float64], int, float]:
    """What fixing a parameter costs, as a function; the maximum; the parameter's place in it; its standard error."""
    counts = beta_binomial.counts_of(rows)
    index = list(fit.params.index).index(parameter)
    best = np.append(fit.fitted, np.log(1 / fit.diagnostics["overdispersion"] - 1))
    scale = counts.items.sum()
    curvature = beta_binomial.hessian(
        lambda theta: -beta_binomial.log_likelihood(fit.form, rows.factors, counts, theta)[1] / scale, best
    )
    inverse = _inverse(np.delete(np.delete(curvature, index, axis=0), index, axis=1))
    # How the best others move with the parameter, as far as the likelihood is a parabola.
    slope = 0.0 if inverse is None else -inverse @ np.delete(curvature[:, index], index)

    def lost(value: float, near: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Twice the log-likelihood that fixing the parameter costs, and the best parameters; ``near``: those found
        for another value."""
        others = np.delete(near, index) + slope * (value - near[index])

        def loss(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            theta = np.insert(free, index, value)
            likelihood, gradient = beta_binomial.log_likelihood(fit.form, rows.factors, counts, theta)
            return -likelihood / scale, -np.delete(gradient, index) / scale

        found = beta_binomial.minimize_with_gradient(loss, others, tolerance=PROFILE_GRADIENT, curvature=inverse)
        return 2 * (found.fun * scale + fit.diagnostics["log_likelihood"]), np.insert(found.x, index, value)

    variance = float(fit.covariance[index, index])
    return lost, best, index, np.sqrt(variance) if variance > 0 else 1.0


def _inverse(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The inverse, exactly symmetric as an optimizer wants it; none where some direction is flat."""
    if not np.isfinite(matrix).all() or not (np.linalg.eigvalsh(matrix) > FLAT).all():
        return None
    found = np.linalg.inv(matrix)
    return np.asarray((found + found.T) / 2, dtype=float)


def _end(lost: Lost, best: NDArray[np.float64], index: int, step: float, threshold: float) -> float:
    """Where the profile crosses the threshold in the direction of ``step``."""
    near, centre = best, best[index]
    inside, outside = 0.0, 2.0
    while True:
        cost, found = lost(centre + outside * step, near)
        if cost > threshold:
            break
        inside, near = outside, found
        outside *= 2
        if outside > 64:
            return float(np.sign(step) * np.inf)
    if lost(centre + inside * step, near)[0] >= threshold:  # an optimizer's noise at the edge
        return float(centre + inside * step)
    crossing = brentq(lambda width: lost(centre + width * step, near)[0] - threshold, inside, outside, xtol=1e-3)
    return float(centre + crossing * step)
