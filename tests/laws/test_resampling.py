"""Resampled intervals say how far an estimate would move."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import fit_law, form_named, stratum_accuracies
from stratalaw.laws.resampling import (
    binomial_draws,
    item_draws,
    model_weights,
    percentile_intervals,
    profile_interval,
    refit,
)
from stratalaw.laws.rows import rows_of
from stratalaw.laws.simulation import grid, paper_grid, simulate

PAPER_LAW = form_named("paper")
TRUE = {"A": 0.8, "alpha": -0.36, "beta": -1.07, "gamma": -0.03, "delta": 0.07}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return stratum_accuracies(simulate(PAPER_LAW, TRUE, paper_grid(), seed=0))


def test_rows_of_a_model_are_drawn_together(table):
    weights = model_weights(table, table.model, resamples=50)
    for _, places in table.reset_index().groupby("model").groups.items():
        assert (weights[:, places] == weights[:, places[:1]]).all()
    assert (weights.T @ np.ones(50) > 0).all()
    per_model = weights[:, ~table.model.duplicated()]
    assert (per_model.sum(1) == table.model.nunique()).all()


def test_strata_are_resampled_alike(table):
    shuffled = table.sample(frac=1, random_state=0)
    order = table.index.get_indexer(shuffled.index)
    np.testing.assert_array_equal(model_weights(table, table.model)[:, order], model_weights(shuffled, table.model))
    # Also where a stratum lacks a model.
    some = table[table.model != table.model[0]]
    weights = model_weights(table, table.model)[:, (table.model != table.model[0]).to_numpy()]
    np.testing.assert_array_equal(model_weights(some, table.model), weights)


def test_another_draw_of_the_calibration_set_is_no_other_model(table):
    twice = pd.concat([table, table.assign(calibration_seed=1)], ignore_index=True)
    weights = model_weights(twice, twice.model)
    np.testing.assert_array_equal(weights[:, : len(table)], weights[:, len(table) :])


@pytest.mark.parametrize("estimator", ["logarithm", "accuracy"])
def test_refits_are_fits_to_the_resampled_rows(table, estimator):
    fit, rows = fit_law(table, estimator=estimator), rows_of(table)
    weights = model_weights(table, table.model, resamples=3, seed=1)
    found = refit(fit, rows, weights)
    for weight, fitted in zip(weights, found, strict=True):
        repeated = table.loc[np.repeat(table.index, weight.astype(int))].reset_index(drop=True)
        alone = fit_law(repeated, estimator=estimator)
        # Another selection of sizes has another reference size, which only moves the scale.
        np.testing.assert_allclose(fitted[1:], alone.fitted[1:], rtol=2e-3, atol=1e-4)


def test_a_resample_with_one_size_determines_no_exponent(table):
    weights = (table.model == table.model[0]).to_numpy(float)[None]
    for estimator in ("logarithm", "accuracy"):
        fit = fit_law(table, estimator=estimator)
        assert np.isnan(refit(fit, rows_of(table), weights)).all()


def test_item_noise_alone_covers_the_truth_as_often_as_it_says():
    covered = []
    for seed in range(60):
        table = stratum_accuracies(simulate(PAPER_LAW, TRUE, paper_grid(), seed, n_items=4000))
        fit, rows = fit_law(table), rows_of(table)
        draws = binomial_draws(rows, resamples=300, seed=seed)
        interval = percentile_intervals(fit, refit(fit, rows, np.ones_like(draws), draws))
        covered.append([interval.low[name] <= value <= interval.high[name] for name, value in TRUE.items()])
    assert np.min(np.mean(covered, axis=0)) > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)


def test_items_are_drawn_jointly_over_variants():
    """Two variants with the same answers stay equal in every resample; independent noise would part them."""
    rng = np.random.default_rng(0)
    answers = rng.random((3, 200)) < np.array([[0.6], [0.6], [0.8]])
    answers[1] = answers[0]
    variants = grid(sizes=(1e9,), bits=(3,), group_sizes=(32, 64, 128), calibration_sizes=(8,))
    items = pd.concat(
        pd.DataFrame({"model": v.model, "variant": v.variant, "score": scores.astype(float)})
        .rename_axis("document")
        .reset_index()
        .assign(stratum="reasoning", task="t")
        for v, scores in zip(variants.itertuples(), answers, strict=True)
    )
    observed = variants.assign(stratum="reasoning", benchmark="t", accuracy=answers.mean(1), chance=0.25, n_items=200)
    rows = rows_of(stratum_accuracies(observed))
    draws = item_draws(rows, items, {"t": 0.25}, resamples=2000)
    np.testing.assert_array_equal(draws[:, 0], draws[:, 1])
    np.testing.assert_allclose(draws.mean(0), rows.accuracy, atol=0.005)
    np.testing.assert_allclose(draws.std(0), rows.stderr, rtol=0.1)


def test_profiles_agree_with_wald_where_the_data_are_many(table):
    many = stratum_accuracies(simulate(PAPER_LAW, TRUE, paper_grid(), seed=3, n_items=20_000))
    fit = fit_law(many, estimator="likelihood")
    wald = fit.conf_int()
    for name in fit.params.index:
        low, high = profile_interval(fit, rows_of(many), name)
        assert low == pytest.approx(wald.low[name], abs=0.1 * (wald.high[name] - wald.low[name]))
        assert high == pytest.approx(wald.high[name], abs=0.1 * (wald.high[name] - wald.low[name]))


def test_a_profile_that_nothing_bounds_is_infinite():
    """Where nothing is lost to quantization, the size of the loss has no lower bound but zero."""
    table = grid(bits=(3, 4)).assign(stratum="reasoning", chance=0.25, stderr_adjusted=0.1)
    table["accuracy_adjusted"] = np.exp(-0.5 * (table.n_params / 1e9) ** -0.3)
    fit = fit_law(table, form_named("exponential"), estimator="likelihood")
    low, _ = profile_interval(fit, rows_of(table), "K")
    assert low == 0
