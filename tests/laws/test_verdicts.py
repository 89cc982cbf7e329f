"""Verdicts on studies whose truth is known."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests

from stratalaw.laws.analysis import judge_table, with_utilization
from stratalaw.laws.exponents import DAMAGE, Panel, exponents_of_models
from stratalaw.laws.power import models_needed, needs, power_of
from stratalaw.laws.table import GENERAL, UTILIZATION
from stratalaw.laws.verdicts import (
    CONTRADICTED,
    HOLDS,
    NEGLIGIBLE,
    SUPPORTED,
    UNDECIDED,
    UNTESTABLE,
    at_least,
    judge,
    verdict_table,
)
from stratalaw.study import COMPOSITES

LADDER = Path("docs/studies/first-ladder/observations.csv")
SETTINGS = list(product((2, 3, 4), (16, 64, 128), (2, 8, 32, 128)))
# ln D = ln A - c (bits - 3) + gamma ln(C / 32) + delta ln(G / 64); a larger level is a larger loss of the original.
LIKE_THE_PAPER = {
    "memorization": {"c": 1.2, "gamma": -0.3, "delta": 0.4, "alpha": -0.2},
    "application": {"c": 1.3, "gamma": -0.1, "delta": 0.4, "alpha": -0.5},
    "reasoning": {"c": 1.8, "gamma": -0.1, "delta": 0.4, "alpha": -0.2},
}


def study(
    strata: dict[str, dict[str, float]],
    models: int = 6,
    spread: float = 0.02,
    seed: int = 0,
    settings=SETTINGS,
    noise: float = 0.004,
) -> Panel:
    """Models whose exponents scatter around those of their strata, and whose originals follow alpha."""
    rng = np.random.default_rng(seed)
    parts = []
    for stratum, values in strata.items():
        for place in range(models):
            size = 1e9 * 2**place
            own = {name: value + spread * rng.normal() for name, value in values.items()}
            original = np.exp(-0.4 * (size / 4e9) ** values["alpha"] * np.exp(spread * rng.normal()))
            table = pd.DataFrame(settings, columns=["bits", "group_size", "calibration_size"])
            damage = 0.25 * np.exp(-own["c"] * (table.bits - 3)) * (table.calibration_size / 32) ** own["gamma"]
            damage *= (table.group_size / 64) ** own["delta"]
            table = table.assign(accuracy=original * np.exp(-damage))
            table["accuracy"] = (table.accuracy + noise * rng.normal(size=len(table))).clip(0, 1)
            table.loc[len(table)] = [16, np.nan, np.nan, original]
            parts.append(table.assign(model=f"m{place}", n_params=size, stratum=stratum))
    observed = pd.concat(parts, ignore_index=True).assign(chance=0.0, n_items=4000)
    return Panel.observed(with_utilization(observed))


def verdicts(panel: Panel) -> pd.Series:
    return verdict_table(judge(panel)).set_index("claim").verdict


def test_exponents_of_models_are_those_that_they_were_made_with():
    panel = study(LIKE_THE_PAPER, spread=0.0, noise=0.0)
    for stratum, values in LIKE_THE_PAPER.items():
        for name, found in exponents_of_models(panel, stratum, DAMAGE).items():
            np.testing.assert_allclose(found, values[name], atol=1e-4)


def test_a_world_like_the_papers_supports_its_claims():
    found = verdicts(study(LIKE_THE_PAPER, models=8))
    for claim in ("bits", "size", "calibration", "group", "group-low-bits", "calibration-low-bits", "differ"):
        assert found[claim] == SUPPORTED, claim
    assert found["diminishing"] == SUPPORTED
    assert found["first-version"] == CONTRADICTED  # utilization depends more on size and bits


def test_a_world_that_is_the_other_way_contradicts_them():
    other = {
        "memorization": {"c": 1.8, "gamma": 0.1, "delta": -0.4, "alpha": -0.6},
        "application": {"c": 1.3, "gamma": -0.3, "delta": -0.4, "alpha": -0.2},
        "reasoning": {"c": 1.2, "gamma": -0.3, "delta": -0.4, "alpha": -0.6},
    }
    found = verdicts(study(other, models=8))
    for claim in ("bits", "size", "calibration", "group", "group-low-bits"):
        assert found[claim] == CONTRADICTED, claim


def test_models_that_differ_leave_claims_open_and_say_what_would_decide_them():
    panel = study(LIKE_THE_PAPER, models=4, spread=0.6)
    judged = judge(panel)
    assert {v.verdict for v in judged if v.claim in ("bits", "calibration")} == {UNDECIDED}
    found = {need.claim: need for need in needs(judged, panel)}
    assert found["bits"].models > 4 and np.isnan(found["bits"].draws)
    assert found["bits"].power < 0.8


def test_what_a_table_does_not_have_is_not_testable_and_says_why():
    settings = [(3, 64, 8), (4, 64, 8)]
    only = {"reasoning": LIKE_THE_PAPER["reasoning"]}
    found = {v.claim: v for v in judge(study(only, settings=settings))}
    assert {v.verdict for v in found.values()} == {UNTESTABLE}
    assert found["phase"].reason.startswith("fewer than two models have their original and the same settings at 2, 3")
    assert found["bits"].reason == "fewer than two models tell the effect of bits in reasoning"
    assert found["size"].reason == "the table has no stratum application"


def test_no_effect_at_all_is_a_verdict_of_its_own():
    flat = {name: values | {"gamma": 0.0} for name, values in LIKE_THE_PAPER.items()}
    found = {v.claim: v for v in judge(study(flat, models=8, spread=0.005))}
    assert found["diminishing"].verdict == NEGLIGIBLE
    assert found["calibration-low-bits"].verdict == NEGLIGIBLE


def test_calibration_that_does_nothing_is_not_seen_where_the_design_confounds_it():
    """C = 2 was used with G = 128 only, so that raw means make calibration look as if it helped."""
    settings = [(b, g, c) for b, g, c in SETTINGS if c > 2 or g == 128]
    flat = {name: values | {"gamma": 0.0} for name, values in LIKE_THE_PAPER.items()}
    for seed in range(5):
        found = verdicts(study(flat, models=6, seed=seed, settings=settings))
        for claim in ("calibration", "calibration-low-bits", "diminishing"):
            assert found[claim] in (UNDECIDED, NEGLIGIBLE), claim
    # Where no cell has both, there is nothing to compare.
    never_together = [(b, g, c) for b, g, c in SETTINGS if (c == 2) == (g == 128)]
    assert verdicts(study(flat, settings=never_together))["diminishing"] == UNTESTABLE


def test_what_a_partly_confounded_design_decides_is_true():
    """As in a public table: calibration does nothing, C = 2 with G = 128 only, 8 bits once."""
    truth = {
        "memorization": {"c": 0.72, "gamma": 0.0, "delta": 0.28, "alpha": -0.39},
        "application": {"c": 0.66, "gamma": 0.0, "delta": 0.30, "alpha": -0.58},
        "reasoning": {"c": 0.53, "gamma": 0.0, "delta": 0.28, "alpha": -0.69},
    }
    true = {
        "bits": CONTRADICTED,  # reasoning has the smallest c
        "size": CONTRADICTED,  # and the lowest alpha
        "group": SUPPORTED,
        "group-low-bits": SUPPORTED,
        "first-version": CONTRADICTED,  # memorization depends least on size
        "differ": SUPPORTED,
        "phase": CONTRADICTED,  # the damage is the same power of bits everywhere
    }
    crossed = [(b, g, c) for b, g, c in SETTINGS if c > 2]
    partly = [*crossed, *((b, 128, 2) for b in (2, 3, 4)), (8, 128, 128)]
    for seed in range(3):
        for settings in (crossed, partly):
            found = verdicts(study(truth, seed=seed, settings=settings))
            decided = {claim: verdict for claim, verdict in found.items() if verdict in (SUPPORTED, CONTRADICTED)}
            assert decided.items() <= true.items()
            assert {"bits", "group", "first-version"} <= decided.keys()


def test_a_factor_that_never_varies_alone_is_refused_as_confounded():
    # Half of all combinations: each effect is aliased with the interaction of the other two.
    half = [(3, 16, 8), (3, 128, 128), (4, 128, 8), (4, 16, 128)]
    aliased = [*half, *((b, g, c) for b, g, c in product((5, 6), (32, 64), (16, 32)) if (b + g // 32 + c // 16) % 2)]
    found = {v.claim: v for v in judge(study(LIKE_THE_PAPER, settings=aliased))}
    for claim, factor in (("bits", "bits"), ("calibration", "calibration size"), ("group", "group size")):
        assert found[claim].verdict == UNTESTABLE
        assert found[claim].reason.startswith(f"the design confounds {factor} with the other factors"), claim
    # Bits alone are varied: that, and nothing else, can be told.
    bits_alone = [(3, 16, 8), (4, 16, 8), (5, 16, 8), (3, 128, 128), (4, 128, 128), (5, 64, 32)]
    found = {v.claim: v for v in judge(study(LIKE_THE_PAPER, settings=bits_alone))}
    assert found["bits"].verdict != UNTESTABLE
    assert found["group"].verdict == UNTESTABLE and "confounds group size" in found["group"].reason


def test_p_values_are_adjusted_as_statsmodels_does():
    judged = [v for v in judge(study(LIKE_THE_PAPER, models=5, spread=0.2)) if v.verdict != UNTESTABLE]
    expected = multipletests([v.p_value for v in judged], method="holm")[1]
    np.testing.assert_allclose([v.p_adjusted for v in judged], expected)


def test_two_models_decide_nothing():
    judged = judge(study(LIKE_THE_PAPER, models=2))
    assert {v.verdict for v in judged} <= {UNDECIDED, UNTESTABLE}
    assert at_least(judged) == 0


def test_items_that_leave_nothing_to_fit_leave_these_models_undecided_and_stop_nothing():
    panel = study(LIKE_THE_PAPER)
    rng = np.random.default_rng(0)
    # Models that know next to nothing: in the first draw, and in most others, no exponent can be told.
    guesses = {name: 0.02 * rng.normal(size=(40, values.shape[1])) for name, values in panel.accuracy.items()}
    judged = judge(panel, Panel(panel.tables, guesses))
    alone = judge(panel)
    assert [v.verdict for v in judged] == [v.verdict for v in alone]
    assert SUPPORTED in {v.verdict for v in judged}
    of_exponents = {v.claim: v.these_models for v in judged if v.claim in {"bits", "calibration", "group", "differ"}}
    assert {*of_exponents.values()} <= {UNDECIDED, UNTESTABLE}


@pytest.mark.parametrize("models", [5, 8])
def test_models_that_agree_by_chance_decide_as_rarely_as_the_level_says(models):
    """Where group size does nothing on average, with slopes of their own in each model."""
    rng = np.random.default_rng(models)
    wrong, studies = 0, 20
    for seed in rng.integers(0, 10_000, studies):
        flat = {"reasoning": LIKE_THE_PAPER["reasoning"] | {"delta": 0.0}}
        found = verdicts(study(flat, models=models, spread=0.3, seed=int(seed), settings=SETTINGS[12:]))
        wrong += found["group"] in (SUPPORTED, CONTRADICTED)
    assert wrong / studies <= 0.15  # .1 is the level of both directions together


def test_power_is_that_of_the_t_test_and_models_needed_its_inverse():
    needed = models_needed(1.0, 0.05)
    assert power_of(1.0, int(needed), 0.05) >= 0.8 > power_of(1.0, int(needed) - 1, 0.05)
    assert models_needed(0.001, 0.05) == np.inf


def test_the_ladder_decides_three_claims_of_models_like_its_own():
    judged, open_claims = judge_table(LADDER, [])
    found = {v.claim: v for v in judged}
    assert {name for name, v in found.items() if v.verdict == SUPPORTED} == {"group", "group-low-bits", "diminishing"}
    assert not any(v.verdict == CONTRADICTED for v in judged)
    assert found["group"].agree == 5 == found["group"].models and found["group"].these_models == HOLDS
    assert found["group"].estimate == pytest.approx(0.457, abs=0.002)
    assert found["group"].spread == pytest.approx(0.078, abs=0.002)
    assert at_least(judged) >= 3
    assert {need.claim for need in open_claims} >= {"calibration-low-bits", "bits"}


def test_no_study_can_have_a_stratum_named_like_a_composite():
    assert {GENERAL, UTILIZATION} == COMPOSITES
