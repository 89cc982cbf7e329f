"""Batched least squares find what scipy finds, one problem at a time."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from stratalaw.laws import FORMS, form_named
from stratalaw.laws.gauss_newton import solve
from stratalaw.laws.rows import rows_of, stratum_accuracies
from stratalaw.laws.simulation import grid, simulate

TRUE = {"A": 0.8, "alpha": -0.36, "beta": -1.07, "gamma": -0.03, "delta": 0.07}


@pytest.fixture(scope="module")
def rows():
    found = rows_of(stratum_accuracies(simulate(form_named("paper"), TRUE, grid(bits=(2, 3, 4, 8)), seed=0)))
    found.factors["F"] = np.full(len(found), 0.1)
    return found


def test_a_prior_counts_where_the_rows_tell_nothing():
    form = form_named("anchored").without({"N", "G", "C"})
    rows = {"F": np.zeros(4), "B": np.array([3.0, 3, 3, 3])}
    prior = next(p.prior for p in form.parameters if p.name == "c")
    accuracy = np.full(4, 0.7)
    found = solve(form, rows, accuracy, np.ones((1, 4)), form.starts(2)[1:])
    assert form.to_natural(found.fitted)[0, 1] == pytest.approx(prior[0], abs=1e-3)
    # Two widths with damage tell the slope.
    rows, accuracy = {"F": np.zeros(4), "B": np.array([3.0, 3, 4, 4])}, np.exp(-0.4 * np.exp([0, 0, -0.7, -0.7]))
    found = solve(form, rows, np.array(accuracy), np.full((1, 4), 40.0), form.starts(2)[1:])
    assert form.to_natural(found.fitted)[0, 1] == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_the_minimum_is_scipys(form, rows):
    form, starts = form.without_priors(), form.starts(8)
    found = solve(form, rows.factors, rows.accuracy, np.ones((len(starts), len(rows))), starts)
    best = found.cost.argmin()
    scipys = least_squares(
        lambda theta: form.evaluate(theta, rows.factors)[0] - rows.accuracy, found.fitted[best] + 0.01, method="lm"
    )
    assert found.converged[best]
    assert found.cost[best] == pytest.approx(2 * scipys.cost, rel=1e-6)


def test_robust_residuals_count_as_scipys_soft_l1(rows):
    form, scale = form_named("paper"), 0.02
    accuracy = rows.accuracy.copy()
    accuracy[::17] -= 0.3
    start = form.to_fitted(list(TRUE.values()))
    found = solve(form, rows.factors, accuracy, np.ones((1, len(rows))), start[None], np.full(len(rows), scale))
    scipys = least_squares(
        lambda theta: form.evaluate(theta, rows.factors)[0] - accuracy, start, loss="soft_l1", f_scale=scale, xtol=1e-12
    )
    np.testing.assert_allclose(found.fitted[0], scipys.x, atol=1e-4)


def test_weights_are_repeated_rows(rows):
    form = form_named("additive")
    weights = np.random.default_rng(1).integers(0, 3, len(rows))
    start = form.starts(1)
    weighted = solve(form, rows.factors, rows.accuracy, weights[None], start)
    repeated = {name: np.repeat(values, weights) for name, values in rows.factors.items()}
    accuracy = np.repeat(rows.accuracy, weights)
    alone = solve(form, repeated, accuracy, np.ones((1, len(accuracy))), start)
    assert weighted.cost == pytest.approx(alone.cost)
    np.testing.assert_allclose(weighted.fitted, alone.fitted, atol=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_rescaled_losses_and_permuted_rows_give_the_same(rows, factor):
    form, order = form_named("sigmoid"), np.random.default_rng(2).permutation(len(rows))
    start = form.starts(1)
    plain = solve(form, rows.factors, rows.accuracy, np.ones((1, len(rows))), start)
    permuted = {name: values[order] for name, values in rows.factors.items()}
    other = solve(form, permuted, rows.accuracy[order], np.full((1, len(rows)), factor), start)
    np.testing.assert_allclose(other.fitted, plain.fitted, rtol=1e-4, atol=1e-5)
