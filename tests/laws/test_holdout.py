"""What forms say of rows that they have not seen."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import FORMS, fit_law, form_named, stratum_accuracies
from stratalaw.laws.holdout import BASELINES, EACH_SIZE, FAMILY, LARGEST, aicc, compare, hold_outs
from stratalaw.laws.rows import rows_of
from stratalaw.laws.simulation import grid, simulate

PAPER_LAW = form_named("paper")
TRUE = {"A": 0.8, "alpha": -0.36, "beta": -1.07, "gamma": -0.03, "delta": 0.07}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return stratum_accuracies(simulate(PAPER_LAW, TRUE, grid(bits=(3, 4, 8)), seed=0, n_items=2000))


def test_every_row_is_held_out_once_by_size_and_once_by_bits(table):
    for scheme, masks in hold_outs(rows_of(table), np.ones(len(table), bool)).items():
        assert np.sum(masks, axis=0).max() == 1
        if scheme != LARGEST:
            assert np.sum(masks, axis=0).min() == 1


def test_errors_are_those_of_fits_without_the_held_out_rows(table):
    largest = table.n_params == table.n_params.max()
    fit = fit_law(table[~largest], estimator="accuracy")
    errors = (fit.predict(table[largest]) - table.accuracy_adjusted[largest]).abs()
    row = compare(rows_of(table), [PAPER_LAW]).set_index("form").loc["paper"]
    assert row[f"{LARGEST} mae"] == pytest.approx(errors.mean(), rel=1e-3)
    assert row[f"{LARGEST} max"] == pytest.approx(errors.max(), rel=1e-3)


def test_another_family_is_predicted_and_not_fitted(table):
    other = stratum_accuracies(simulate(PAPER_LAW, TRUE | {"A": 1.2}, grid(sizes=(1e9, 8e9)), seed=1))
    both = pd.concat([table, other.assign(family="other", model=other.model + "-other")], ignore_index=True)
    own = (both.family != "other").to_numpy()
    reference = rows_of(table).reference_size
    compared = compare(rows_of(both, reference), [PAPER_LAW], own).set_index("form")
    alone = compare(rows_of(table), [PAPER_LAW]).set_index("form")
    for column in alone.columns.drop("title"):
        np.testing.assert_allclose(compared[column], alone[column], rtol=1e-5)
    fit = fit_law(table, estimator="accuracy")
    error = (fit.predict(both[~own]) - both.accuracy_adjusted[~own]).abs().mean()
    assert compared.loc["paper", f"{FAMILY} mae"] == pytest.approx(error, rel=1e-3)


def test_the_true_form_comes_first_and_beats_the_baselines(table):
    compared = compare(rows_of(table))
    assert compared.form[0] == "paper"
    assert set(compared.form) == {*(form.name for form in FORMS), *(baseline.name for baseline in BASELINES)}
    errors = compared.set_index("form")[f"{EACH_SIZE} mae"]
    assert errors["paper"] < errors["size-bits-table"] < errors["mean"]
    assert compared[f"{EACH_SIZE} coverage"][0] == pytest.approx(0.95, abs=0.04)


def test_baselines_answer_with_means_of_what_they_know():
    table = pd.DataFrame(
        {
            "n_params": [1e9, 1e9, 1e9, 4e9],
            "bits": [3, 3, 4, 3],
            "stratum": "s",
            "accuracy": [0.2, 0.4, 0.6, 0.9],
            "chance": 0,
            "benchmark": list("abcd"),
            "variant": list("abcd"),
        }
    )
    rows = rows_of(stratum_accuracies(table))
    mean, cells = BASELINES
    known = np.array([True, True, True, False])
    np.testing.assert_allclose(mean.predict(rows, known), 0.4)
    # The size 4e9 is unknown: the nearest one with the same bits answers.
    np.testing.assert_allclose(cells.predict(rows, known), [0.3, 0.3, 0.6, 0.3])


def test_aicc_is_the_textbooks():
    residual = np.array([0.1, -0.2, 0.05, 0.1, -0.05, 0.02, 0.0, 0.03])
    n, k = 8, 3  # two parameters and the variance
    expected = n * np.log((residual**2).mean()) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert aicc(residual, 2) == pytest.approx(expected)
    assert aicc(residual[:4], 2) == np.inf
