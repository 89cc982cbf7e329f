"""The spread between draws is found again."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.draws import draw_spread, mean_over_draws
from stratalaw.laws.rows import stratum_accuracies

SPREAD = 0.03


def replicates(n_draws: int, n_models: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        {
            "model": f"m{model}",
            "n_params": 1e6 + model,
            "bits": 3,
            "group_size": 64,
            "calibration_size": 8,
            "calibration_seed": seed,
            "variant": f"w3-g64-c8-s{seed}",
            "stratum": "memorization",
            "benchmark": "facts",
            "accuracy": 0.5 + 0.0005 * model + rng.normal(0, SPREAD),
            "chance": 0.0,
        }
        for model in range(n_models)
        for seed in range(n_draws)
    ]
    return pd.DataFrame(rows)


def test_the_spread_of_draws_is_that_within_configurations():
    found = draw_spread(replicates(3)).iloc[0]
    assert found.configurations == 200 and found.draws == 600
    assert found.spread == pytest.approx(SPREAD, rel=0.1)  # 400 degrees of freedom
    assert SPREAD < found.largest < 8 * SPREAD


def test_where_nothing_was_drawn_twice_there_is_nothing_to_say():
    assert draw_spread(replicates(1)).empty


def test_another_mixture_of_corpora_is_no_other_draw():
    table = replicates(2)
    of_mixture = table.assign(variant=table.variant + "-even", method="GPTQ, calibrated on even", accuracy=0.1)
    both = pd.concat([table.assign(method="GPTQ"), of_mixture], ignore_index=True)
    assert draw_spread(both).spread.iloc[0] == pytest.approx(draw_spread(table).spread.iloc[0] / np.sqrt(2))


def test_one_draw_of_each_setting_is_its_own_mean():
    accuracies = stratum_accuracies(replicates(1, 10).assign(n_items=100))
    averaged, names = mean_over_draws(accuracies)
    pd.testing.assert_frame_equal(averaged[accuracies.columns], accuracies, check_dtype=False, rtol=1e-12)
    assert names[("m3", "w3-g64-c8-s0")] == "w3-g64-c8-s0"


def test_draws_of_a_setting_are_averaged_with_the_error_of_their_mean():
    accuracies = stratum_accuracies(replicates(4, 3).assign(n_items=100))
    averaged, names = mean_over_draws(accuracies)
    assert list(averaged.model) == ["m0", "m1", "m2"] and set(averaged.variant) == {"w3-g64-c8-s0"}
    for model, part in accuracies.groupby("model"):
        row = averaged[averaged.model == model].iloc[0]
        assert row.accuracy_adjusted == pytest.approx(part.accuracy_adjusted.mean(), rel=1e-12)
        assert row.stderr_adjusted == pytest.approx(np.sqrt((part.stderr_adjusted**2).sum()) / 4, rel=1e-12)
    assert names[("m2", "w3-g64-c8-s3")] == "w3-g64-c8-s0"


def test_a_mean_over_draws_has_no_error_where_one_of_them_has_none():
    table = replicates(2, 1).assign(stderr=[0.01, np.nan])
    assert mean_over_draws(stratum_accuracies(table))[0].stderr_adjusted.isna().all()
