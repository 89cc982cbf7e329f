"""The paper's law, fitted as the paper fits it: ordinary least squares on the logarithms.

    -ln(accuracy_adjusted) = A · N^alpha · (log2 B)^beta · (log2 C)^gamma · G^delta     (arXiv 2508.18609)

with N parameters, B nominal bits, C calibration samples and G the group size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import statsmodels.api as sm

GENERAL = "general"
PHASE_TRANSITION_BITS = 2
EXPONENTS = {"alpha": "n_params", "beta": "bits", "gamma": "calibration_size", "delta": "group_size"}
LOGARITHMIC_FACTORS = ("bits", "calibration_size")


@dataclass(frozen=True)
class LogRegression:
    """A fitted law of one stratum.

    ``exponents``: indexed by name (alpha, beta, gamma, delta), with columns value, stderr, low and high (95 %
    interval); exponents of absent or constant factors are missing. ``left_out``: reasons and numbers of rows left out.
    """

    stratum: str
    scale: float
    exponents: pd.DataFrame
    adjusted_r_squared: float
    n_rows: int
    left_out: dict[str, int]

    def summary(self) -> dict:
        """Everything of the law that a file can hold."""
        return {
            "stratum": self.stratum,
            "scale": self.scale,
            "exponents": self.exponents.to_dict(orient="index"),
            "adjusted_r_squared": self.adjusted_r_squared,
            "n_rows": self.n_rows,
            "left_out": self.left_out,
        }

    def predict(self, table: pd.DataFrame) -> pd.Series:
        """Accuracy adjusted for chance, for each row of a table with the factors of the law."""
        logarithm = np.log(self.scale) + sum(
            self.exponents.value[name] * np.log(factor(table, EXPONENTS[name])) for name in self.exponents.index
        )
        return np.exp(-np.exp(logarithm)).rename("accuracy_adjusted")


def factor(table: pd.DataFrame, column: str) -> pd.Series:
    """A factor as the law takes it: the logarithm to base 2 of bits and calibration size, the others as they are."""
    values = table[column].astype(float)
    return np.log2(values) if column in LOGARITHMIC_FACTORS else values


def reasons_to_leave_out(table: pd.DataFrame) -> pd.Series:
    """Why a row cannot be used, as words; empty where it can."""
    conditions = {
        "baseline (no group size, no calibration)": table.group_size.isna(),
        "model held out": table.held_out.astype(bool),
        "2 bits (phase transition)": table.bits == PHASE_TRANSITION_BITS,
        "whole row as one group (no group size)": table.group_size == -1,
        "a single calibration sample (its logarithm is 0)": table.calibration_size == 1,
        "at or below chance": table.accuracy_adjusted <= 0,
        "all answers right (the law has no logarithm)": table.accuracy_adjusted >= 1,
    }
    reasons = pd.Series("", index=table.index)
    for reason, applies in reversed(conditions.items()):
        reasons = reasons.mask(applies.fillna(False).astype(bool), reason)
    return reasons


def stratum_accuracies(observations: pd.DataFrame) -> pd.DataFrame:
    """Adjusted accuracy of each variant in each stratum and in general: means over benchmarks, then over strata."""
    about = [
        *("model", "family", "held_out", "n_params", "variant"),
        *("bits", "group_size", "calibration_size", "calibration_seed"),
    ]
    grouped = observations.groupby([*about, "stratum"], sort=False, dropna=False)
    strata = grouped.accuracy_adjusted.mean().reset_index()
    general = strata.groupby(about, sort=False, dropna=False).accuracy_adjusted.mean().reset_index()
    return pd.concat([strata, general.assign(stratum=GENERAL)], ignore_index=True)


def fit_log_regression(accuracies: pd.DataFrame, stratum: str) -> LogRegression:
    """Fit the law to the rows of a stratum.

    Args:
        accuracies: as ``stratum_accuracies`` returns.

    Raises:
        ValueError: fewer usable rows than parameters.
    """
    rows = accuracies[accuracies.stratum == stratum]
    reasons = reasons_to_leave_out(rows)
    used = rows[reasons == ""]
    names = [name for name, column in EXPONENTS.items() if used[column].nunique() > 1]
    if len(used) <= len(names) + 1:
        raise ValueError(f"{stratum}: {len(used)} usable rows cannot support {len(names) + 1} parameters")
    design = pd.DataFrame({name: np.log(factor(used, EXPONENTS[name])) for name in names})
    response = np.log(-np.log(used.accuracy_adjusted.astype(float)))
    fit = sm.OLS(response, sm.add_constant(design)).fit()
    interval = fit.conf_int(alpha=0.05)
    exponents = pd.DataFrame({"value": fit.params, "stderr": fit.bse, "low": interval[0], "high": interval[1]})
    return LogRegression(
        stratum=stratum,
        scale=float(np.exp(fit.params["const"])),
        exponents=exponents.drop(index="const"),
        adjusted_r_squared=float(fit.rsquared_adj),
        n_rows=len(used),
        left_out=reasons[reasons != ""].value_counts(sort=False).to_dict(),
    )


def fit_all_strata(observations: pd.DataFrame) -> list[LogRegression]:
    """The law of each stratum of an observations table, and the one in general, in this order."""
    accuracies = stratum_accuracies(observations)
    return [fit_log_regression(accuracies, stratum) for stratum in accuracies.stratum.unique()]
