"""Does a law predict what it has not seen? Forms are compared by what they say of held-out sizes and bit-widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stratalaw.laws.baselines import BASELINES, Baseline
from stratalaw.laws.comparison import EACH_BITS, EACH_FAMILY, EACH_SIZE, LARGEST, Comparison, Errors, ranked
from stratalaw.laws.fit import adjusted_r_squared, robust_scale
from stratalaw.laws.forms import FORMS, Form
from stratalaw.laws.gauss_newton import solve
from stratalaw.laws.rows import Rows, rows_of

STARTS = 6
LEVEL = 0.95
HOW_COMPARED = (
    "Forms of the law on the same rows (3 bits and more, collapsed variants included), fitted in accuracy space and "
    "compared by what they predict for sizes, bit-widths and families that they were not fitted to (held-out models "
    "take part here). Errors are mean absolute errors in adjusted accuracy; the table also has the largest error and "
    f"the coverage of {LEVEL:.0%} prediction intervals. Baselines that a law must beat: "
    f"{', '.join(baseline.title for baseline in BASELINES)}. An anchored form and a share kept start from the model's "
    "own original, which is measured in any case. Forms that coincide on this table are listed once."
)


class InSample(TypedDict):
    """What a comparison says of the rows that were fitted."""

    n_parameters: int
    aicc: float
    adjusted_r_squared: float
    mae: float


def hold_outs(rows: Rows) -> dict[str, list[NDArray[np.bool_]]]:
    """What is held out together, as masks of rows, by scheme."""
    sizes, bits = rows.factors["N"], rows.factors["B"]
    schemes = {}
    if len(np.unique(sizes)) > 2:
        schemes[LARGEST] = [sizes == sizes.max()]
        schemes[EACH_SIZE] = [sizes == size for size in np.unique(sizes)]
    if len(np.unique(bits)) > 2:
        schemes[EACH_BITS] = [bits == width for width in np.unique(bits)]
    if rows.families:
        of_rows = rows.table.family.to_numpy(str)
        schemes[EACH_FAMILY] = [of_rows == name for name in rows.families]
    return schemes


def compare(rows: Rows, forms: Sequence[Form] = FORMS) -> list[Comparison]:
    """Every form and baseline on the same rows, the best first (see ``comparison.ranked``).

    Forms that coincide on the rows, since a factor does not vary, are listed once.
    """
    schemes = hold_outs(rows)
    found = [_compare_form(form, rows, schemes) for form in distinct_forms(forms, rows)]
    found += [_compare_baseline(baseline, rows, schemes) for baseline in BASELINES if baseline.applies_to(rows)]
    return ranked(found)


def distinct_forms(forms: Sequence[Form], rows: Rows) -> list[Form]:
    """The forms as the rows allow them, without those whose factors are missing and those that equal one before."""
    found: dict[str, Form] = {}
    for form in forms:
        usable = form.without(rows.constant)
        if all(np.isfinite(rows.factors[factor]).all() for factor in usable.factors):
            found.setdefault(str(usable.loss), usable)
    return list(found.values())


def predict_held_out(form: Form, rows: Rows) -> pd.DataFrame:
    """Every row as the fit to the other sizes predicts it: model, variant, bits, observed and predicted.

    Raises ValueError when there are fewer than three sizes.
    """
    masks = hold_outs(rows).get(EACH_SIZE)
    if masks is None:
        raise ValueError("holding out each size needs three sizes or more")
    found = np.full(len(rows), np.nan)
    for mask, _, prediction, _ in _fits_without(form.without(rows.constant), rows, masks):
        found[mask] = prediction[mask]
    about = rows.table[["model", "variant", "bits"]].reset_index(drop=True)
    return about.assign(observed=rows.accuracy, predicted=found, form=form.name)


def _fits_without(
    form: Form, rows: Rows, masks: Sequence[NDArray[np.bool_]]
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]]:
    """For each mask: itself, the rows known without it, and predictions and derivatives of a fit to those.

    A family of which nothing is known is predicted with the mean intercept of the others.
    """
    of_rows = rows.table.family.to_numpy(str) if rows.families else np.zeros(len(rows), str)
    groups: dict[tuple[str, ...], list[NDArray[np.bool_]]] = {}
    for mask in masks:
        families = tuple(name for name in rows.families if (of_rows[~mask] == name).any())
        groups.setdefault(families, []).append(mask)
    for families, members in groups.items():
        pooled, coded = form.pooled(families), rows_of(rows.table, rows.reference_size, families)
        fitted = best_fits(pooled, coded, ~np.array(members))
        predictions, jacobians = pooled.evaluate(fitted, coded.factors)
        for mask, prediction, jacobian in zip(members, predictions, jacobians, strict=True):
            yield mask, ~mask, prediction, jacobian


def best_fits(form: Form, rows: Rows, known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fitted parameters of the known rows of each mask, shape (masks, p); the best of several starts."""
    starts = form.starts(STARTS)
    weights = np.repeat(known, len(starts), axis=0).astype(float)
    solved = solve(form, rows.factors, rows.accuracy, weights, np.tile(starts, (len(known), 1)), robust_scale(rows))
    best = solved.cost.reshape(len(known), len(starts)).argmin(1)
    found: NDArray[np.float64] = solved.fitted.reshape(len(known), len(starts), -1)[np.arange(len(known)), best]
    return found


def _compare_form(form: Form, rows: Rows, schemes: Mapping[str, list[NDArray[np.bool_]]]) -> Comparison:
    ((_, known, prediction, _),) = _fits_without(form, rows, [np.zeros(len(rows), bool)])
    n_parameters = len(form.parameters) + max(len(rows.families) - 1, 0)
    held_out = {}
    for scheme, masks in schemes.items():
        errors, inside = [], []
        for mask, known, predicted, jacobian in _fits_without(form, rows, masks):
            error = np.abs(rows.accuracy - predicted)
            errors.append(error[mask])
            inside.append((error <= _half_interval(rows, known, predicted, jacobian))[mask])
        held_out[scheme] = _errors(errors, inside)
    return Comparison(form.name, form.title, False, **_in_sample(rows, prediction, n_parameters), held_out=held_out)


def _half_interval(
    rows: Rows, known: NDArray[np.bool_], prediction: NDArray[np.float64], jacobian: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Half the width of a 95 % interval for a new observation at each row, from the rows that are known."""
    freedom = max(int(known.sum()) - jacobian.shape[1], 1)
    variance = ((rows.accuracy - prediction)[known] ** 2).sum() / freedom
    covariance = variance * np.linalg.pinv(jacobian[known].T @ jacobian[known])
    spread = np.einsum("rp,pq,rq->r", jacobian, covariance, jacobian) + variance
    half: NDArray[np.float64] = stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(np.maximum(spread, 0))
    return half


def _compare_baseline(baseline: Baseline, rows: Rows, schemes: Mapping[str, list[NDArray[np.bool_]]]) -> Comparison:
    prediction = baseline.predict(rows, np.ones(len(rows), bool))
    held_out = {}
    for scheme, masks in schemes.items():
        errors, inside = [], []
        for mask in masks:
            error = np.abs(rows.accuracy - baseline.predict(rows, ~mask))
            half = stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt((error[~mask] ** 2).mean())
            errors.append(error[mask])
            inside.append(error[mask] <= half)
        held_out[scheme] = _errors(errors, inside)
    about = _in_sample(rows, prediction, baseline.n_parameters(rows))
    return Comparison(baseline.name, baseline.title, True, **about, held_out=held_out)


def _errors(errors: Sequence[NDArray[np.float64]], inside: Sequence[NDArray[np.bool_]]) -> Errors:
    together = np.concatenate(errors)
    return Errors(float(together.mean()), float(together.max()), float(np.concatenate(inside).mean()))


def _in_sample(rows: Rows, prediction: NDArray[np.float64], n_parameters: int) -> InSample:
    residual = rows.accuracy - prediction
    return {
        "n_parameters": n_parameters,
        "aicc": aicc(residual, n_parameters),
        "adjusted_r_squared": adjusted_r_squared(rows.accuracy, prediction, n_parameters),
        "mae": float(np.abs(residual).mean()),
    }


def aicc(residual: NDArray[np.float64], n_parameters: int) -> float:
    """Akaike's criterion for normal errors, corrected for small samples; the variance counts as a parameter."""
    n, k = len(residual), n_parameters + 1
    if n <= k + 1:
        return float("inf")
    return float(n * np.log((residual**2).mean()) + 2 * k + 2 * k * (k + 1) / (n - k - 1))
