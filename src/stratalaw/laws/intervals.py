"""Intervals of the parameters of laws, by every method: how far they differ says how far to trust any of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.exponents import ACCURACY, OF_MODELS, Panel, exponents_of_models, levels_of_models, slope_over_sizes
from stratalaw.laws.exponents import mean_over_models as mean_of
from stratalaw.laws.fit import LawFit, fit_law, with_cluster_covariance
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.noise import NoiseDraws
from stratalaw.laws.resampling import percentile_intervals, profile_curve, profile_interval, refit
from stratalaw.laws.rows import Rows, reasons_to_leave_out

BOTH = "models and items resampled"
REGRESSION = "regression (HC3)"
OVER_MODELS = "t over models"


def used_rows(
    accuracies: pd.DataFrame, stratum: str, keep_two_bits: bool = False, keep_collapsed: bool = False
) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """The rows of a stratum that are fitted, and which of the stratum's rows they are."""
    rows = accuracies[accuracies.stratum == stratum]
    used = (reasons_to_leave_out(rows, keep_two_bits, keep_collapsed) == "").to_numpy()
    return rows[used], used


def intervals_of(accuracies: pd.DataFrame, law: LawFit, fits: Sequence[LawFit], noise: NoiseDraws) -> pd.DataFrame:
    """95 % intervals: of the paper's law by every method, of its rivals by resampling models and items.

    Columns: parameter, low, high, form, method, value, stratum.
    """
    table, used = used_rows(accuracies, law.stratum)
    rows = law.rows_of(table)
    weights = noise.weights(table)
    drawn = noise.of(law.stratum)[:, used]
    found = [
        (law, REGRESSION, law.conf_int()),
        *_other_regressions(accuracies, law, rows),
        (law, "models resampled", percentile_intervals(law, refit(law, rows, weights))),
        (law, "items resampled", percentile_intervals(law, refit(law, rows, np.ones_like(drawn), drawn))),
        (law, BOTH, percentile_intervals(law, refit(law, rows, weights, drawn))),
    ]
    for fit in (fit for fit in fits if fit.stratum == law.stratum):
        if fit.estimator == "likelihood":
            found.append((fit, "profile likelihood", _profiles(accuracies, fit)))
        elif fit.form.name == PAPER_LAW.name:
            found.append((fit, "accuracy space (HC3)", fit.conf_int()))
        else:
            of_form, usable = used_rows(accuracies, law.stratum, keep_collapsed=True)
            resampled = refit(fit, fit.rows_of(of_form), noise.weights(of_form), noise.of(law.stratum)[:, usable])
            found.append((fit, BOTH, percentile_intervals(fit, resampled)))
    parts = [
        intervals.rename_axis("parameter")
        .reset_index()
        .assign(form=fit.form.name, method=method, value=fit.params.to_numpy())
        for fit, method, intervals in found
    ]
    parts.append(over_models(accuracies, law.stratum, ACCURACY).assign(form=PAPER_LAW.name, method=OVER_MODELS))
    return pd.concat([part for part in parts if len(part)], ignore_index=True).assign(stratum=law.stratum)


def over_models(accuracies: pd.DataFrame, stratum: str, scale: str) -> pd.DataFrame:
    """Mean of the exponents of single models (of alpha: slope of their levels) with Student's t interval.

    Columns: parameter, value, low, high, models; exponents that fewer than two models can tell are left out.
    """
    panel = Panel.observed(accuracies[accuracies.stratum == stratum])
    models = panel.models
    estimates = {}
    if scale == ACCURACY:
        levels, sizes = levels_of_models(panel, stratum)[0], np.log(models.n_params.to_numpy(float))
        estimates["alpha"] = (slope_over_sizes(levels, sizes, models.family), int(np.isfinite(levels).sum()))
    exponents = exponents_of_models(panel, stratum, scale)
    for name in OF_MODELS[scale]:
        estimates[name] = (mean_of(exponents[name][0]), int(np.isfinite(exponents[name][0]).sum()))
    rows = []
    for name, (estimate, count) in estimates.items():
        if estimate.freedom > 0 and np.isfinite(estimate.stderr):
            low, high = estimate.interval()
            rows.append({"parameter": name, "value": estimate.value, "low": low, "high": high, "models": count})
    return pd.DataFrame(rows, columns=["parameter", "value", "low", "high", "models"])


def model_exponents(accuracies: pd.DataFrame, strata: Sequence[str]) -> pd.DataFrame:
    """Exponents of every model by itself: stratum, scale, exponent, model, family, n_params, value."""
    panel = Panel.observed(accuracies)
    models = panel.models
    parts = [
        models.assign(stratum=stratum, scale=scale, exponent=name, value=values[0])
        for stratum in strata
        for scale in OF_MODELS
        for name, values in exponents_of_models(panel, stratum, scale).items()
    ]
    columns = ["stratum", "scale", "exponent", "model", "family", "n_params", "value"]
    return pd.concat(parts, ignore_index=True)[columns].dropna(subset="value", ignore_index=True)


def _other_regressions(accuracies: pd.DataFrame, law: LawFit, rows: Rows) -> list[tuple[LawFit, str, pd.DataFrame]]:
    """The regression with errors that rows of a model share, and with weights, where the table allows them."""
    found = []
    models = np.unique(rows.table.model, return_inverse=True)[1]
    if models.max() > 0:
        found.append((law, "regression (clusters)", with_cluster_covariance(law, rows, models).conf_int()))
    if np.isfinite(rows.stderr).all():
        weighted = fit_law(accuracies, PAPER_LAW, law.stratum, "weighted-logarithm")
        found.append((weighted, "weighted regression (HC3)", weighted.conf_int()))
    return found


def _likelihood_rows(accuracies: pd.DataFrame, fit: LawFit) -> Rows:
    """The rows that ``likelihood`` fits: 2 bits and collapsed variants too."""
    return fit.rows_of(used_rows(accuracies, fit.stratum, keep_two_bits=True, keep_collapsed=True)[0])


def _profiles(accuracies: pd.DataFrame, fit: LawFit) -> pd.DataFrame:
    rows = _likelihood_rows(accuracies, fit)
    bounds = [profile_interval(fit, rows, name) for name in fit.params.index]
    return pd.DataFrame(bounds, index=fit.params.index, columns=["low", "high"])


def profile_curves(accuracies: pd.DataFrame, fit: LawFit) -> pd.DataFrame:
    """The profile of each parameter's likelihood: parameter, value, lost, stratum."""
    rows = _likelihood_rows(accuracies, fit)
    return pd.concat([profile_curve(fit, rows, name) for name in fit.params.index]).assign(stratum=fit.stratum)
