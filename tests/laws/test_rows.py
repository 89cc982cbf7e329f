"""Tables from anywhere are checked, and what is wrong is named by row and column."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import TableError, read_observations, stratum_accuracies
from stratalaw.laws.rows import GENERAL, reasons_to_leave_out, rows_of

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


def test_the_needed_columns_suffice(tmp_path):
    table = read_observations(written(tmp_path, TABLE))
    accuracies = stratum_accuracies(table)
    np.testing.assert_allclose(accuracies.accuracy_adjusted, [0.2, 1 / 3, 7 / 15, 0.6])
    assert accuracies.model.nunique() == 2
    assert accuracies.stderr_adjusted.isna().all()


def test_parquet_is_the_same_as_csv(tmp_path):
    TABLE.to_parquet(tmp_path / "table.parquet")
    pd.testing.assert_frame_equal(
        read_observations(tmp_path / "table.parquet"), read_observations(written(tmp_path, TABLE))
    )


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
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    path = written(tmp_path, change(TABLE))
    with pytest.raises(TableError) as refused:
        read_observations(path)
    assert str(refused.value).startswith(f"{path}: {message}")


def test_only_what_has_all_strata_has_a_general_accuracy():
    table = pd.concat([TABLE, TABLE[:3].assign(stratum="application", accuracy=0.9)], ignore_index=True)
    general = stratum_accuracies(table).query("stratum == @GENERAL")
    assert list(zip(general.n_params, general.bits, strict=True)) == [(1e9, 3), (1e9, 4), (2e9, 3)]


def test_a_blank_says_that_a_model_is_fitted(tmp_path):
    table = read_observations(written(tmp_path, TABLE.assign(held_out=["True", "True", None, None])))
    assert table.held_out.tolist() == [True, True, False, False]


def test_a_row_without_a_factor_that_others_have_is_left_out(tmp_path):
    table = read_observations(written(tmp_path, TABLE.assign(group_size=[128, None, 64, 64])))
    reasons = reasons_to_leave_out(stratum_accuracies(table))
    assert reasons.tolist() == ["", "no group_size", "", ""]


def test_items_that_are_all_wrong_have_an_error_too(tmp_path):
    table = TABLE.assign(accuracy=[0.0, 1.0, 0.6, 0.7], chance=0.0, n_items=100, stderr=[0, 0, 0.05, 0.04])
    found = read_observations(written(tmp_path, table)).stderr
    half = 0.5 / 101
    assert found.tolist() == pytest.approx([np.sqrt(half * (1 - half) / 100)] * 2 + [0.05, 0.04])


def test_files_that_are_no_tables_are_named(tmp_path):
    with pytest.raises(TableError, match=r"none\.csv: there is no such file"):
        read_observations(tmp_path / "none.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(TableError, match=r"empty\.csv: not a table"):
        read_observations(tmp_path / "empty.csv")


def test_standard_errors_are_those_of_the_mean_of_the_benchmarks():
    table = pd.concat(
        [TABLE.assign(benchmark=b, stratum=s, n_items=100) for b, s in (("x", "application"), ("y", "application"))]
        + [TABLE.assign(benchmark="z", stratum="reasoning", n_items=400)]
    )
    accuracies = stratum_accuracies(table).set_index(["stratum", "n_params", "bits"]).stderr_adjusted
    variance = 0.4 * 0.6 / 0.75**2
    application, reasoning = variance / 200, variance / 400
    assert accuracies["application", 1e9, 3] == pytest.approx(np.sqrt(application))
    assert accuracies["reasoning", 1e9, 3] == pytest.approx(np.sqrt(reasoning))
    assert accuracies[GENERAL, 1e9, 3] == pytest.approx(np.sqrt(application + reasoning) / 2)


def test_sizes_are_relative_to_their_geometric_mean():
    rows = rows_of(stratum_accuracies(TABLE))
    assert rows.reference_size == pytest.approx(np.sqrt(2) * 1e9)
    np.testing.assert_allclose(rows.factors["N"], np.sqrt([0.5, 0.5, 2, 2]))
    assert rows.constant == {"E", "G", "C"}
