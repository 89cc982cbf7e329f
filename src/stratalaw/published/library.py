"""The library of published measurements: read, checked, and each quantized row set beside its own original."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.errors import StratalawError
from stratalaw.study.variants import BASELINE_BITS

MEASUREMENTS, SOURCES, BENCHMARKS = "measurements.csv.gz", "sources.csv", "benchmarks.csv"
OWN_MEASUREMENTS = "measurements.csv"  # beside a law that was fitted to them
STRATA = ("memorization", "application", "reasoning")
NUMBERS = {
    "n_params": (1e6, 1e13),
    "bits": (1, 32),
    "group_size": (-1, 1e6),
    "calibration_size": (1, 1e9),
    "shots": (0, 100),
    "accuracy": (0, 1),
    "chance": (0, 0.99),
    "n_items": (1, 1e9),
}
NAMES = ("model", "family", "method", "benchmark", "source_id")
OPTIONAL: Mapping[str, Any] = {
    "group_size": np.nan,
    "calibration_size": np.nan,
    "shots": np.nan,
    "metric": "",
    "calibration": "",
}
SETTING = ("model", "method", "bits", "group_size", "calibration", "source_id", "benchmark", "metric", "shots")
# An original beside which a variant is set: the same model, asked the same way, by the same people.
ASKED_ALIKE = ["model", "source_id", "benchmark", "metric", "shots"]
PER_CHANNEL = -1
# Below it, the share of an accuracy that is kept is a quotient of two noises.
LEAST_ORIGINAL = 0.05
# Answers of a variant and of its original to the same items agree, the more the less is lost: by bits, the part of
# their variances that remains, as in docs/studies/first-ladder at the kept shares that published GPTQ has.
REMAINS = {2: 0.9, 3: 0.47, 4: 0.3, 6: 0.12, 8: 0.05}
SAME_CHANCE = 0.01
ROUNDING = 0.005  # of a kept share, by digits that are printed
# Recipes that were chosen to lose at most 1 %.
SELECTED_SOURCES = ("inc-recipes",)


class LibraryError(StratalawError):
    """A table of measurements that cannot be used; the message is one line that names the row and the column."""


def read_library(own: Path | None = None) -> pd.DataFrame:
    """All measurements: one row is the accuracy of a model, quantized or not, on a benchmark, from one source.

    Columns: model, family, n_params, method, bits (16: the original), group_size (-1: a whole row; missing: not
    stated), calibration_size, calibration, benchmark, metric, shots, accuracy, chance, n_items, source_id, check.

    Args:
        own: a table with these columns to add; metric, shots, group_size, calibration_size, calibration and check may
            be missing.

    Raises:
        LibraryError: the table cannot be used.
    """
    with files(__package__).joinpath(MEASUREMENTS).open("rb") as file:
        table = pd.read_csv(file, compression="gzip")
    if own is None:
        return table
    try:
        added = pd.read_csv(own)
    except Exception as error:  # pandas meets damage in many ways
        raise LibraryError(f"{own}: not a table: {' '.join(str(error).split())[:300]}") from None
    try:
        return pd.concat([table, check_measurements(added, table)], ignore_index=True)
    except LibraryError as error:
        raise LibraryError(f"{own}: {error}") from None


def read_measurements(path: Path) -> pd.DataFrame:
    """Measurements beside a law that was fitted to them, a user's own among them; raises LibraryError."""
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise LibraryError(f"{path}: no such file; keep it beside the law, or fit it again") from None
    except Exception as error:  # pandas meets damage in many ways
        raise LibraryError(f"{path}: not a table: {' '.join(str(error).split())[:300]}") from None


def sources() -> pd.DataFrame:
    """Where the measurements come from: source_id, title, address, commit_or_date, licence, place, note, rows."""
    with files(__package__).joinpath(SOURCES).open() as file:
        return pd.read_csv(file, keep_default_na=False)


def benchmarks() -> pd.DataFrame:
    """The stratum of each benchmark and why: benchmark, stratum (missing: not used), paper (its stratum), reason."""
    with files(__package__).joinpath(BENCHMARKS).open() as file:
        return pd.read_csv(file)


def strata_of_benchmarks() -> dict[str, str]:
    """The stratum of each benchmark that is used."""
    table = benchmarks().dropna(subset="stratum")
    return dict(zip(table.benchmark, table.stratum, strict=True))


def check_measurements(table: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """A copy of a user's table with every column of the library.

    Args:
        table: the user's.
        known: the library that it is added to.

    Raises:
        LibraryError: a column is missing, a value is impossible, a benchmark or a quantized row's original is unknown,
            a model contradicts the library, or a row occurs twice.
    """
    needed = [*NAMES, *(name for name in NUMBERS if name not in OPTIONAL)]
    if missing := [name for name in needed if name not in table]:
        raise LibraryError(f"the column {missing[0]} is missing; needed are {', '.join(needed)}")
    if table.empty:
        raise LibraryError("there is a header, but no row below it")
    table = table.reset_index(drop=True)
    for name, default in OPTIONAL.items():
        table[name] = table[name].fillna(default) if name in table else default
    for name in NAMES:
        _refuse(table[name].isna() | (table[name].astype(str).str.strip() == ""), name, "is blank")
        table[name] = table[name].astype(str).str.strip()
    for name, (least, most) in NUMBERS.items():
        table[name] = pd.to_numeric(table[name], errors="coerce").where(table[name].notna())
        inside = table[name].between(least, most) | (table[name].isna() & (name in OPTIONAL))
        _refuse(~inside, name, f"is not a number from {least:g} to {most:g}")
    _refuse((table.group_size <= 0) & (table.group_size != PER_CHANNEL), "group_size", "is not more than 0, or -1")
    known_benchmarks = set(benchmarks().benchmark)
    _refuse(
        ~table.benchmark.isin(known_benchmarks), "benchmark", f"is not one of {', '.join(sorted(known_benchmarks))}"
    )
    _refuse(table.source_id.isin(set(known.source_id)), "source_id", "is a source of the library; name your own")
    _refuse(table.duplicated(list(SETTING)), "benchmark", "was given above for the same model and setting")
    same_case = {name.lower(): name for name in known.method.unique()}
    table["method"] = table.method.map(lambda name: same_case.get(name.lower(), name))
    for name in ("family", "n_params"):
        _refuse(table.groupby("model")[name].transform("nunique") > 1, name, "differs between rows of the model")
        of_models = known.drop_duplicates("model").set_index("model")[name]
        other = table.model.map(of_models)
        differs = other.notna() & (other != table[name])
        if name == "n_params":
            differs = other.notna() & ((table[name] / other - 1).abs() > 0.02)
        _refuse(differs, name, "is another one in the library")
    chances = known.drop_duplicates("benchmark").set_index("benchmark").chance
    differs = (table.chance - table.benchmark.map(chances)).abs() > SAME_CHANCE
    _refuse(differs, "chance", "is another one in the library")
    _refuse(table.groupby(ASKED_ALIKE, dropna=False).chance.transform("nunique") > 1, "chance", "is not the original's")
    _refuse(
        with_originals(table).accuracy_16.isna() & (table.bits < BASELINE_BITS), "bits", "has no row of its original"
    )
    return table.assign(check=table.get("check", "own"))


def _refuse(wrong: pd.Series, column: str, why: str) -> None:
    if wrong.any():
        raise LibraryError(f"row {int(np.flatnonzero(wrong)[0]) + 1}, column {column}: {why}")


def with_originals(table: pd.DataFrame) -> pd.DataFrame:
    """The rows with ``accuracy_16``, that of their original asked the same way by the same source."""
    original = table[table.bits >= BASELINE_BITS]
    means = original.groupby(ASKED_ALIKE, dropna=False).accuracy.mean().rename("accuracy_16").reset_index()
    return table.merge(means, on=ASKED_ALIKE, how="left", validate="many_to_one")


def kept_shares(table: pd.DataFrame, strata: dict[str, str] | None = None, selected_too: bool = False) -> pd.DataFrame:
    """One row for each quantized measurement that has a kept share: its adjusted accuracy over that of its original.

    Columns beside the library's: stratum, original (adjusted accuracy), kept, item_noise (standard deviation of kept by
    the items, their answers being paired, and by rounding), noise (the same for a fit: where bits are more than 4, as
    much as with 4, or the many rows that lose next to nothing would decide what the others lose), row (number of the
    measurement in the library, from 1).

    Left out: parts of another benchmark, and originals within 0.05 of chance (adjusted).

    Args:
        table: see ``read_library``.
        strata: of benchmarks; those of the library if not given.
        selected_too: take also recipes that were selected to lose little.
    """
    strata = strata_of_benchmarks() if strata is None else strata
    table = with_originals(table.assign(row=np.arange(1, len(table) + 1)))
    table = table.assign(
        stratum=table.benchmark.map(strata), original=(table.accuracy_16 - table.chance) / (1 - table.chance)
    )
    used = (table.bits < BASELINE_BITS) & table.stratum.notna() & (table.original > LEAST_ORIGINAL)
    if not selected_too:
        used &= ~table.source_id.isin(SELECTED_SOURCES)
    table = table[used].reset_index(drop=True)
    span = (1 - table.chance) * table.original
    variance = _binomial(table.accuracy, table.n_items) + _binomial(table.accuracy_16, table.n_items)
    item_noise, noise = (
        np.sqrt(np.interp(bits, list(REMAINS), list(REMAINS.values())) * variance / span**2 + ROUNDING**2)
        for bits in (table.bits, table.bits.clip(upper=4))
    )
    return table.assign(
        kept=(table.accuracy - table.chance) / (1 - table.chance) / table.original,
        item_noise=item_noise,
        noise=noise,
        group_size=table.group_size.fillna(0),
        calibration=table.calibration.fillna(""),
    )


def _binomial(accuracy: pd.Series, n_items: pd.Series) -> NDArray[np.float64]:
    return (accuracy * (1 - accuracy) / n_items).to_numpy(float)


def by_stratum(rows: pd.DataFrame) -> pd.DataFrame:
    """The kept share of each stratum, model and setting: the mean over its benchmarks.

    Columns: model, family, n_params, source_id, method, bits, group_size, calibration, stratum, kept, noise (standard
    deviation, by the items), measurements and benchmarks (how many), rows (numbers of the measurements).
    """
    keys = ["model", "family", "n_params", "source_id", "method", "bits", "group_size", "calibration", "stratum"]
    grouped = rows.assign(variance=rows.item_noise**2).groupby(keys, sort=False)
    found = grouped.agg(
        kept=("kept", "mean"),
        noise=("variance", "sum"),
        measurements=("kept", "size"),
        benchmarks=("benchmark", "nunique"),
        rows=("row", list),
    ).reset_index()
    return found.assign(noise=np.sqrt(found.noise) / found.measurements)
