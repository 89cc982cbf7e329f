"""One form fitted to one stratum, by one of several estimators.

``logarithm``           linear regression of ln(-ln a), as the paper fits; log-linear forms and rows above chance only
``weighted-logarithm``  the same, with weights and a correction of bias from the rows' standard errors
``accuracy``            robust non-linear least squares in adjusted accuracy, from many starts
``likelihood``          maximum likelihood with a beta-binomial error and the floor at chance: keeps collapsed variants
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.regression.linear_model import OLS, WLS

from stratalaw.errors import StratalawError
from stratalaw.laws import beta_binomial
from stratalaw.laws.forms import FACTORS, PAPER_LAW, Form, family_shift, form_named
from stratalaw.laws.gauss_newton import solve
from stratalaw.laws.rows import Rows, reasons_to_leave_out, rows_of

Estimator = Literal["logarithm", "weighted-logarithm", "accuracy", "likelihood"]
STARTS = 24
ROBUST_SCALE = 2.0  # standard errors of the items; at least SMALLEST_SCALE
SMALLEST_SCALE = 0.01  # of adjusted accuracy
ILL_CONDITIONED = 30  # Belsley, Kuh and Welsch, Regression Diagnostics


class FitError(StratalawError):
    """A fit that cannot be made; the message says why in one line."""


@dataclass(frozen=True)
class LawFit:
    """A fitted law of one stratum.

    Attributes:
        form: the form, without the parameters of factors that do not vary.
        stratum: what was fitted.
        estimator: how.
        params: parameters by name; positive ones as they are, not as logarithms.
        fitted: the same as they were fitted, in the form's order.
        covariance: of ``fitted``, shape (p, p), robust to unequal variances (HC3) for ``logarithm`` and
            ``accuracy``, the inverse of the observed information for ``likelihood``.
        degrees_of_freedom: of the t distribution that intervals use.
        reference_size: the number of parameters by which N is divided.
        chance: mean accuracy of guessing in the stratum.
        levels: the values of each factor that were fitted, by column (``n_params``, ``bits``, …).
        residual_stderr: standard deviation of the residuals in adjusted accuracy.
        adjusted_r_squared: of ln(-ln a) where rows have one, the paper's measure.
        n_rows, left_out: rows that were used, and those that were not, by reason.
        diagnostics: convergence, spread over starts, conditioning.
        warnings: what a reader must know, in words.
    """

    form: Form
    stratum: str
    estimator: str
    params: pd.Series
    fitted: NDArray[np.float64]
    covariance: NDArray[np.float64]
    degrees_of_freedom: float
    reference_size: float
    chance: float
    levels: dict[str, list[float]]
    residual_stderr: float
    adjusted_r_squared: float
    n_rows: int
    left_out: dict[str, int]
    diagnostics: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def conf_int(self, level: float = 0.95) -> pd.DataFrame:
        """Wald intervals, columns low and high; those of positive parameters are symmetric in the logarithm."""
        quantile = stats.t.ppf((1 + level) / 2, self.degrees_of_freedom)
        half = quantile * np.sqrt(np.diag(self.covariance))
        bounds = [self.form.to_natural(self.fitted + sign * half) for sign in (-1, 1)]
        return pd.DataFrame(dict(zip(("low", "high"), bounds, strict=True)), index=self.params.index)

    def rows_of(self, table: pd.DataFrame) -> Rows:
        """Rows of a table in the units of the fit: its reference size and its families."""
        return rows_of(table, self.reference_size, self.form.families)

    def family_shift(self, family: str) -> float:
        """By how much ln A of a family differs from the families' mean; 0 for one that was not fitted."""
        shifts = {name: float(self.params[family_shift(name)]) for name in self.form.families[:-1]}
        if self.form.families and family == self.form.families[-1]:
            return -sum(shifts.values())
        return shifts.get(family, 0.0)

    def predict(self, table: pd.DataFrame) -> pd.Series:
        """Adjusted accuracy for each row of a table with the factors of the form (as ``n_params``, ``bits``, …)."""
        accuracy = self.form.accuracy(self.fitted, self.rows_of(table).factors)
        return pd.Series(accuracy, index=table.index, name="accuracy_adjusted")

    def prediction_interval(self, table: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
        """Interval for a new observation: uncertainty of the parameters and scatter of the rows; low and high."""
        accuracy, jacobian = self.form.evaluate(self.fitted, self.rows_of(table).factors)
        variance = np.einsum("rp,pq,rq->r", jacobian, self.covariance, jacobian) + self.residual_stderr**2
        half = stats.t.ppf((1 + level) / 2, self.degrees_of_freedom) * np.sqrt(variance)
        return pd.DataFrame({"low": accuracy - half, "high": accuracy + half}, index=table.index)

    def correlations(self) -> pd.DataFrame:
        """Correlations of the fitted parameters."""
        spread = np.sqrt(np.diag(self.covariance))
        matrix = self.covariance / np.outer(spread, spread)
        return pd.DataFrame(matrix, index=self.params.index, columns=self.params.index)

    def summary(self) -> str:
        """The fit as text."""
        table = self.params.to_frame("value").join(self.conf_int())
        lines = [
            f"{self.stratum}: {self.form.title} ({self.form.name}), by {self.estimator}",
            f"-ln a = {self.form.loss}, N in units of {self.reference_size:.4g} parameters",
            table.to_string(float_format="{:.4f}".format),
            f"adjusted R² {self.adjusted_r_squared:.4f} (of ln(-ln a)), residual standard error "
            f"{100 * self.residual_stderr:.2f} points, {self.n_rows} rows",
            *(f"left out: {count} x {reason}" for reason, count in self.left_out.items()),
            *(f"warning: {warning}" for warning in self.warnings),
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Everything that a file needs to hold to have the fit back."""
        intervals = self.conf_int()
        return {
            "stratum": self.stratum,
            "form": self.form.name,
            "families": list(self.form.families),
            "estimator": self.estimator,
            "formula": str(self.form.loss),
            "params": {
                name: {"value": float(value), "low": float(intervals.low[name]), "high": float(intervals.high[name])}
                for name, value in zip(map(str, self.params.index), self.params, strict=True)
            },
            "covariance": self.covariance.tolist(),
            "degrees_of_freedom": self.degrees_of_freedom,
            "reference_size": self.reference_size,
            "chance": self.chance,
            "levels": self.levels,
            "residual_stderr": self.residual_stderr,
            "adjusted_r_squared": self.adjusted_r_squared,
            "n_rows": self.n_rows,
            "left_out": self.left_out,
            "diagnostics": self.diagnostics,
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> LawFit:
        """The fit that ``to_dict`` describes."""
        form = form_named(content["form"])
        dropped = {p.factor for p in form.parameters if p.factor is not None and p.name not in content["params"]}
        form = form.without(dropped).pooled(content["families"])
        params = pd.Series({name: part["value"] for name, part in content["params"].items()})
        same: tuple[str, ...] = ("stratum", "estimator", "degrees_of_freedom", "reference_size", "residual_stderr")
        same += ("adjusted_r_squared", "n_rows", "left_out", "diagnostics", "chance", "levels")
        return cls(
            form=form,
            params=params,
            fitted=form.to_fitted(params),
            covariance=np.array(content["covariance"]),
            warnings=tuple(content["warnings"]),
            **{name: content[name] for name in same},
        )


def fit_law(
    accuracies: pd.DataFrame,
    form: Form = PAPER_LAW,
    stratum: str | None = None,
    estimator: Estimator = "logarithm",
) -> LawFit:
    """Fit a form of the law to a stratum.

    Args:
        accuracies: as ``rows.stratum_accuracies`` returns.
        form: of the law; effects of factors that do not vary are left out of it, and families get intercepts.
        stratum: which; may be left out where there is one.
        estimator: see above.

    Raises:
        FitError: an unknown stratum, fewer usable rows than parameters, a form that the estimator
            cannot fit, a factor that is missing, or no convergence.
    """
    rows, left_out = _choose_rows(accuracies, stratum, estimator)
    name = stratum or str(rows.table.stratum.iloc[0])
    form = form.without(rows.constant).pooled(rows.families)
    missing = [factor for factor in form.factors if not np.isfinite(rows.factors[factor]).all()]
    if missing:
        raise FitError(f"{name}: the form {form.name} needs the factor {missing[0]}, which the table does not have")
    if len(rows) <= len(form.parameters):
        raise FitError(
            f"{name}: too few usable rows ({len(rows)}) for the parameters of the law ({len(form.parameters)})"
        )
    fitted, covariance, diagnostics = ESTIMATORS[estimator](form, rows)
    prediction, jacobian = form.evaluate(fitted, rows.factors)
    freedom = len(rows) - len(fitted)
    diagnostics["condition_number"] = condition_number(jacobian)
    return LawFit(
        form=form,
        stratum=name,
        estimator=estimator,
        params=pd.Series(form.to_natural(fitted), index=[p.name for p in form.parameters]),
        fitted=fitted,
        covariance=covariance,
        degrees_of_freedom=float(freedom),
        reference_size=rows.reference_size,
        chance=float(rows.table.chance.mean()),
        levels=fitted_levels(form, rows),
        residual_stderr=float(np.sqrt(((rows.accuracy - prediction) ** 2).sum() / freedom)),
        adjusted_r_squared=adjusted_r_squared(rows.accuracy, prediction, len(fitted)),
        n_rows=len(rows),
        left_out=left_out,
        diagnostics=diagnostics,
        warnings=tuple(warnings_about(form, rows, diagnostics)),
    )


def fitted_levels(form: Form, rows: Rows) -> dict[str, list[float]]:
    """The values of every factor that were fitted, also of those that the form does not have: it was seen nowhere else.

    Effective bits follow from the others, and count only where the form has them.
    """
    seen = [
        column
        for name, column in FACTORS.items()
        if (name in form.factors and name != "F") or (name not in "EF" and np.isfinite(rows.factors[name]).all())
    ]
    return {column: sorted(map(float, rows.table[column].unique())) for column in seen}


def _choose_rows(accuracies: pd.DataFrame, stratum: str | None, estimator: str) -> tuple[Rows, dict[str, int]]:
    names = list(accuracies.stratum.unique())
    if stratum is None and len(names) > 1:
        raise FitError(f"which stratum? there are {', '.join(names)}")
    chosen = accuracies if stratum is None else accuracies[accuracies.stratum == stratum]
    if chosen.empty:
        raise FitError(f"there is no stratum {stratum}; there are {', '.join(names)}")
    floor = estimator == "likelihood"
    reasons = reasons_to_leave_out(chosen, keep_two_bits=floor, keep_collapsed="logarithm" not in estimator)
    used = chosen[reasons == ""]
    if used.empty:
        raise FitError(f"{stratum or names[0]}: no row is usable ({', '.join(reasons.unique())})")
    return rows_of(used, families=families_of(used)), {
        str(reason): int(n) for reason, n in reasons[reasons != ""].value_counts(sort=False).items()
    }


def families_of(table: pd.DataFrame) -> list[str]:
    """The families that get an intercept of their own: all of them, if one has several sizes to tell slopes from."""
    has_slope = (table.groupby("family").n_params.nunique() > 1).any()
    return sorted(table.family.unique()) if has_slope else []


def _fit_logarithm(form: Form, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, float]]:
    if not form.is_log_linear:
        raise FitError(f"the form {form.name} is not linear in the logarithm; use accuracy or likelihood")
    fit = OLS(np.log(-np.log(rows.accuracy)), form.log_design(rows.factors)).fit(cov_type="HC3", use_t=True)
    return np.asarray(fit.params), np.asarray(fit.cov_params()), {}


def _fit_weighted_logarithm(
    form: Form, rows: Rows
) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, float]]:
    """Weights and a correction of the response by the delta method.

    With variance v of a, ln(-ln a) has the variance v / (a ln a)² and the bias -v (1 + ln a) / (2 (a ln a)²).
    Both are taken at the unweighted fit: at the observed accuracies they would follow the noise.
    """
    if not np.isfinite(rows.stderr).all():
        raise FitError("weights need n_items or stderr for every row")
    unweighted, _, _ = _fit_logarithm(form, rows)
    expected = np.clip(form.accuracy(unweighted, rows.factors), 1e-3, 1 - 1e-3)
    counts = beta_binomial.counts_of(rows)
    probability = counts.chance + (1 - counts.chance) * expected
    variance = probability * (1 - probability) / counts.items / (1 - counts.chance) ** 2
    slope = 1 / (expected * np.log(expected))
    bias = -variance / 2 * slope**2 * (1 + np.log(expected))
    response = np.log(-np.log(rows.accuracy)) - bias
    weights = 1 / (variance * slope**2)
    fit = WLS(response, form.log_design(rows.factors), weights=weights).fit(cov_type="HC3", use_t=True)
    return np.asarray(fit.params), np.asarray(fit.cov_params()), {}


def with_cluster_covariance(fit: LawFit, rows: Rows, clusters: NDArray[np.int64]) -> LawFit:
    """A fit by ``logarithm`` whose intervals allow for errors that rows of a cluster share.

    Args:
        fit: by ``logarithm``.
        rows: those that it was fitted to.
        clusters: the number of each row's cluster, shape (rows,); there must be two or more.
    """
    response, design = np.log(-np.log(rows.accuracy)), fit.form.log_design(rows.factors)
    robust = OLS(response, design).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    freedom = float(len(np.unique(clusters)) - 1)
    return replace(fit, covariance=np.asarray(robust.cov_params()), degrees_of_freedom=freedom)


def _fit_accuracy(form: Form, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, float]]:
    starts, scale = form.starts(STARTS), robust_scale(rows)
    found = solve(form, rows.factors, rows.accuracy, np.ones((len(starts), len(rows))), starts, scale)
    best = int(found.cost.argmin())
    if not found.converged[best]:
        raise FitError(f"the form {form.name} does not converge (relative gradient {found.gradient[best]:.1g})")
    agreeing = np.isclose(found.cost, found.cost[best], rtol=1e-4)
    fitted = found.fitted[best]
    prediction, jacobian = form.evaluate(fitted, rows.factors)
    residual = rows.accuracy - prediction
    # First and second derivative of the soft-L1 loss by the residual.
    influence = residual / np.sqrt(1 + (residual / scale) ** 2)
    curvature = (1 + (residual / scale) ** 2) ** -1.5
    bread = np.linalg.pinv((jacobian * curvature[:, None]).T @ jacobian)
    leverage = np.einsum("rp,pq,rq,r->r", jacobian, bread, jacobian, curvature)
    scores = jacobian * (influence / np.maximum(1 - leverage, 1e-3))[:, None]
    diagnostics = {
        "relative_gradient": float(found.gradient[best]),
        "starts": len(starts),
        "starts_that_agree": int(agreeing.sum()),
    }
    covariance = bread @ (scores.T @ scores) @ bread
    if form.is_anchored:
        covariance = covariance + _covariance_of_originals(rows, prediction, (jacobian * curvature[:, None]) @ bread)
    return fitted, covariance, diagnostics


def _covariance_of_originals(
    rows: Rows, prediction: NDArray[np.float64], influence: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the noise of the originals adds: all rows of a model share it, so that residuals do not show it.

    The items of an original are taken as others than those of its variants, which errs on the wide side.

    Args:
        rows: fitted by an anchored form.
        prediction: adjusted accuracies, shape (rows,).
        influence: of each row on the fitted parameters, shape (rows, p).
    """
    error = np.nan_to_num(rows.table.baseline_stderr.to_numpy(float))
    _, model = np.unique(rows.table.model, return_inverse=True)
    of_models = np.zeros((model.max() + 1, influence.shape[1]))
    np.add.at(of_models, model, influence * (prediction * error)[:, None])
    found: NDArray[np.float64] = of_models.T @ of_models
    return found


def _fit_likelihood(form: Form, rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], dict[str, float]]:
    if not np.isfinite(rows.stderr).all():
        raise FitError("likelihood needs n_items or stderr for every row")
    starts = form.starts(STARTS)
    first = solve(form, rows.factors, rows.accuracy, np.ones((len(starts), len(rows))), starts, robust_scale(rows))
    candidates = first.fitted[np.argsort(first.cost)[:3]]
    found = beta_binomial.maximize(form, rows, candidates)
    if found.relative_gradient > 1e-3:
        raise FitError(f"the likelihood of the form {form.name} does not converge")
    diagnostics = {
        "log_likelihood": found.log_likelihood,
        "overdispersion": found.overdispersion,
        "relative_gradient": found.relative_gradient,
    }
    return found.fitted, found.covariance, diagnostics


ESTIMATORS: dict[str, Callable[[Form, Rows], tuple[NDArray[np.float64], NDArray[np.float64], dict[str, float]]]] = {
    "logarithm": _fit_logarithm,
    "weighted-logarithm": _fit_weighted_logarithm,
    "accuracy": _fit_accuracy,
    "likelihood": _fit_likelihood,
}


def robust_scale(rows: Rows) -> NDArray[np.float64]:
    """Residuals beyond this count linearly, shape (rows,), in adjusted accuracy."""
    stderr = np.nan_to_num(rows.stderr, nan=0.0)
    return np.maximum(ROBUST_SCALE * stderr, SMALLEST_SCALE)


def adjusted_r_squared(accuracy: NDArray[np.float64], prediction: NDArray[np.float64], n_parameters: int) -> float:
    """Adjusted R² of ln(-ln a) over the rows that have one, as the paper states it."""
    usable = (accuracy > 0) & (accuracy < 1) & (prediction > 0) & (prediction < 1)
    if usable.sum() <= n_parameters:
        return float("nan")
    observed, expected = (np.log(-np.log(part[usable])) for part in (accuracy, prediction))
    residual, total = ((observed - expected) ** 2).sum(), ((observed - observed.mean()) ** 2).sum()
    return float(1 - residual / total * (usable.sum() - 1) / (usable.sum() - n_parameters))


def condition_number(jacobian: NDArray[np.float64]) -> float:
    """Of the Jacobian with columns of equal length: large where parameters can stand in for each other."""
    return float(np.linalg.cond(jacobian / np.maximum(np.linalg.norm(jacobian, axis=0), 1e-300)))


def warnings_about(form: Form, rows: Rows, diagnostics: dict[str, float]) -> list[str]:
    """What the data cannot support, in words."""
    names = {"N": "model size", "B": "bits", "E": "effective bits", "G": "group size", "C": "calibration size"}
    found = []
    for factor in (name for name in form.factors if name in names):
        levels = len(np.unique(rows.factors[factor]))
        if levels == 2:
            found.append(f"{names[factor]} has two levels: its exponent is one ratio, and its form cannot be tested")
    dropped = [names[factor] for factor in sorted(rows.constant - {"E"})]
    if dropped:
        found.append(f"{', '.join(dropped)} does not vary and is left out of the law")
    if diagnostics["condition_number"] > ILL_CONDITIONED:
        found.append(
            f"parameters can stand in for each other (condition number {diagnostics['condition_number']:.0f}): "
            "predictions may be good, single parameters are not"
        )
    return found
