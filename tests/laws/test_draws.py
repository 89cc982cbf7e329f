"""The spread between draws is found again."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.draws import draw_spread

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
