"""An observations table from anywhere: read, checked, and completed.

Whatever cannot be right is refused in one line that names the row and the column: a fit would take it silently, and
its numbers would look as good as any others. Rows are counted from 1, the header apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.errors import StratalawError
from stratalaw.seals import SealError, read_parquet
from stratalaw.study.variants import BASELINE_BITS

GENERAL = "general"
UTILIZATION = "utilization"  # application and reasoning pooled, as in the paper's first version
GPTQ, ORIGINAL = "GPTQ", "none"  # methods: of rows that name none, and of originals
NEEDED = ("n_params", "bits", "stratum", "accuracy", "chance")
NAMES = ("model", "family", "variant", "stratum", "benchmark", "method")
IDENTITY = ("model", "variant", "benchmark", "method", "stratum")
ITEM_COLUMNS = ("model", "variant", "stratum", "task", "document", "score")
PARQUET = (".parquet", ".pq")
WHOLE_ROW = -1  # the group size of a scale for each whole row
LARGEST_STDERR = 0.5  # of a mean of values between 0 and 1
MAX_ERROR_RATIO = 2  # of a standard error to that of items that are right or wrong, the largest that items can have
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
MAX_BITS = 64
MAX_COUNT = 1e18  # of parameters, items, samples: beyond it is no model, but a damaged number
MAX_SHOWN = 300  # characters of what a library says of a file

Test = Callable[[pd.Series], "pd.Series[bool]"]


class TableError(StratalawError):
    """An observations table that cannot be used; the message is one line that names the row and the column."""


def read_observations(path: Path) -> pd.DataFrame:
    """Read an observations table from CSV or parquet and check it (see ``check_observations``).

    Raises:
        TableError: the file cannot be read, or its content cannot be used.
    """
    try:
        table = read_parquet(path) if path.suffix in PARQUET else _read_csv(path)
    except FileNotFoundError:
        raise TableError(f"{path}: there is no such file") from None
    except SealError:
        raise
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    except Exception as error:  # pandas and pyarrow meet damage in many ways
        raise TableError(f"{path}: not a table: {' '.join(str(error).split())[:MAX_SHOWN]}") from None
    try:
        return check_observations(table)
    except TableError as error:
        raise TableError(f"{path}: {error}") from None


def read_items(path: Path) -> pd.DataFrame:
    """Read the scores of items from parquet.

    Raises:
        TableError: the file cannot be read, a column is missing, or a score is none.
    """
    try:
        table = read_parquet(path)
    except SealError:
        raise
    except Exception as error:  # pyarrow meets damage in many ways
        raise TableError(f"{path}: not a table: {' '.join(str(error).split())[:MAX_SHOWN]}") from None
    missing = [column for column in ITEM_COLUMNS if column not in table]
    if missing:
        raise TableError(f"{path}: the column {missing[0]} is missing; needed are {', '.join(ITEM_COLUMNS)}")
    try:
        _numbers(table.score, lambda x: (x >= 0) & (x <= 1), "from 0 to 1", needed=True)
    except TableError as error:
        raise TableError(f"{path}: {error}") from None
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    # pandas renames a column that is there twice.
    columns = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    if len(columns) == 1:
        for separator, name in OTHER_SEPARATORS.items():
            if separator in columns[0]:
                raise TableError(f"columns are separated by {name}; separate them by commas, with decimal points")
    _check_columns_are_unique(columns)
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), skipinitialspace=False)


def check_observations(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with every column that fits use; columns that are optional and missing are filled in.

    Needed are ``n_params, bits, stratum, accuracy, chance``. Optional: ``model, family, held_out, variant, benchmark,
    method, group_size, calibration_size, calibration_seed, effective_bits, n_items, stderr``.

    Raises:
        TableError: a needed column is missing or a name padded; there is no row; a value is impossible; a name is
            blank, padded, or differs from another only in case; a model has several sizes or families, or is held out
            in part; a variant has several settings; a stratum is a composite; a row occurs twice.
    """
    _check_header(table)
    table = table.reset_index(drop=True)
    for column in (name for name in NAMES if name in table):
        table[column] = _names(table, column)
    for column, valid, allowed in NUMBERS:
        if column in table:
            table[column] = _numbers(table[column], valid, allowed, needed=column in NEEDED)
    _check_strata(table.stratum)
    table = _with_optional_columns(table)
    # Numbers for names: of a million rows, each comparison of texts takes a second.
    codes = pd.DataFrame({column: pd.factorize(table[column])[0] for column in IDENTITY})
    for columns, of in (
        (("n_params", "family", "held_out"), ["model"]),
        (("bits", "group_size", "calibration_size"), ["model", "variant", "method"]),
    ):
        group = codes.groupby(of, sort=False).ngroup().to_numpy()
        for column in columns:
            _check_is_one(table, of, group, column)
    repeated = codes.duplicated()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        names = ", ".join(str(table[column][row]) for column in ("model", "variant", "benchmark"))
        raise TableError(f"row {row + 1}: the same model, variant and benchmark ({names}) as in a row above")
    return table


def _check_columns_are_unique(columns: Iterable[object]) -> None:
    seen = set()
    for column in columns:
        if column in seen:
            raise TableError(f"the column {column} is there twice")
        seen.add(column)


def _check_header(table: pd.DataFrame) -> None:
    _check_columns_are_unique(table.columns)
    for column in map(str, table.columns):
        if column != column.strip() and column.strip() in (*NEEDED, *OPTIONAL):
            raise TableError(f"the column {column!r} is padded with spaces; name it {column.strip()!r}")
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise TableError(f"the column {missing[0]} is missing; needed are {', '.join(NEEDED)}")
    if table.empty:
        raise TableError("there is a header, but no row below it")


def _is_count(values: pd.Series) -> pd.Series:
    found: pd.Series = (values > 0) & (values <= MAX_COUNT)
    return found


def _is_whole_count(values: pd.Series) -> pd.Series:
    return _is_count(values) & (values % 1 == 0)


def _is_group_size(values: pd.Series) -> pd.Series:
    return _is_whole_count(values) | (values == WHOLE_ROW)


NUMBERS: tuple[tuple[str, Test, str], ...] = (
    ("n_params", _is_count, f"more than 0, up to {MAX_COUNT:g}"),
    ("bits", lambda x: (x > 1) & (x <= MAX_BITS), f"more than 1, up to {MAX_BITS}"),
    ("accuracy", lambda x: (x >= 0) & (x <= 1), "from 0 to 1"),
    ("chance", lambda x: (x >= 0) & (x < 1), "from 0 to less than 1"),
    ("group_size", _is_group_size, f"that is whole, more than 0, up to {MAX_COUNT:g} (or -1, whole rows)"),
    ("calibration_size", _is_count, f"more than 0, up to {MAX_COUNT:g}"),
    ("effective_bits", lambda x: (x > 0) & (x <= MAX_BITS), f"more than 0, up to {MAX_BITS}"),
    ("n_items", _is_whole_count, f"that is whole, from 1 to {MAX_COUNT:g}"),
    ("stderr", lambda x: (x >= 0) & (x <= LARGEST_STDERR), f"from 0 to {LARGEST_STDERR:g}"),
)
OPTIONAL = (
    *("model", "family", "held_out", "variant", "benchmark", "method", "group_size", "calibration_size"),
    *("calibration_seed", "effective_bits", "n_items", "stderr"),
)


def _numbers(column: pd.Series, valid: Test, allowed: str, needed: bool) -> pd.Series:
    try:
        values = pd.to_numeric(column, errors="coerce").astype(float)
    except TypeError:
        raise TableError(f"column {column.name}: holds no numbers") from None
    bad = ~valid(values) & (needed | column.notna())
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        found = str(column[row])
        if "," in found and not np.isnan(pd.to_numeric(found.replace(",", "."), errors="coerce")):
            raise TableError(f"row {row + 1}, column {column.name}: {found} has a decimal comma; write a decimal point")
        # A text such as "good", or a number that lies outside of what is possible.
        raise TableError(f"row {row + 1}, column {column.name}: {found} is not a number {allowed}")
    return values


def _names(table: pd.DataFrame, column: str) -> pd.Series:
    """A column of names as text, with none blank (but the method of an original) or padded."""
    try:
        codes, found = pd.factorize(table[column], use_na_sentinel=True)
    except TypeError:
        raise TableError(f"column {column}: holds no names") from None
    names = pd.Index([str(name) for name in found], dtype=object)
    padded = np.array([name != name.strip() for name in names], bool)
    blank = np.array([not name.strip() for name in names], bool)
    is_blank = (codes < 0) | (blank[codes] if len(blank) else False)
    if column == "method":
        bits = pd.to_numeric(table.bits, errors="coerce")
        is_blank &= (bits < BASELINE_BITS).to_numpy()
    if is_blank.any():
        raise TableError(
            f"row {int(np.flatnonzero(is_blank)[0]) + 1}, column {column}: a blank; every row needs a name"
        )
    if padded.any():
        row = int(np.flatnonzero(np.isin(codes, np.flatnonzero(padded & ~blank)))[0])
        raise TableError(f"row {row + 1}, column {column}: {names[codes[row]]!r} is padded with spaces")
    texts = np.append(names.to_numpy(), "")  # the last one is of a blank, whose code is -1
    return pd.Series(texts[codes], index=table.index, name=column, dtype=object)


def _check_strata(strata: pd.Series) -> None:
    codes, names = pd.factorize(strata)
    lowered = [name.lower() for name in names]
    for place, name in enumerate(names):
        row = int(np.flatnonzero(codes == place)[0]) + 1
        if lowered[place] in (GENERAL, UTILIZATION):
            raise TableError(
                f"row {row}, column stratum: {name} is a mean over strata, which the fit takes itself; drop its rows"
            )
        first = lowered.index(lowered[place])
        if first != place:
            raise TableError(f"row {row}, column stratum: {name} differs from {names[first]} above only in case")


def _check_is_one(table: pd.DataFrame, of: list[str], group: NDArray[np.integer[Any]], column: str) -> None:
    """Refuse a model, or a variant of one, that has several values in a column; ``group``: of each row, from 0 on."""
    first = np.unique(group, return_index=True)[1][group]
    values = table[column]
    other = values.iloc[first].reset_index(drop=True)
    differs = (values != other) & ~(values.isna() & other.isna())
    if differs.any():
        row = int(np.flatnonzero(differs)[0])
        who = " ".join(str(table[name][row]) for name in of[:2])
        raise TableError(
            f"row {row + 1}, column {column}: {who} has {_readable(values[row])} here and {_readable(other[row])} in "
            f"row {first[row] + 1}; one {'model' if len(of) == 1 else 'variant'} has one"
        )


def _readable(value: object) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _with_optional_columns(table: pd.DataFrame) -> pd.DataFrame:
    sizes, place = np.unique(table.n_params, return_inverse=True)
    defaults: dict[str, str | bool | float | NDArray[np.object_]] = {
        "model": np.array([f"N{size:.6g}" for size in sizes], dtype=object)[place],
        "family": "all",
        "held_out": False,
        "benchmark": "all",
        "method": GPTQ,
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
    table["method"] = table.method.where(table.bits < BASELINE_BITS, ORIGINAL)
    try:
        held_out = table.held_out.map({True: True, False: False, "True": True, "False": False})
    except TypeError:
        raise TableError("column held_out: holds neither True nor False") from None
    wrong = held_out.isna() & table.held_out.notna()
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TableError(f"row {row + 1}, column held_out: {table.held_out[row]} is neither True nor False")
    table["held_out"] = held_out.notna() & (held_out == True)  # noqa: E712 (a blank is no answer)
    if "variant" not in table:
        table["variant"] = _variant_names(table)
    # Items that are all right or all wrong do not tell the error; half an item more of each kind does.
    smoothed = (table.accuracy * table.n_items + 0.5) / (table.n_items + 1)
    is_certain = table.accuracy.isin([0, 1]) & (table.stderr.isna() | (table.stderr == 0))
    expected = smoothed.where(is_certain, table.accuracy)
    binomial = pd.Series(np.sqrt(expected * (1 - expected) / table.n_items))
    table["stderr"] = table.stderr.mask(is_certain & binomial.notna()).fillna(binomial)
    impossible = np.flatnonzero(table.stderr > MAX_ERROR_RATIO * np.sqrt(smoothed * (1 - smoothed) / table.n_items))
    if len(impossible):
        row = int(impossible[0])
        raise TableError(
            f"row {row + 1}, column stderr: {table.stderr[row]:g} is more than {table.n_items[row]:g} items can have; "
            "it is a share, as accuracy is"
        )
    return table


def _variant_names(table: pd.DataFrame) -> NDArray[np.object_]:
    """Names from the settings, made once for each combination."""
    settings = table[["bits", "group_size", "calibration_size", "calibration_seed"]]
    place = settings.groupby(list(settings), sort=False, dropna=False).ngroup().to_numpy()
    each = settings.iloc[np.unique(place, return_index=True)[1]].astype(str)
    return each.agg("-".join, axis=1).to_numpy(object)[place]
