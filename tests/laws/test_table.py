"""Tables from anywhere are checked, and what is wrong is named by row and column."""

import time

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import TableError, read_observations
from stratalaw.laws.table import check_observations, read_items

TABLE = pd.DataFrame(
    {
        "n_params": [1e9, 1e9, 2e9, 2e9],
        "bits": [3, 4, 3, 4],
        "stratum": "reasoning",
        "accuracy": [0.4, 0.5, 0.6, 0.7],
        "chance": 0.25,
    }
)


def written(tmp_path, table: pd.DataFrame):
    path = tmp_path / "table.csv"
    table.to_csv(path, index=False)
    return path


def test_parquet_is_the_same_as_csv(tmp_path):
    TABLE.to_parquet(tmp_path / "table.pq")
    pd.testing.assert_frame_equal(read_observations(tmp_path / "table.pq"), read_observations(written(tmp_path, TABLE)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="chance"), "the column chance is missing; needed are n_params, bits, stratum"),
        (lambda t: t.assign(accuracy=[0.4, 1.2, 0.6, 0.7]), "row 2, column accuracy: 1.2 is not a number from 0 to 1"),
        (lambda t: t.assign(accuracy=["0.4", "0.5", "good", "0.7"]), "row 3, column accuracy: good is not a number"),
        (
            lambda t: t.assign(chance=[0.25, 0.25, 0.25, 1.0]),
            "row 4, column chance: 1.0 is not a number from 0 to less",
        ),
        (lambda t: t.assign(n_params=[1e9, 0, 2e9, 2e9]), "row 2, column n_params: 0.0 is not a number more than 0"),
        (lambda t: t.assign(accuracy=[0.4, np.nan, 0.6, 0.7]), "row 2, column accuracy: nan is not a number"),
        (lambda t: t.assign(n_params=[1e9, np.inf, 2e9, 2e9]), "row 2, column n_params: inf is not a number"),
        (lambda t: t.assign(group_size=["128", "l28", "64", "64"]), "row 2, column group_size: l28 is not a number"),
        (lambda t: t.assign(held_out=["True", None, "no", None]), "row 3, column held_out: no is neither True nor"),
        (lambda t: pd.concat([t, t[1:2]]), "row 5: the same model, variant and benchmark"),
        (lambda t: t.assign(stderr=[0.1, -0.1, 0.1, 0.1]), "row 2, column stderr: -0.1 is not a number from 0 to 0.5"),
        (lambda t: t.assign(stderr=[0.1, np.inf, 0.1, 0.1]), "row 2, column stderr: inf is not a number from 0 to 0.5"),
        (lambda t: t.assign(bits=[3, 1e300, 3, 4]), "row 2, column bits: 1e+300 is not a number more than 1, up to 64"),
        (lambda t: t.assign(n_params=1e300), "row 1, column n_params: 1e+300 is not a number more than 0, up to 1e+18"),
        (lambda t: t.assign(effective_bits=1e300), "row 1, column effective_bits: 1e+300 is not a number more than 0"),
        (lambda t: t.assign(group_size=1e300), "row 1, column group_size: 1e+300 is not a number that is whole"),
        (lambda t: t.assign(calibration_size=1e300), "row 1, column calibration_size: 1e+300 is not a number more"),
        (lambda t: t.assign(n_items=1e300), "row 1, column n_items: 1e+300 is not a number that is whole, from 1 to"),
        (lambda t: t.assign(n_items=10.5), "row 1, column n_items: 10.5 is not a number that is whole, from 1 to 1e"),
        (lambda t: t.assign(group_size=12.5), "row 1, column group_size: 12.5 is not a number that is whole, more"),
        (
            lambda t: t.assign(n_items=1000, stderr=[0.01, 0.01, 0.4, 0.01]),
            "row 3, column stderr: 0.4 is more than 1000 items can have; it is a share",
        ),
        (lambda t: t.assign(accuracy="9" * 999), "row 1, column accuracy: 999"),
        (lambda t: pd.concat([t, t[["accuracy"]]], axis=1), "the column accuracy is there twice"),
        (lambda t: t.rename(columns={"chance": "bits"}), "the column bits is there twice"),
        (lambda t: t[:0], "there is a header, but no row below it"),
        (lambda t: t.rename(columns={"bits": " bits"}), "the column ' bits' is padded with spaces; name it 'bits'"),
        (lambda t: t.assign(accuracy=["0.4", "0,5", "0.6", "0.7"]), "row 2, column accuracy: 0,5 has a decimal comma"),
        (
            lambda t: t.assign(model="m"),
            "row 3, column n_params: m has 2000000000 here and 1000000000 in row 1; one model has one",
        ),
        (lambda t: t.assign(family=list("abcc")), "row 2, column family: N1e+09 has b here and a in row 1"),
        (
            lambda t: t.assign(stratum=["reasoning", "General", "reasoning", "reasoning"]),
            "row 2, column stratum: General is a mean over strata, which the fit takes itself",
        ),
        (lambda t: t.assign(stratum=["a", "utilization", "a", "a"]), "row 2, column stratum: utilization is a mean"),
        (
            lambda t: t.assign(stratum=["a", "b", "A", "b"]),
            "row 3, column stratum: A differs from a above only in case",
        ),
        (lambda t: t.assign(stratum=["a", None, "a", "a"]), "row 2, column stratum: a blank; every row needs a name"),
        (lambda t: t.assign(model=["a", "a", "  ", "b"]), "row 3, column model: a blank"),
        (lambda t: t.assign(family=["a", "a", None, "b"]), "row 3, column family: a blank"),
        (lambda t: t.assign(model=["a", "a", "b ", "b "]), "row 3, column model: 'b ' is padded with spaces"),
        (lambda t: t.assign(method=["GPTQ", None, "AWQ", "AWQ"]), "row 2, column method: a blank"),
        (lambda t: t.assign(group_size=[64, 0, 64, 64]), "row 2, column group_size: 0 is not a number that is whole"),
        (lambda t: t.assign(group_size=[64, -2, 64, 64]), "row 2, column group_size: -2 is not a number that is whole"),
        (lambda t: t.assign(group_size=[64, np.inf, 64, 64]), "row 2, column group_size: inf is not a number"),
        (lambda t: t.assign(calibration_size=[8, 8, -1, 8]), "row 3, column calibration_size: -1 is not a number"),
        (lambda t: t.assign(calibration_size=[8, 8, 0, 8]), "row 3, column calibration_size: 0 is not a number more"),
        (lambda t: t.assign(stderr=[0.1, -0.1, 0.1, 0.1]), "row 2, column stderr: -0.1 is not a number from 0 to 0.5"),
        (lambda t: t.assign(stderr=[0.1, 0.1, 1.5, 0.1]), "row 3, column stderr: 1.5 is not a number from 0 to 0.5"),
        (
            lambda t: t.assign(n_items=[9, 0, 9, 9]),
            "row 2, column n_items: 0 is not a number that is whole",
        ),
        (lambda t: t.assign(bits=[3, np.inf, 3, 4]), "row 2, column bits: inf is not a number more than 1"),
        (
            lambda t: t.assign(variant=list("aabb")).assign(benchmark=list("xyxy")),
            "row 2, column bits: N1e+09 a has 4 here and 3 in row 1; one variant has one",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    path = written(tmp_path, change(TABLE))
    with pytest.raises(TableError) as refused:
        read_observations(path)
    assert str(refused.value).startswith(f"{path}: {message}")


def test_other_separators_are_named(tmp_path):
    path = tmp_path / "table.csv"
    table = TABLE.assign(stderr=["0,1", "0", "0,1", "0,05"])  # commas that are not the same number in each row
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        table.to_csv(path, index=False, sep=separator, decimal=",")
        with pytest.raises(TableError, match=f"columns are separated by {name}; separate them by commas"):
            read_observations(path)


def test_the_original_of_a_model_needs_no_method():
    table = pd.concat([TABLE, TABLE[:1].assign(bits=16, method=None)], ignore_index=True)
    found = check_observations(table.assign(method=["GPTQ", "AWQ", "GPTQ", "GPTQ", None]))
    assert found.method.tolist() == ["GPTQ", "AWQ", "GPTQ", "GPTQ", "none"]


def test_half_a_million_rows_are_checked_in_seconds():
    count = 500_000
    table = pd.DataFrame(
        {
            "model": [f"m{i // 1000}" for i in range(count)],
            "n_params": [1e9 + i // 1000 for i in range(count)],
            "bits": 4,
            "group_size": np.arange(count) % 1000 + 1,
            "stratum": "reasoning",
            "accuracy": 0.5,
            "chance": 0.25,
            "n_items": 1000,
        }
    )
    started = time.perf_counter()
    check_observations(table)
    assert time.perf_counter() - started < 15


def test_files_that_are_no_tables_are_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.csv: there is no such file"):
        read_observations(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TableError, match=r"empty\.csv: not a table"):
        read_observations(tmp_path / "empty.csv")
    (tmp_path / "no.pq").write_text("nothing")
    with pytest.raises(TableError, match=r"no\.pq: not a table"):
        read_observations(tmp_path / "no.pq")


def test_values_of_parquet_that_are_neither_numbers_nor_names_are_named(tmp_path):
    for column, values in (("accuracy", [[0.5]] * 4), ("stratum", [[1]] * 4), ("held_out", [[True]] * 4)):
        TABLE.assign(**{column: pd.Series(values)}).to_parquet(tmp_path / "table.pq")
        with pytest.raises(TableError, match=rf"table\.pq: .*column {column}"):
            read_observations(tmp_path / "table.pq")


def test_damaged_parquet_is_refused_in_one_line_or_read(tmp_path):
    TABLE.assign(model=list("abcd"), n_items=100).to_parquet(tmp_path / "whole.pq")
    content = (tmp_path / "whole.pq").read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for place in generator.integers(len(content), size=150):
        path = tmp_path / "damaged.pq"
        flipped = bytearray(content)
        flipped[place] ^= 1 << generator.integers(8)
        path.write_bytes(flipped)
        refused += is_refused(path)
    assert refused > 30
    for length in generator.integers(len(content), size=20):
        path.write_bytes(content[:length])
        assert is_refused(path)


def is_refused(path) -> bool:
    try:
        read_observations(path)
    except TableError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (b"PAR1 nothing", "items.pq: not a table: "),
        (pd.DataFrame({"model": ["m"]}), "items.pq: the column variant is missing; needed are model, variant, stratum"),
        (pd.DataFrame({**dict.fromkeys(("model", "variant", "stratum", "task", "document"), "x"), "score": [7.0]}),
         "items.pq: row 1, column score: 7.0 is not a number from 0 to 1"),
    ],
)  # fmt: skip
def test_scores_of_items_that_cannot_be_used_are_named(tmp_path, items, message):
    path = tmp_path / "items.pq"
    path.write_bytes(items) if isinstance(items, bytes) else items.to_parquet(path)
    with pytest.raises(TableError) as error:
        read_items(path)
    assert message in str(error.value) and "\n" not in str(error.value)
