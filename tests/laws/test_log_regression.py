from itertools import product

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws import fit_log_regression
from stratalaw.laws.log_regression import GENERAL, stratum_accuracies

TRUE = {"alpha": -0.36, "beta": -1.07, "gamma": -0.03, "delta": 0.07}
SCALE = 900.0


def simulated(noise: float = 0.0, seed: int = 0, **changes: list) -> pd.DataFrame:
    """Accuracies that follow the law exactly, but for noise on the logarithm."""
    factors = {
        "n_params": [6e8, 1.7e9, 4e9, 8e9, 1.4e10],
        "bits": [3, 4],
        "calibration_size": [8, 32, 128, 1024],
        "group_size": [32, 64, 128, 1024],
    } | changes
    table = pd.DataFrame(list(product(*factors.values())), columns=list(factors))
    logarithm = (
        np.log(SCALE)
        + TRUE["alpha"] * np.log(table.n_params)
        + TRUE["beta"] * np.log(np.log2(table.bits))
        + TRUE["gamma"] * np.log(np.log2(table.calibration_size))
        + TRUE["delta"] * np.log(table.group_size)
    )
    logarithm += np.random.default_rng(seed).normal(0, noise, len(table))
    return table.assign(
        stratum="reasoning", held_out=False, calibration_seed=0, accuracy_adjusted=np.exp(-np.exp(logarithm))
    )


def test_exact_data_give_the_exact_law_back():
    fit = fit_log_regression(simulated(), "reasoning")
    assert fit.exponents.value.to_dict() == pytest.approx(TRUE)
    assert fit.scale == pytest.approx(SCALE)
    assert fit.adjusted_r_squared == pytest.approx(1)
    assert fit.predict(simulated()).to_numpy() == pytest.approx(simulated().accuracy_adjusted.to_numpy())


def test_intervals_cover_the_truth_as_often_as_they_say():
    covered = []
    for seed in range(200):
        exponents = fit_log_regression(simulated(noise=0.1, seed=seed), "reasoning").exponents
        covered.append([exponents.low[name] <= value <= exponents.high[name] for name, value in TRUE.items()])
    assert np.mean(covered, axis=0) == pytest.approx(0.95, abs=0.045)


def test_rows_that_cannot_be_used_are_counted_with_the_reason():
    table = simulated(bits=[2, 3, 4])
    table.loc[table.bits == 4, "accuracy_adjusted"] = np.where(np.arange(80) < 3, -0.01, 0.5)
    table.loc[table.n_params == 1.4e10, "held_out"] = True
    baseline = table[:1].assign(group_size=np.nan, calibration_size=np.nan, bits=16)
    fit = fit_log_regression(pd.concat([table, baseline], ignore_index=True), "reasoning")
    assert fit.left_out == {
        "2 bits (phase transition)": 64,
        "at or below chance": 3,
        "model held out": 48,
        "baseline (no group size, no calibration)": 1,
    }
    assert fit.n_rows + sum(fit.left_out.values()) == len(table) + 1


def test_a_constant_factor_has_no_exponent():
    fit = fit_log_regression(simulated(group_size=[128]), "reasoning")
    assert set(fit.exponents.index) == {"alpha", "beta", "gamma"}
    assert fit.exponents.value["beta"] == pytest.approx(TRUE["beta"])


def test_too_few_rows_are_refused():
    with pytest.raises(ValueError, match="reasoning: 5 usable rows cannot support 5 parameters"):
        fit_log_regression(simulated().iloc[[0, 37, 70, 99, 150]], "reasoning")


def test_the_general_accuracy_is_the_mean_of_the_strata():
    rows = [("memorization", 0.8), ("memorization", 0.6), ("application", 0.4), ("reasoning", 0.1)]
    about = {
        "model": "m", "family": "f", "held_out": False, "n_params": 1, "variant": "w3-g64-c8-s0",
        "bits": 3, "group_size": 64, "calibration_size": 8, "calibration_seed": 0,
    }  # fmt: skip
    observations = pd.DataFrame([about | {"stratum": s, "accuracy_adjusted": a} for s, a in rows])
    means = stratum_accuracies(observations).set_index("stratum").accuracy_adjusted
    assert means.to_dict() == pytest.approx({"memorization": 0.7, "application": 0.4, "reasoning": 0.1, GENERAL: 0.4})
