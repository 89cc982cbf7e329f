"""From an observations table to the rows that a law is fitted to: one for each variant, in each stratum and in general.

A stratum's accuracy is the mean over its benchmarks of the accuracy adjusted for chance; "general" is the mean over
strata.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.forms import FACTORS, family_code
from stratalaw.laws.table import GENERAL, GPTQ, check_observations
from stratalaw.study.variants import BASELINE_BITS

PHASE_TRANSITION_BITS = 2
ABOUT = (
    *("model", "family", "held_out", "n_params", "variant", "method", "bits", "group_size"),
    *("calibration_size", "calibration_seed", "effective_bits"),
)


def stratum_accuracies(observations: pd.DataFrame) -> pd.DataFrame:
    """One row for each variant in each stratum and in general.

    Columns: those of ``ABOUT``, stratum, accuracy_adjusted, stderr_adjusted (from the benchmarks' standard errors; they
    are taken as independent), chance (mean), and of the model's own original in the stratum, where the table has one:
    baseline_adjusted, baseline_loss, -ln of it (missing where the original is at chance, of which nothing is left
    to lose), and baseline_stderr, the standard error of that.
    """
    table = check_observations(observations)
    table["accuracy_adjusted"] = (table.accuracy - table.chance) / (1 - table.chance)
    table["variance"] = (table.stderr / (1 - table.chance)) ** 2
    strata = _means(table, [*ABOUT, "stratum"])
    strata = with_baselines(strata.assign(stderr_adjusted=np.sqrt(strata.variance)).drop(columns="variance"))
    if strata.stratum.nunique() < 2:
        return strata
    return pd.concat([strata, mean_over_strata(strata, GENERAL)], ignore_index=True)


def mean_over_strata(strata: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows as ``stratum_accuracies`` gives them, as the mean over their strata, which gets a name.

    Means over different strata cannot be compared: a variant that lacks one has none.
    """
    has_all = strata.groupby(list(ABOUT), dropna=False).stratum.transform("size") == strata.stratum.nunique()
    means = _means(strata[has_all].assign(variance=strata.stderr_adjusted**2), list(ABOUT)).assign(stratum=name)
    return with_baselines(means.assign(stderr_adjusted=np.sqrt(means.variance)).drop(columns="variance"))


def _means(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    table = table.assign(unknown=table.variance.isna())
    grouped = table.groupby(by, sort=False, dropna=False)
    means = grouped[["accuracy_adjusted", "chance"]].mean()
    variance = grouped.variance.sum() / grouped.size() ** 2
    return means.assign(variance=variance.mask(grouped.unknown.any())).reset_index()


def with_baselines(accuracies: pd.DataFrame) -> pd.DataFrame:
    """The rows with the adjusted accuracy of each one's own original, its loss -ln a, and the error of that loss."""
    originals = accuracies[accuracies.bits >= BASELINE_BITS].groupby(["model", "stratum"])
    keys = pd.MultiIndex.from_frame(accuracies[["model", "stratum"]])
    own, error = (originals[name].mean().reindex(keys).to_numpy() for name in ("accuracy_adjusted", "stderr_adjusted"))
    known = np.where(own > 0, own, np.nan)
    return accuracies.assign(baseline_adjusted=own, baseline_loss=-np.log(known), baseline_stderr=error / known)


def reasons_to_leave_out(table: pd.DataFrame, keep_two_bits: bool = False, keep_collapsed: bool = False) -> pd.Series:
    """Why a row is not fitted, as words; empty where it is.

    The paper leaves out 2 bits; a regression on logarithms also needs accuracies above chance and below 1.
    """
    conditions = {
        "baseline": table.bits >= BASELINE_BITS,
        "model held out": table.held_out.astype(bool),
        "another method": table.method.str.upper() != fitted_method(table).upper(),
        "whole row as one group (no group size)": table.group_size == -1,
        "a single calibration sample (its logarithm is 0)": table.calibration_size == 1,
    }
    for factor in ("group_size", "calibration_size"):
        quantized = table[table.bits < BASELINE_BITS]
        if quantized[factor].notna().any():
            conditions[f"no {factor}"] = table[factor].isna()
    if not keep_two_bits:
        conditions["2 bits (phase transition)"] = table.bits <= PHASE_TRANSITION_BITS
    if not keep_collapsed:
        conditions["at or below chance"] = table.accuracy_adjusted <= 0
        conditions["all answers right (the law has no logarithm)"] = table.accuracy_adjusted >= 1
    applies = [condition.fillna(False).to_numpy(bool) for condition in conditions.values()]
    return pd.Series(np.select(applies, list(conditions), ""), index=table.index, dtype=object)


def fitted_method(table: pd.DataFrame) -> str:
    """The method whose rows are fitted: GPTQ, or the most frequent one where no row is of it."""
    methods = table.method[table.bits < BASELINE_BITS]
    if methods.empty or (methods.str.upper() == GPTQ).any():
        return GPTQ
    return str(methods.mode()[0])


@dataclass(frozen=True)
class Rows:
    """Rows that a form can be fitted to.

    ``factors``: arrays of shape (rows,) by symbol, N relative to ``reference_size`` parameters, and the codes of
    ``families`` (see ``family_codes``); ``accuracy``: adjusted for chance; ``stderr``: of it; ``table``: the rows as
    they came.
    """

    table: pd.DataFrame
    factors: dict[str, NDArray[np.float64]]
    reference_size: float
    families: tuple[str, ...] = ()

    @property
    def accuracy(self) -> NDArray[np.float64]:
        return self.table.accuracy_adjusted.to_numpy(float)

    @property
    def stderr(self) -> NDArray[np.float64]:
        return self.table.stderr_adjusted.to_numpy(float)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def constant(self) -> set[str]:
        """The factors that do not vary, or are missing; the models' own originals are no factor of a design."""
        values = {name: self.factors[name] for name in FACTORS if name != "F"}
        return {name for name, part in values.items() if not np.isfinite(part).all() or np.ptp(part) == 0}


def rows_of(table: pd.DataFrame, reference_size: float | None = None, families: Collection[str] | None = None) -> Rows:
    """Rows of a table such as ``stratum_accuracies`` returns.

    Args:
        table: the rows.
        reference_size: to which N is relative; the sizes' geometric mean if not given.
        families: those with an intercept of their own; the table's own if not given.
    """
    sizes = table.n_params.to_numpy(float)
    if reference_size is None:
        reference_size = float(np.exp(np.log(np.unique(sizes)).mean()))
    of_rows = table.family.to_numpy(str) if "family" in table else np.full(len(table), "")
    families = tuple(sorted(set(of_rows) if families is None else families))
    families = families if len(families) > 1 else ()
    missing = np.full(len(table), np.nan)
    factors = {name: table[column].to_numpy(float) if column in table else missing for name, column in FACTORS.items()}
    codes = {family_code(name): code for name, code in zip(families, family_codes(of_rows, families), strict=False)}
    return Rows(table, factors | {"N": sizes / reference_size} | codes, reference_size, families)


def family_codes(of_rows: NDArray[np.str_], families: tuple[str, ...]) -> NDArray[np.float64]:
    """Effect codes, shape (families - 1, rows): 1 for a family's own rows, -1 for those of the last one, else 0.

    A row of a family that is not among them has zeros, and with them the mean of all intercepts.
    """
    if not families:
        return np.empty((0, len(of_rows)))
    return np.array([(of_rows == name).astype(float) - (of_rows == families[-1]) for name in families[:-1]])
