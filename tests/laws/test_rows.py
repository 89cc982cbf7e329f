"""From observations to the rows of strata."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import read_observations, stratum_accuracies
from stratalaw.laws.rows import reasons_to_leave_out, rows_of
from stratalaw.laws.table import GENERAL

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
