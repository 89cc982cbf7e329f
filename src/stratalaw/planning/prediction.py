"""Accuracy of variants: as it was measured, or else as the law predicts it, with intervals that hold for new models.

A prediction starts from the model's own original where that is known (it was in the study, or its accuracy is given),
and takes off the damage that the law predicts, so that a variant is never better than its original. How sure it is
follows from models that were left out in turn (``laws.scatter``), with as many degrees of freedom as there are models,
less one; a bit-width, group size or calibration size that was not fitted widens it, and is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.fit import LawFit
from stratalaw.laws.scatter import Scatter, line_of_originals, own_shift
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME, Quantization
from stratalaw.units import readable_count

BITS_OF_A_SCALE = 16
SAME = 0.01  # relative difference below which two values of a factor are the same
# By how much ln D is less sure per unit of distance from the nearest fitted value: per bit, and per unit of the other
# factors' logarithms. About half of the exponents that studies find.
ALLOWANCES = {"bits": float(np.log(2)), "group_size": 0.25, "calibration_size": 0.1, "n_params": 0.25}
MEASURED = "measured"
PREDICTED = ["variant", "stratum", "form", "accuracy", "low", "high", "outside"]


class PredictionError(StratalawError):
    """A prediction that cannot be made; the message says why in one line."""


@dataclass(frozen=True)
class Original:
    """The original that a prediction starts from: adjusted accuracy, the spread of ln(-ln) of it if it is itself
    predicted, the model's own shift of ln D, and the spread of ln D."""

    accuracy: float
    spread: float
    shift: float
    damage_spread: float


@dataclass(frozen=True)
class Predictor:
    """What predicts one stratum.

    ``law``: the form that does best on held-out sizes, anchored wherever originals were measured; ``scatter``: of it;
    ``measured``: rows of the stratum, as ``Analysis.measured``.
    """

    law: LawFit
    scatter: Scatter
    measured: pd.DataFrame

    def quantile(self, level: float) -> float:
        return float(stats.t.ppf((1 + level) / 2, max(self.scatter.models - 1, 1)))

    def predict(
        self, points: pd.DataFrame, level: float, baseline: float | None = None, model: str = ""
    ) -> pd.DataFrame:
        """Accuracy at points (see ``points_of``): accuracy, low, high, form, and outside.

        Args:
            points: all of one size.
            level: of the intervals.
            baseline: accuracy of the model's original, if it was not in the study.
            model: its name, which tells it from others of the same size.
        """
        law, n_params = self.law, float(points.n_params.iloc[0])
        own = self.rows_of_model(n_params, model) if baseline is None else self.measured[:0]
        original = self.original(n_params, own, baseline)
        floor = -np.log(original.accuracy) if law.form.is_anchored else 0.0
        rows = law.rows_of(points.assign(baseline_loss=0.0, **self._family(own)))
        mid = law.form.accuracy(law.fitted, rows.factors)
        damage = -np.log(np.clip(mid, 1e-300, 1.0)) * np.exp(original.shift)
        spread = np.sqrt(original.damage_spread**2 + self.allowance(points) ** 2)
        quantile, normal = self.quantile(level), float(stats.norm.ppf((1 + level) / 2))
        middle, least, most = (np.exp(-floor - damage * np.exp(sign * quantile * spread)) for sign in (0, 1, -1))
        shifts = [np.exp(-floor * np.exp(sign * quantile * original.spread) - damage) for sign in (1, -1)]
        noise = normal * self.scatter.noise
        low = middle - np.sqrt((middle - least) ** 2 + (middle - shifts[0]) ** 2 + noise**2)
        high = middle + np.sqrt((most - middle) ** 2 + (shifts[1] - middle) ** 2 + noise**2)
        if law.form.is_anchored and original.spread == 0:
            high = np.minimum(high, original.accuracy + noise)
        natural = {
            name: np.clip(law.chance + (1 - law.chance) * part, 0, 1)
            for name, part in (("accuracy", middle), ("low", low), ("high", high))
        }
        found = pd.DataFrame({**natural, "form": law.form.name, "outside": self.outside(points)}, index=points.index)
        return self._with_measured(found, points, own, normal)

    def rows_of_model(self, n_params: float, model: str = "") -> pd.DataFrame:
        """Measured rows of the model of a size and a name, or of the one model of the size; none where no model, or
        more than one, has it."""
        same: pd.DataFrame = self.measured[np.abs(np.log(self.measured.n_params / n_params)) < SAME]
        named = same[same.model == model]
        return named if len(named) else same if same.model.nunique() == 1 else same[:0]

    def predict_original(self, n_params: float, level: float, model: str = "") -> pd.DataFrame:
        """The accuracy of a model's original as ``predict`` has that of a variant: one row, or none where neither it
        nor the law tells."""
        own = self.rows_of_model(n_params, model)
        before, normal = own[own.bits >= BASELINE_BITS], float(stats.norm.ppf((1 + level) / 2))
        if len(before):
            middle = float(before.accuracy_adjusted.mean())
            half = normal * float(np.nan_to_num(before.stderr_adjusted.mean()))
            values, form, outside = [middle, middle - half, middle + half], MEASURED, ""
        else:
            intercept, slope = line_of_originals(self.measured)
            if not np.isfinite(intercept) or not self.law.form.is_anchored:
                return pd.DataFrame(columns=["accuracy", "low", "high", "form", "outside"])
            loss = np.exp(intercept + slope * np.log(n_params))
            factors = np.exp(self.quantile(level) * self.scatter.original * np.array([0, 1, -1]))
            values, form = list(np.exp(-loss * factors)), "line of the originals"
            outside = "n_params" if self.is_beyond_sizes(n_params) else ""
        natural = np.clip(self.law.chance + (1 - self.law.chance) * np.array(values), 0, 1)
        return pd.DataFrame([[*natural, form, outside]], columns=["accuracy", "low", "high", "form", "outside"])

    def is_beyond_sizes(self, n_params: float) -> bool:
        """Whether a size lies beyond those that were fitted."""
        sizes = self.law.levels.get("n_params", [n_params])
        return float(np.log(n_params / max(sizes))) > SAME or float(np.log(min(sizes) / n_params)) > SAME

    def why_unknown(self, n_params: float, model: str = "") -> str:
        """Why nothing can be said of a model whose original's accuracy is not given; empty if something can.

        How accuracy depends on the size takes two sizes to tell.
        """
        sizes = self.law.levels.get("n_params", [])
        own = self.rows_of_model(n_params, model)
        if len(sizes) != 1 or not self.is_beyond_sizes(n_params) or (own.bits >= BASELINE_BITS).any():
            return ""
        return (
            f"the laws were fitted to one size, {readable_count(sizes[0])} parameters, and say nothing of a model of "
            f"{readable_count(n_params)} whose original was not measured"
        )

    def original(self, n_params: float, own: pd.DataFrame, baseline: float | None) -> Original:
        """Where the prediction for a model starts from."""
        scatter, law = self.scatter, self.law
        quantized = own[(own.bits < BASELINE_BITS) & own.is_fitted]
        shift, damage_spread = 0.0, scatter.between
        if not law.form.is_anchored:
            accuracy, spread = 1.0, 0.0
        elif baseline is not None:
            accuracy, spread = (baseline - law.chance) / (1 - law.chance), 0.0
        elif len(before := own[own.bits >= BASELINE_BITS]):
            accuracy, spread = float(before.accuracy_adjusted.mean()), 0.0
        else:
            intercept, slope = line_of_originals(self.measured)
            accuracy, spread = float(np.exp(-np.exp(intercept + slope * np.log(n_params)))), scatter.original
        if len(quantized) and (not law.form.is_anchored or quantized.baseline_loss.notna().all()):
            shift, error = own_shift(law, law.rows_of(quantized), max(scatter.between, SAME), scatter.within)
            damage_spread = float(np.hypot(error, scatter.within))
        return Original(float(np.clip(accuracy, 1e-3, 1 - 1e-6)), spread, shift, damage_spread)

    def _family(self, own: pd.DataFrame) -> dict[str, str]:
        return {"family": str(own.family.iloc[0]) if len(own) else ""}

    def distances(self, points: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
        """How far each point lies from what was fitted: in bits, and in logarithms of the other factors; a size counts
        from the fitted range on."""
        found = {}
        for name in ALLOWANCES:
            levels = np.array(self.law.levels.get(name, []), float)
            values = points[name].to_numpy(float)
            if not len(levels):
                found[name] = np.zeros(len(values))
            elif name == "bits":
                found[name] = np.abs(values[:, None] - levels).min(1)
            elif name == "n_params":
                found[name] = np.maximum(np.log(values / levels.max()), np.log(levels.min() / values))
            else:
                found[name] = np.abs(np.log(values[:, None] / levels)).min(1)
        return {name: np.where(distance > SAME, distance, 0.0) for name, distance in found.items()}

    def allowance(self, points: pd.DataFrame) -> NDArray[np.float64]:
        """What ln D is less sure by, where a point was not fitted."""
        parts = [ALLOWANCES[name] * distance for name, distance in self.distances(points).items()]
        found: NDArray[np.float64] = np.sqrt(np.sum(np.square(parts), axis=0))
        return found

    def outside(self, points: pd.DataFrame) -> list[str]:
        """The factors whose values were not fitted (of the size: that lie beyond the fitted ones), as text."""
        far = self.distances(points)
        return [", ".join(name for name in far if far[name][place] > 0) for place in range(len(points))]

    def _with_measured(
        self, found: pd.DataFrame, points: pd.DataFrame, own: pd.DataFrame, normal: float
    ) -> pd.DataFrame:
        """What was measured in place of what is predicted; its interval is that of its items."""
        for place, point in zip(points.index, points.itertuples(), strict=True):
            same = own[
                (own.bits == point.bits)
                & (own.group_size == point.group_size)
                & (own.calibration_size == point.calibration_size)
            ]
            if same.empty:
                continue
            mean = same.accuracy_adjusted.mean()
            half = normal * float(np.nan_to_num(same.stderr_adjusted.mean())) / np.sqrt(len(same))
            values = np.array([mean, mean - half, mean + half])
            found.loc[place, ["accuracy", "low", "high"]] = np.clip(
                self.law.chance + (1 - self.law.chance) * values, 0, 1
            )
            found.loc[place, ["form", "outside"]] = [MEASURED, ""]
        return found


def effective_bits(bits: float, group_size: float) -> float:
    """Stored bits of a weight, the scale and the zero point of its group included."""
    return bits + (BITS_OF_A_SCALE + bits) / group_size


def points_of(n_params: float, quantizations: Sequence[Quantization]) -> pd.DataFrame:
    """Points at which laws predict: n_params, bits, effective_bits, group_size, calibration_size."""
    rows = [
        {
            "n_params": float(n_params),
            "bits": float(quantization.bits),
            "effective_bits": effective_bits(quantization.bits, quantization.group_size),
            "group_size": float(quantization.group_size),
            "calibration_size": float(quantization.calibration_size),
        }
        for quantization in quantizations
    ]
    return pd.DataFrame(rows)


def predictors(analysis: Analysis) -> dict[str, Predictor]:
    """What predicts each stratum: the law whose scatter the analysis knows."""
    found = {}
    for scatter in analysis.scatters:
        law = next(
            fit
            for fit in analysis.fits
            if (fit.stratum, fit.form.name, fit.estimator) == (scatter.stratum, scatter.form, "accuracy")
        )
        measured = analysis.measured[analysis.measured.stratum == scatter.stratum]
        found[scatter.stratum] = Predictor(law, scatter, measured)
    return found


def check_is_accuracy(stratum: str, value: float) -> None:
    """Raise ValueError for what is no share of right answers, with what was probably meant."""
    if not 0 <= value <= 1:
        meant = f"; for {value:g} % write {stratum}={value / 100:g}" if 1 < value <= 100 else ""
        raise ValueError(f"{stratum}={value:g} is not an accuracy, which lies between 0 and 1{meant}")


def why_unknown(analysis: Analysis, n_params: float, model: str = "") -> str:
    """Why the laws say nothing of a model whose original's accuracy is not given; empty if they do."""
    reasons = (predictor.why_unknown(n_params, model) for predictor in predictors(analysis).values())
    return next(filter(None, reasons), "")


def predict_original(analysis: Analysis, n_params: float, level: float = 0.95, model: str = "") -> pd.DataFrame:
    """The accuracy of a model's original in each stratum, as it was measured, or else by the line of those measured.

    Columns as those of ``predict``; no row for a stratum of which neither tells.
    """
    tables = [
        predictor.predict_original(n_params, level, model).assign(variant=BASELINE_NAME, stratum=stratum)
        for stratum, predictor in predictors(analysis).items()
    ]
    return pd.concat(tables, ignore_index=True)[PREDICTED]


def predict(
    analysis: Analysis,
    n_params: float,
    quantizations: Sequence[Quantization],
    level: float = 0.95,
    baselines: Mapping[str, float] | None = None,
    model: str = "",
) -> pd.DataFrame:
    """Accuracy of variants of a model in each stratum.

    Columns: variant, stratum, form ("measured" where it was), accuracy, low, high, outside (factors whose values were
    not fitted; empty for none).

    Args:
        analysis: of a study.
        n_params: the size of the model.
        quantizations: the variants.
        level: of the intervals.
        baselines: accuracies of the model's original by stratum, for a model that was not in the study.
        model: its name in the study, which tells it from others of the same size.

    Raises:
        PredictionError: a group size of -1, which the laws do not know, a baseline of no stratum or beyond chance, or
            laws of one size that are asked of another one without its baselines. With those of some strata, these
            strata alone are predicted.
    """
    if not quantizations:
        return pd.DataFrame(columns=PREDICTED)
    if any(quantization.group_size < 0 for quantization in quantizations):
        raise PredictionError("the laws do not cover whole rows (group_size: -1); give a number of input features")
    points, of_strata, baselines = points_of(n_params, quantizations), predictors(analysis), baselines or {}
    for stratum, value in baselines.items():
        if stratum not in of_strata:
            raise PredictionError(f"baseline {stratum}: not one of {', '.join(of_strata)}")
        try:
            check_is_accuracy(stratum, value)
        except ValueError as error:
            raise PredictionError(f"baseline {error}") from None
        if not of_strata[stratum].law.chance < value:
            raise PredictionError(
                f"baseline {stratum}: {value:g} is not between chance ({of_strata[stratum].law.chance:g}) and 1"
            )
    if not baselines and (reason := why_unknown(analysis, n_params, model)):
        raise PredictionError(f"{reason}; give the original's accuracies (baselines), or fit a study of several sizes")
    tables = [
        predictor.predict(points, level, baselines.get(stratum), model).assign(
            variant=[quantization.name for quantization in quantizations], stratum=stratum
        )
        for stratum, predictor in of_strata.items()
        if stratum in baselines or not predictor.why_unknown(n_params, model)
    ]
    return pd.concat(tables, ignore_index=True)[PREDICTED]
