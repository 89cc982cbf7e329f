"""From an observations table to the rows that a law is fitted to: one for each variant, in each stratum and in general.

A stratum's accuracy is the mean over its benchmarks of the accuracy adjusted for chance; "general" is the mean over
strata.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.errors import StratalawError
from stratalaw.laws.forms import FACTORS
from stratalaw.study.variants import BASELINE_BITS

GENERAL = "general"
PHASE_TRANSITION_BITS = 2
NEEDED = ("n_params", "bits", "stratum", "accuracy", "chance")
NAMES = ("model", "family", "variant", "stratum", "benchmark")
IDENTITY = ("model", "variant", "benchmark")
ABOUT = (
    *("model", "family", "held_out", "n_params", "variant", "bits", "group_size"),
    *("calibration_size", "calibration_seed", "effective_bits"),
)


class TableError(StratalawError):
    """An observations table that cannot be used; the message is one line that names the row and the column."""


def read_observations(path: Path) -> pd.DataFrame:
    """Read an observations table from CSV or parquet and check it (see ``check_observations``).

    Raises:
        TableError: the file cannot be read, or its content cannot be used.
    """
    try:
        table = (
            pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=dict.fromkeys(NAMES, str))
        )
        return check_observations(table)
    except FileNotFoundError:
        raise TableError(f"{path}: there is no such file") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise TableError(f"{path}: not a table: {' '.join(str(error).split())}") from None
    except TableError as error:
        raise TableError(f"{path}: {error}") from None


def check_observations(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with every column that fits use; columns that are optional and missing are filled in.

    Needed are ``n_params, bits, stratum, accuracy, chance``; rows are counted from 1, the header apart.

    Raises:
        TableError: a needed column is missing, a value is impossible, or a row occurs twice.
    """
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise TableError(f"the column {missing[0]} is missing; needed are {', '.join(NEEDED)}")
    table = table.reset_index(drop=True)
    for column, valid, allowed in (
        ("n_params", lambda x: (x > 0) & np.isfinite(x), "more than 0"),
        ("bits", lambda x: x > 1, "more than 1"),
        ("accuracy", lambda x: (x >= 0) & (x <= 1), "from 0 to 1"),
        ("chance", lambda x: (x >= 0) & (x < 1), "from 0 to less than 1"),
    ):
        values = pd.to_numeric(table[column], errors="coerce").astype(float)
        _refuse(~valid(values), table[column], f"is not a number {allowed}")
        table[column] = values
    table = _with_optional_columns(table)
    repeated = table.duplicated([*IDENTITY, "stratum"])
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        names = ", ".join(str(table[column][row]) for column in IDENTITY)
        raise TableError(f"row {row + 1}: the same model, variant and benchmark ({names}) as in a row above")
    return table


def _refuse(bad: pd.Series, column: pd.Series, why: str) -> None:
    """Raise TableError that names the first bad value of a column, if there is one."""
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise TableError(f"row {row + 1}, column {column.name}: {column[row]} {why}")


def _with_optional_columns(table: pd.DataFrame) -> pd.DataFrame:
    model = "N" + table.n_params.map("{:.6g}".format)
    defaults = {
        "model": model,
        "family": "all",
        "held_out": False,
        "benchmark": "all",
        "group_size": np.nan,
        "calibration_size": np.nan,
        "calibration_seed": 0,
        "effective_bits": np.nan,
        "n_items": np.nan,
        "stderr": np.nan,
    }
    for column, default in defaults.items():
        if column not in table:
            table[column] = default
    for column in ("group_size", "calibration_size", "effective_bits", "n_items", "stderr"):
        values = pd.to_numeric(table[column], errors="coerce").astype(float)
        _refuse(values.isna() & table[column].notna(), table[column], "is not a number")
        table[column] = values
    held_out = table.held_out.map({True: True, False: False, "True": True, "False": False})
    _refuse(held_out.isna() & table.held_out.notna(), table.held_out, "is neither True nor False")
    table["held_out"] = held_out.fillna(False).astype(bool)
    if "variant" not in table:
        factors = table[["bits", "group_size", "calibration_size", "calibration_seed"]].astype(str)
        table["variant"] = factors.agg("-".join, axis=1)
    # Items that are all right or all wrong do not tell the error; half an item more of each kind does.
    smoothed = (table.accuracy * table.n_items + 0.5) / (table.n_items + 1)
    is_certain = table.accuracy.isin([0, 1]) & (table.stderr.isna() | (table.stderr == 0))
    expected = smoothed.where(is_certain, table.accuracy)
    binomial = np.sqrt(expected * (1 - expected) / table.n_items)
    table["stderr"] = table.stderr.mask(is_certain & binomial.notna()).fillna(binomial)
    return table


def stratum_accuracies(observations: pd.DataFrame) -> pd.DataFrame:
    """One row for each variant in each stratum and in general.

    Columns: those of ``ABOUT``, stratum, accuracy_adjusted, stderr_adjusted (from the benchmarks' standard errors; they
    are taken as independent) and chance (mean).
    """
    table = check_observations(observations)
    table["accuracy_adjusted"] = (table.accuracy - table.chance) / (1 - table.chance)
    table["variance"] = (table.stderr / (1 - table.chance)) ** 2
    strata = _means(table, [*ABOUT, "stratum"])
    both = strata
    if strata.stratum.nunique() > 1:
        # Means over different strata cannot be compared: a variant that lacks one has none in general.
        has_all = strata.groupby(list(ABOUT), dropna=False).stratum.transform("size") == strata.stratum.nunique()
        general = _means(strata[has_all], list(ABOUT)).assign(stratum=GENERAL)
        both = pd.concat([strata, general], ignore_index=True)
    return both.assign(stderr_adjusted=np.sqrt(both.variance)).drop(columns="variance")


def _means(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    grouped = table.groupby(by, sort=False, dropna=False)
    means = grouped[["accuracy_adjusted", "chance"]].mean()
    variance = grouped.variance.agg(lambda part: part.sum(skipna=False) / len(part) ** 2)
    return means.assign(variance=variance).reset_index()


def reasons_to_leave_out(table: pd.DataFrame, keep_two_bits: bool = False, keep_collapsed: bool = False) -> pd.Series:
    """Why a row is not fitted, as words; empty where it is.

    The paper leaves out 2 bits; a regression on logarithms also needs accuracies above chance and below 1.
    """
    conditions = {
        "baseline": table.bits >= BASELINE_BITS,
        "model held out": table.held_out.astype(bool),
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
    reasons = pd.Series("", index=table.index)
    for reason, applies in reversed(conditions.items()):
        reasons = reasons.mask(applies.fillna(False).astype(bool), reason)
    return reasons


@dataclass(frozen=True)
class Rows:
    """Rows that a form can be fitted to.

    ``factors``: arrays of shape (rows,) by symbol, N relative to ``reference_size`` parameters; ``accuracy``: adjusted
    for chance; ``stderr``: of it; ``table``: the rows as they came.
    """

    table: pd.DataFrame
    factors: dict[str, np.ndarray]
    reference_size: float

    @property
    def accuracy(self) -> np.ndarray:
        return self.table.accuracy_adjusted.to_numpy(float)

    @property
    def stderr(self) -> np.ndarray:
        return self.table.stderr_adjusted.to_numpy(float)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def constant(self) -> Collection[str]:
        """The factors that do not vary, or are missing."""
        return {name for name, values in self.factors.items() if not np.isfinite(values).all() or np.ptp(values) == 0}


def rows_of(table: pd.DataFrame, reference_size: float | None = None) -> Rows:
    """Rows of a table such as ``stratum_accuracies`` returns; the reference size is the sizes' geometric mean."""
    sizes = table.n_params.to_numpy(float)
    if reference_size is None:
        reference_size = float(np.exp(np.log(np.unique(sizes)).mean()))
    factors = {name: table[column].to_numpy(float) for name, column in FACTORS.items()}
    return Rows(table, factors | {"N": sizes / reference_size}, reference_size)
