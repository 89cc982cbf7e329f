"""How far predictions of a law are off: for a model that it has not seen, and for one whose level it knows.

Both are standard deviations of ln D, D being what the form predicts on top of a model's own original (or, of a form
that is not anchored, the whole loss): errors in adjusted accuracy grow with the damage, and those of ln D do not. What
items alone explain is taken off.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.fit import LawFit, families_of
from stratalaw.laws.forms import Form
from stratalaw.laws.holdout import best_fits
from stratalaw.laws.rows import Rows, rows_of
from stratalaw.study.variants import BASELINE_BITS

UNKNOWN = float(np.log(2))  # the spread where too few models tell it: a factor of two in the damage
FEWEST = 3  # models that tell a spread


@dataclass(frozen=True)
class Scatter:
    """Of one law.

    ``between``: of a model that was not fitted, from models left out in turn; ``within``: of a row of a model whose own
    level is known; ``models``: that both rest on; ``noise``: median standard error of a row, in adjusted accuracy;
    ``original``: standard deviation of ln(-ln a16) around its line over ln N, from models left out in turn.
    """

    stratum: str
    form: str
    between: float
    within: float
    models: int
    noise: float
    original: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def scatter_of(law: LawFit, table: pd.DataFrame, accuracies: pd.DataFrame) -> Scatter:
    """The scatter of a law.

    Args:
        law: fitted to the table's rows.
        table: those rows.
        accuracies: all rows of the stratum, originals included.
    """
    rows = law.rows_of(table)
    models = table.model.nunique()
    return Scatter(
        stratum=law.stratum,
        form=law.form.name,
        between=between_models(law.form, table) if models >= FEWEST else UNKNOWN,
        within=within_models(law, rows),
        models=models,
        noise=float(np.nan_to_num(np.nanmedian(rows.stderr))) if np.isfinite(rows.stderr).any() else 0.0,
        original=spread_of_originals(accuracies),
    )


def damage_and_slope(
    form: Form, fitted: NDArray[np.float64], rows: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted adjusted accuracy, and its derivative by ln D."""
    accuracy = form.accuracy(fitted, rows.factors)
    loss = -np.log(np.clip(accuracy, 1e-300, 1.0))
    floor = rows.factors["F"] if form.is_anchored else 0.0
    return accuracy, -accuracy * np.maximum(loss - floor, 0.0)


def between_models(form: Form, table: pd.DataFrame) -> float:
    """Root mean square error of ln D over models left out in turn."""
    models = table.model.unique()
    families = families_of(table)
    found = []
    for model in models:
        mask = (table.model == model).to_numpy()
        known = [name for name in families if (table.family[~mask] == name).any()]
        plain = form.unpooled().without(rows_of(table[~mask]).constant).pooled(known)
        rows = rows_of(table, families=known)
        fitted = best_fits(plain, rows, ~mask[None])[0]
        accuracy, slope = damage_and_slope(plain, fitted, rows)
        found.append(_variance(rows, accuracy, slope, mask))
    return float(np.sqrt(np.nanmean(found)))


def within_models(law: LawFit, rows: Rows) -> float:
    """Root mean square error of ln D once the level of each model is known."""
    total, weight, spare = 0.0, 0.0, 0
    for model in rows.table.model.unique():
        own = rows_of(rows.table[rows.table.model == model], law.reference_size, law.form.families)
        shift, _ = own_shift(law, own, prior=UNKNOWN * 10)
        accuracy, slope = shifted(law, own, shift)
        noise = np.nan_to_num(own.stderr)
        total += float(((own.accuracy - accuracy) ** 2 - noise**2).sum())
        weight += float((slope**2).sum())
        spare += len(own)
    freedom = max(spare - len(law.fitted), 1) / max(spare, 1)
    return float(np.sqrt(max(total, 0.0) / freedom / weight)) if weight > 0 else UNKNOWN


def _variance(
    rows: Rows, accuracy: NDArray[np.float64], slope: NDArray[np.float64], chosen: NDArray[np.bool_]
) -> float:
    residual, noise = rows.accuracy - accuracy, np.nan_to_num(rows.stderr)
    excess = float((residual**2 - noise**2)[chosen].sum())
    weight = float((slope**2)[chosen].sum())
    return max(excess, 0.0) / weight if weight > 0 else np.nan


def shifted(law: LawFit, rows: Rows, shift: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Predicted adjusted accuracy and its derivative by ln D, with ln D shifted."""
    accuracy, slope = damage_and_slope(law.form, law.fitted, rows)
    damage = np.divide(-slope, accuracy, out=np.zeros_like(slope), where=accuracy > 0)
    moved = accuracy * np.exp(-damage * np.expm1(shift))
    return moved, -moved * damage * np.exp(shift)


def own_shift(law: LawFit, rows: Rows, prior: float, within: float = 0.0) -> tuple[float, float]:
    """By how much ln D of one model lies above the law, and the standard error, from the model's own rows.

    The mode under a normal prior with the standard deviation ``prior`` (what models differ by), by Gauss and Newton.
    """
    noise = np.maximum(np.nan_to_num(rows.stderr), 0.005)
    shift, precision = 0.0, 0.0
    for _ in range(20):
        accuracy, slope = shifted(law, rows, shift)
        variance = noise**2 + (slope * within) ** 2
        precision = float((slope**2 / variance).sum()) + 1 / prior**2
        step = (float((slope * (rows.accuracy - accuracy) / variance).sum()) - shift / prior**2) / precision
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-6:
            break
    return shift, float(np.sqrt(1 / precision))


def line_of_originals(accuracies: pd.DataFrame) -> tuple[float, float]:
    """Intercept and slope of ln(-ln a16) over ln N; not numbers where no original has such a logarithm."""
    x, y = _originals(accuracies)
    if not len(x):
        return float("nan"), float("nan")
    if np.ptp(x) < 1e-9:
        return float(y.mean()), 0.0
    slope, intercept = np.polyfit(x, y, 1)
    return float(intercept), float(slope)


def spread_of_originals(accuracies: pd.DataFrame) -> float:
    """Standard deviation of ln(-ln a16) around the line of the other models; ln 2 where fewer than three tell it."""
    x, y = _originals(accuracies)
    if len(x) < FEWEST or np.ptp(x) < 1e-9:
        return UNKNOWN
    errors = []
    for place in range(len(x)):
        others = np.arange(len(x)) != place
        degree = 1 if np.ptp(x[others]) > 1e-9 else 0
        errors.append(y[place] - np.polyval(np.polyfit(x[others], y[others], degree), x[place]))
    return float(np.sqrt(np.mean(np.square(errors))))


def _originals(accuracies: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = accuracies[accuracies.bits >= BASELINE_BITS]
    means = table.groupby("model", sort=False)[["n_params", "accuracy_adjusted"]].mean()
    a = means.accuracy_adjusted.to_numpy(float)
    inside = (a > 0) & (a < 1)
    return np.log(means.n_params.to_numpy(float)[inside]), np.log(-np.log(a[inside]))
