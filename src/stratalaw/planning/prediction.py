"""Accuracy of variants that may never have been measured, with intervals that hold for new sizes too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.fit import LawFit
from stratalaw.study.variants import Quantization

BITS_OF_A_SCALE = 16
SAME_SIZE = 0.01  # relative difference below which a size counts as one that was fitted


class PredictionError(StratalawError):
    """A prediction that cannot be made; the message says why in one line."""


@dataclass(frozen=True)
class Predictor:
    """The law of one stratum that does best on held-out sizes, and how far off it was there.

    ``held_out_stderr``: root mean square error on sizes that were not fitted, in adjusted accuracy; NaN where fewer
    than three sizes were studied; ``n_sizes``: sizes that it rests on.
    """

    law: LawFit
    held_out_stderr: float
    n_sizes: int

    def predict(self, points: pd.DataFrame, level: float) -> pd.DataFrame:
        """Accuracy at points (see ``points_of``): accuracy, low, high, and outside (what lies beyond the fitted range).

        Between fitted sizes and beyond them, the interval is as wide as the errors on held-out sizes, whose rows share
        one error: it has as many degrees of freedom as there are sizes, less one.
        """
        law = self.law
        adjusted = law.predict(points).to_numpy()
        half = (law.prediction_interval(points, level).high - adjusted).to_numpy()
        if np.isfinite(self.held_out_stderr):
            quantile = stats.t.ppf((1 + level) / 2, max(self.n_sizes - 1, 1))
            half = np.where(self._is_new_size(points), np.maximum(half, quantile * self.held_out_stderr), half)
        found = {"accuracy": adjusted, "low": adjusted - half, "high": adjusted + half}
        natural = {name: np.clip(law.chance + (1 - law.chance) * part, 0, 1) for name, part in found.items()}
        return pd.DataFrame({**natural, "outside": self._outside(points)}, index=points.index)

    def _is_new_size(self, points: pd.DataFrame) -> np.ndarray:
        sizes = np.array(self.law.levels["n_params"])
        distance = np.abs(np.log(points.n_params.to_numpy(float)[:, None] / sizes))
        return distance.min(axis=1) > SAME_SIZE

    def _outside(self, points: pd.DataFrame) -> list[str]:
        outside = [[] for _ in range(len(points))]
        for name, levels in self.law.levels.items():
            lowest, highest = min(levels) * (1 - SAME_SIZE), max(levels) * (1 + SAME_SIZE)
            for i, value in enumerate(points[name]):
                if not lowest <= value <= highest:
                    outside[i].append(name)
        return [", ".join(names) for names in outside]


def points_of(n_params: float, quantizations: Sequence[Quantization]) -> pd.DataFrame:
    """Points at which laws predict: n_params, bits, effective_bits, group_size, calibration_size."""
    rows = [
        {
            "n_params": float(n_params),
            "bits": float(quantization.bits),
            "effective_bits": quantization.bits + (BITS_OF_A_SCALE + quantization.bits) / quantization.group_size,
            "group_size": float(quantization.group_size),
            "calibration_size": float(quantization.calibration_size),
        }
        for quantization in quantizations
    ]
    return pd.DataFrame(rows)


def predictors(analysis: Analysis) -> dict[str, Predictor]:
    """Of each stratum the form with the smallest error on held-out sizes."""
    found = {}
    for law in analysis.laws:
        fits = {
            fit.form.name: fit for fit in analysis.fits if fit.stratum == law.stratum and fit.estimator == "accuracy"
        }
        ranked = analysis.forms[analysis.forms.stratum == law.stratum].form
        best = next((fits[name] for name in ranked if name in fits), law)
        held_out = analysis.held_out
        if len(held_out):
            held_out = held_out[(held_out.stratum == law.stratum) & (held_out.form == best.form.name)]
        error = np.sqrt(((held_out.observed - held_out.predicted) ** 2).mean()) if len(held_out) else np.nan
        found[law.stratum] = Predictor(best, float(error), len(best.levels["n_params"]))
    return found


def predict(
    analysis: Analysis, n_params: float, quantizations: Sequence[Quantization], level: float = 0.95
) -> pd.DataFrame:
    """Accuracy of variants of a model in each stratum.

    Columns: variant, stratum, form, accuracy, low, high, outside (factors beyond the fitted range; empty for none).

    Raises:
        PredictionError: a group size of -1, which the laws do not know.
    """
    if any(quantization.group_size < 0 for quantization in quantizations):
        raise PredictionError("the laws know no group size of -1 (whole rows); give a number of input features")
    points = points_of(n_params, quantizations)
    tables = [
        predictor.predict(points, level).assign(
            variant=[quantization.name for quantization in quantizations],
            stratum=stratum,
            form=predictor.law.form.name,
        )
        for stratum, predictor in predictors(analysis).items()
    ]
    columns = ["variant", "stratum", "form", "accuracy", "low", "high", "outside"]
    return pd.concat(tables, ignore_index=True)[columns]
