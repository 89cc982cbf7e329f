"""Does a law predict what it has not seen? Forms are compared by what they say of held-out sizes and bit-widths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.laws.fit import adjusted_r_squared, robust_scale
from stratalaw.laws.forms import FORMS, Form
from stratalaw.laws.gauss_newton import solve
from stratalaw.laws.rows import Rows

STARTS = 6
LARGEST, EACH_SIZE, EACH_BITS, FAMILY = "largest size", "each size", "each bit-width", "other families"
LEVEL = 0.95


def hold_outs(rows: Rows, own: np.ndarray) -> dict[str, list[np.ndarray]]:
    """What is held out together, as masks of rows, by scheme; ``own``: the rows of the family that is fitted."""
    sizes, bits = rows.factors["N"], rows.factors["B"]
    schemes = {}
    if len(np.unique(sizes[own])) > 2:
        schemes[LARGEST] = [own & (sizes == sizes[own].max())]
        schemes[EACH_SIZE] = [own & (sizes == size) for size in np.unique(sizes[own])]
    if len(np.unique(bits[own])) > 2:
        schemes[EACH_BITS] = [own & (bits == width) for width in np.unique(bits[own])]
    if not own.all():
        schemes[FAMILY] = [~own]
    return schemes


@dataclass(frozen=True)
class Baseline:
    """What a law must beat: ``mean`` knows no factor, ``size-bits-table`` the mean of each size and bit-width.

    The table answers for a size or bit-width that it has not seen with the nearest one that it has.
    """

    name: str
    title: str

    def n_parameters(self, rows: Rows, own: np.ndarray) -> int:
        return 1 if self.name == "mean" else len(np.unique(self._cells(rows)[own], axis=0))

    @staticmethod
    def _cells(rows: Rows) -> np.ndarray:
        return np.stack([np.log(rows.factors["N"]), np.log(rows.factors["B"])], axis=1)

    def predict(self, rows: Rows, known: np.ndarray) -> np.ndarray:
        """Adjusted accuracy of every row, from the rows in the mask ``known``."""
        accuracy = rows.accuracy
        if self.name == "mean":
            return np.full(len(rows), accuracy[known].mean())
        cells = self._cells(rows)
        seen, place = np.unique(cells[known], axis=0, return_inverse=True)
        means = np.bincount(place, weights=accuracy[known]) / np.bincount(place)
        distance = np.abs(cells[:, None] - seen[None]).sum(-1)
        return means[distance.argmin(1)]


BASELINES = (Baseline("mean", "the mean"), Baseline("size-bits-table", "a table of size and bits"))
HOW_COMPARED = (
    "Forms of the law on the same rows (3 bits and more, collapsed variants included), fitted in accuracy space and "
    "compared by what they predict for sizes and bit-widths that they were not fitted to (held-out models take part "
    "here). Errors are mean absolute errors in adjusted accuracy; the table also has the largest error and the "
    f"coverage of {LEVEL:.0%} prediction intervals. Baselines that a law must beat: "
    f"{' and '.join(baseline.title for baseline in BASELINES)}."
)


def compare(rows: Rows, forms: Sequence[Form] = FORMS, own: np.ndarray | None = None) -> pd.DataFrame:
    """Every form and baseline on the same rows, the best first (by the error for each size in turn, then AICc).

    ``own`` (rows,): the rows of the family that is fitted, all if not given; other families are only predicted.

    Columns: form, title, n_parameters, aicc, adjusted_r_squared and mae (of the fitted rows), and for each scheme
    ``mae``, ``max`` and ``coverage`` (of the 95 % prediction intervals) of held-out rows. Errors are in adjusted
    accuracy.
    """
    own = np.ones(len(rows), bool) if own is None else own
    schemes = hold_outs(rows, own)
    usable = [form.without(rows.constant) for form in forms if _has_factors(form, rows)]
    records = [_record_of_form(form, rows, own, schemes) for form in usable]
    records += [_record_of_baseline(baseline, rows, own, schemes) for baseline in BASELINES]
    table = pd.DataFrame(records)
    order = [name for name in (f"{EACH_SIZE} mae", "aicc") if name in table]
    return table.sort_values(order, ignore_index=True)


def _has_factors(form: Form, rows: Rows) -> bool:
    """Whether the form's factors are there, apart from those whose effects can be left out."""
    return all(np.isfinite(rows.factors[factor]).all() for factor in form.without(rows.constant).factors)


def predict_held_out(form: Form, rows: Rows) -> pd.DataFrame:
    """Every row as the fit to the other sizes predicts it: model, variant, bits, observed and predicted.

    Raises ValueError when there are fewer than three sizes.
    """
    everything = np.ones(len(rows), bool)
    masks = hold_outs(rows, everything).get(EACH_SIZE)
    if masks is None:
        raise ValueError("holding out each size needs three sizes or more")
    form = form.without(rows.constant)
    prediction, _ = form.evaluate(_fit_without(form, rows, everything, masks), rows.factors)
    about = rows.table[["model", "variant", "bits"]].reset_index(drop=True)
    return about.assign(observed=rows.accuracy, predicted=(np.array(masks) * prediction).sum(0), form=form.name)


def _fit_without(form: Form, rows: Rows, own: np.ndarray, masks: Sequence[np.ndarray]) -> np.ndarray:
    """Fitted parameters without the rows of each mask, shape (masks, p); the best of several starts."""
    starts = form.starts(STARTS)
    weights = np.repeat(own & ~np.array(masks), len(starts), axis=0).astype(float)
    solved = solve(form, rows.factors, rows.accuracy, weights, np.tile(starts, (len(masks), 1)), robust_scale(rows))
    best = solved.cost.reshape(len(masks), len(starts)).argmin(1)
    return solved.fitted.reshape(len(masks), len(starts), -1)[np.arange(len(masks)), best]


def _record_of_form(form: Form, rows: Rows, own: np.ndarray, schemes: Mapping[str, list[np.ndarray]]) -> dict:
    masks = [np.zeros(len(rows), bool), *(mask for part in schemes.values() for mask in part)]
    prediction, jacobian = form.evaluate(_fit_without(form, rows, own, masks), rows.factors)
    known = own & ~np.array(masks)
    half = np.stack([_half_interval(rows, *parts) for parts in zip(known, prediction, jacobian, strict=True)])
    record = {"form": form.name, "title": form.title, **_in_sample(rows, own, prediction[0], len(form.parameters))}
    return record | _held_out(rows, schemes, prediction[1:], half[1:])


def _half_interval(rows: Rows, known: np.ndarray, prediction: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """Half the width of a 95 % interval for a new observation at each row, from the rows that are known."""
    freedom = max(int(known.sum()) - jacobian.shape[1], 1)
    variance = ((rows.accuracy - prediction)[known] ** 2).sum() / freedom
    covariance = variance * np.linalg.pinv(jacobian[known].T @ jacobian[known])
    spread = np.einsum("rp,pq,rq->r", jacobian, covariance, jacobian) + variance
    return stats.t.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(np.maximum(spread, 0))


def _record_of_baseline(
    baseline: Baseline, rows: Rows, own: np.ndarray, schemes: Mapping[str, list[np.ndarray]]
) -> dict:
    masks = [np.zeros(len(rows), bool), *(mask for part in schemes.values() for mask in part)]
    predictions, halves = [], []
    for mask in masks:
        known = own & ~mask
        prediction = baseline.predict(rows, known)
        variance = ((rows.accuracy - prediction)[known] ** 2).mean()
        predictions.append(prediction)
        halves.append(np.full(len(rows), stats.norm.ppf((1 + LEVEL) / 2) * np.sqrt(variance)))
    record = {"form": baseline.name, "title": baseline.title}
    record |= _in_sample(rows, own, predictions[0], baseline.n_parameters(rows, own))
    return record | _held_out(rows, schemes, np.array(predictions[1:]), np.array(halves[1:]))


def _in_sample(rows: Rows, own: np.ndarray, prediction: np.ndarray, n_parameters: int) -> dict:
    residual = (rows.accuracy - prediction)[own]
    return {
        "n_parameters": n_parameters,
        "aicc": aicc(residual, n_parameters),
        "adjusted_r_squared": adjusted_r_squared(rows.accuracy[own], prediction[own], n_parameters),
        "mae": float(np.abs(residual).mean()),
    }


def aicc(residual: np.ndarray, n_parameters: int) -> float:
    """Akaike's criterion for normal errors, corrected for small samples; the variance counts as a parameter."""
    n, k = len(residual), n_parameters + 1
    if n <= k + 1:
        return float("inf")
    return float(n * np.log((residual**2).mean()) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def _held_out(rows: Rows, schemes: Mapping[str, list[np.ndarray]], prediction: np.ndarray, half: np.ndarray) -> dict:
    record, start = {}, 0
    for name, masks in schemes.items():
        stop = start + len(masks)
        held_out = np.array(masks)
        error = np.abs(rows.accuracy - prediction[start:stop])[held_out]
        record |= {
            f"{name} mae": float(error.mean()),
            f"{name} max": float(error.max()),
            f"{name} coverage": float((error <= half[start:stop][held_out]).mean()),
        }
        start = stop
    return record
