"""Each estimator finds the law that made the data, and says how sure it is."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from stratalaw.laws import FitError, LawFit, fit_law, form_named, stratum_accuracies
from stratalaw.laws.fit import with_cluster_covariance
from stratalaw.laws.rows import GENERAL, rows_of
from stratalaw.laws.simulation import expected_accuracy, grid, paper_grid, simulate

PAPER_LAW = form_named("paper")
TRUE = {"A": 0.8, "alpha": -0.36, "beta": -1.07, "gamma": -0.03, "delta": 0.07}
ESTIMATORS = ("logarithm", "weighted-logarithm", "accuracy", "likelihood")


def exact(variants: pd.DataFrame) -> pd.DataFrame:
    accuracy = expected_accuracy(PAPER_LAW, TRUE, variants)
    return variants.assign(stratum="reasoning", chance=0.25, accuracy_adjusted=accuracy, stderr_adjusted=0.001)


def simulated(seed: int, variants: pd.DataFrame | None = None, **options) -> pd.DataFrame:
    variants = paper_grid() if variants is None else variants
    return stratum_accuracies(simulate(PAPER_LAW, TRUE, variants, seed, **options))


@cache
def many_items(seed: int) -> pd.DataFrame:
    """A table for every estimator."""
    return simulated(seed, n_items=4000)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_exact_data_give_the_exact_law_back(estimator):
    table = exact(grid())
    fit = fit_law(table, estimator=estimator)
    assert fit.params.to_dict() == pytest.approx(TRUE, abs=1e-3)
    assert fit.adjusted_r_squared == pytest.approx(1)
    np.testing.assert_allclose(fit.predict(table), table.accuracy_adjusted, atol=1e-4)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimates_are_unbiased_and_intervals_cover_as_often_as_they_say(estimator):
    simulations = 100 if estimator == "logarithm" else 60
    values, covered = [], []
    for seed in range(simulations):
        fit = fit_law(many_items(seed), estimator=estimator)
        intervals = fit.conf_int()
        values.append(fit.params)
        covered.append([intervals.low[name] <= value <= intervals.high[name] for name, value in TRUE.items()])
    values = pd.DataFrame(values)
    bias = (values.mean() - pd.Series(TRUE)) / (values.std() / np.sqrt(simulations))
    assert bias.abs().max() < 3
    assert np.min(np.mean(covered, axis=0)) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / simulations)


def test_intervals_of_a_damage_law_allow_for_originals_that_were_measured():
    """All rows of a model share the noise of its original; without it the intervals of alpha cover 52 %."""
    form, truth = form_named("anchored"), {"A": 0.2, "alpha": -0.2, "c": 1.5, "gamma": -0.1, "delta": 0.45}
    variants = grid()
    losses = np.exp(0.25 * np.random.default_rng(0).normal(size=variants.model.nunique())) * 0.4
    variants["baseline_loss"] = losses[variants.model.factorize()[0]]
    covered, simulations = [], 40
    for seed in range(simulations):
        intervals = fit_law(
            stratum_accuracies(simulate(form, truth, variants, seed)), form, estimator="accuracy"
        ).conf_int()
        covered.append([intervals.low[name] <= value <= intervals.high[name] for name, value in truth.items()])
    assert np.min(np.mean(covered, axis=0)) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / simulations)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_order_of_rows_does_not_matter(estimator):
    table = simulated(0)
    fits = [fit_law(part, estimator=estimator) for part in (table, table.sample(frac=1, random_state=1))]
    np.testing.assert_allclose(fits[0].params, fits[1].params, rtol=1e-4)


def test_weights_are_those_of_the_delta_method():
    """A row with a hundred times the items counts a hundred times as much."""
    table = simulated(0)
    precise = table.assign(stderr_adjusted=np.where(np.arange(len(table)) < 60, 1e-5, 0.1))
    few = fit_law(table[:60])
    weighted = fit_law(precise, estimator="weighted-logarithm")
    # The scale refers to another mean size; the exponents do not.
    np.testing.assert_allclose(weighted.params[1:], few.params[1:], rtol=0.1)


def test_errors_that_clusters_share_widen_intervals():
    """Every model is off by a common error: rows are then no independent witnesses of the effect of size."""
    truth = exact(grid())
    shift = dict(zip(truth.model.unique(), np.random.default_rng(0).normal(0, 0.15, 5), strict=True))
    shared = truth.assign(accuracy_adjusted=truth.accuracy_adjusted ** np.exp(truth.model.map(shift)))
    fit, rows = fit_law(shared), rows_of(shared)
    robust = with_cluster_covariance(fit, rows, pd.factorize(shared.model)[0])
    expected = sm.OLS(np.log(-np.log(rows.accuracy)), fit.form.log_design(rows.factors)).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(shared.model)[0]}, use_t=True
    )
    np.testing.assert_allclose(robust.conf_int().loc["alpha"], expected.conf_int()[1])
    width = {name: interval.high - interval.low for name, interval in robust.conf_int().iterrows()}
    plain = fit.conf_int()
    assert width["alpha"] > 2 * (plain.high - plain.low)["alpha"]


def test_collapsed_variants_stay_in_the_likelihood():
    """At chance a row tells little of the exponents, but it is not at odds with them either."""
    table = simulated(1, grid(bits=(3, 4)))
    collapsed = table.accuracy_adjusted < 0.35
    table.loc[collapsed, "accuracy_adjusted"] = -0.01
    by_logarithm, by_likelihood = (fit_law(table, estimator=name) for name in ("logarithm", "likelihood"))
    assert by_logarithm.left_out == {"at or below chance": collapsed.sum()}
    assert by_likelihood.n_rows == len(table)


def test_rows_that_cannot_be_used_are_counted_with_the_reason():
    table = simulated(0, grid(bits=(2, 3, 4)))
    table.loc[table.bits == 4, "accuracy_adjusted"] = np.where(np.arange(80) < 3, -0.01, 0.5)
    table.loc[table.n_params == table.n_params.max(), "held_out"] = True
    baseline = table[:1].assign(group_size=np.nan, calibration_size=np.nan, bits=16)
    fit = fit_law(pd.concat([table, baseline], ignore_index=True))
    assert fit.left_out == {
        "2 bits (phase transition)": 64,
        "at or below chance": 3,
        "model held out": 48,
        "baseline": 1,
    }
    assert fit.n_rows + sum(fit.left_out.values()) == len(table) + 1


def test_a_constant_factor_has_no_exponent_and_the_fit_says_so():
    fit = fit_law(simulated(0, grid(group_sizes=(128,))))
    assert list(fit.params.index) == ["A", "alpha", "beta", "gamma"]
    assert "group size does not vary and is left out of the law" in fit.warnings


def test_a_factor_with_two_levels_is_warned_of():
    fit = fit_law(simulated(0, grid(bits=(3, 4))))
    assert any(warning.startswith("bits has two levels") for warning in fit.warnings)
    assert not any("bits" in warning for warning in fit_law(simulated(0)).warnings)


def test_parameters_that_stand_in_for_each_other_are_warned_of():
    """With two bit-widths, what bits do and how far the floor lies below them cannot be told apart."""
    fit = fit_law(simulated(0, grid(bits=(3, 4))), form_named("additive"), estimator="accuracy")
    assert any("stand in for each other" in warning for warning in fit.warnings)


def test_a_fit_comes_back_from_its_file():
    table = simulated(0)
    for form, estimator in (("paper", "logarithm"), ("additive", "accuracy"), ("paper", "likelihood")):
        fit = fit_law(table, form_named(form), estimator=estimator)
        again = LawFit.from_dict(json.loads(json.dumps(fit.to_dict())))
        np.testing.assert_allclose(again.predict(table), fit.predict(table))
        pd.testing.assert_frame_equal(again.conf_int(), fit.conf_int())
        assert again.summary() == fit.summary()


def test_prediction_intervals_hold_new_observations_as_often_as_they_say():
    covered = []
    for seed in range(20):
        fit, new = fit_law(simulated(seed)), simulated(seed + 1000)
        interval = fit.prediction_interval(new)
        covered.append(((new.accuracy_adjusted >= interval.low) & (new.accuracy_adjusted <= interval.high)).mean())
    assert np.mean(covered) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "reasoning: too few usable rows (5) for the parameters of the law (5)"),
        ({"stratum": ["a", "b", "a", "b", "a"]}, "which stratum? there are a, b"),
        ({"bits": 2}, "reasoning: no row is usable"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(change, message):
    table = simulated(0).iloc[[0, 37, 70, 99, 150]].assign(**change)
    with pytest.raises(FitError) as refused:
        fit_law(table)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_forms_that_are_not_log_linear_need_another_estimator():
    with pytest.raises(FitError, match="the form additive is not linear in the logarithm; use accuracy or likelihood"):
        fit_law(simulated(0), form_named("additive"))


def test_the_general_accuracy_is_the_mean_of_the_strata():
    rows = [("memorization", 0.8), ("memorization", 0.6), ("application", 0.4), ("reasoning", 0.1)]
    observations = pd.DataFrame(
        [
            {"n_params": 1, "bits": 3, "stratum": stratum, "benchmark": str(i), "accuracy": accuracy, "chance": 0}
            for i, (stratum, accuracy) in enumerate(rows)
        ]
    )
    means = stratum_accuracies(observations).set_index("stratum").accuracy_adjusted
    assert means.to_dict() == pytest.approx(
        {"memorization": 0.7, "application": 0.4, "reasoning": 0.1, GENERAL: 1.2 / 3}
    )
