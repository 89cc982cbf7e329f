"""Agreement between families whose truth is known."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from stratalaw.laws.analysis import with_utilization
from stratalaw.laws.exponents import Estimate, Panel, mean_over_models
from stratalaw.laws.families import AGREE, DIFFER, agreement_table, agreements, difference_of
from stratalaw.laws.verdicts import UNDECIDED

SETTINGS = list(product((3, 4), (16, 128), (2, 8, 128)))
EXPONENTS = {"alpha": -0.3, "c": 1.3, "gamma": -0.15, "delta": 0.4}
STUDIES = 12
STRATA = ("memorization", "application", "reasoning")


def study(
    shifts: dict[str, float],
    seed: int = 0,
    models: int = 6,
    spread: float = 0.02,
    families=("one", "other"),
    strata=STRATA,
) -> Panel:
    """Two families; the second's exponents are those of the first plus ``shifts``, in every stratum."""
    rng = np.random.default_rng(seed)
    parts = []
    for stratum, family, place in product(strata, families, range(models)):
        own = {
            name: value + spread * rng.normal() + (shifts.get(name, 0.0) if family == "other" else 0.0)
            for name, value in EXPONENTS.items()
        }
        size = 1e6 * 2**place
        table = pd.DataFrame(SETTINGS, columns=["bits", "group_size", "calibration_size"])
        damage = 0.3 * np.exp(-own["c"] * (table.bits - 3)) * (table.calibration_size / 32) ** own["gamma"]
        damage *= (table.group_size / 64) ** own["delta"] * (size / 1e7) ** own["alpha"]
        table = table.assign(accuracy=0.9 * np.exp(-damage))
        table.loc[len(table)] = [16, np.nan, np.nan, 0.9]
        about = {"model": f"{family}{place}", "family": family, "n_params": size, "stratum": stratum}
        parts.append(table.assign(**about))
    observed = pd.concat(parts, ignore_index=True).assign(chance=0.0, n_items=4000)
    return Panel.observed(with_utilization(observed))


def verdicts(panel: Panel) -> pd.Series:
    return agreement_table(agreements(panel)).set_index(["stratum", "exponent"]).verdict


def test_families_of_one_law_agree_in_every_exponent():
    found = verdicts(study({}))
    assert len(found) == len(STRATA) * len(EXPONENTS)
    assert set(found) == {AGREE}


def test_a_difference_is_found_in_its_exponent_alone():
    found = agreement_table(agreements(study({"delta": -0.3}))).set_index(["stratum", "exponent"])
    for (_, exponent), row in found.iterrows():
        assert row.verdict == (DIFFER if exponent == "delta" else AGREE)
        assert row.low <= (0.3 if exponent == "delta" else 0) <= row.high or row.p_differ > 0.05
    assert found.xs("delta", level="exponent").difference.to_numpy() == pytest.approx(0.3, abs=0.04)


def test_few_models_that_scatter_decide_nothing():
    assert set(verdicts(study({}, models=3, spread=0.3))) == {UNDECIDED}


def test_a_difference_that_would_just_matter_is_seldom_called_agreement():
    wrong = [
        (
            verdicts(study({"c": 0.25}, seed=seed, spread=0.15, strata=STRATA[:1])).xs("c", level="exponent") == AGREE
        ).any()
        for seed in range(STUDIES)
    ]
    assert np.mean(wrong) <= 0.17  # 5 % and room for so few studies


def test_families_of_one_law_seldom_differ():
    found = [verdicts(study({}, seed=seed, spread=0.4, strata=STRATA[:1])) for seed in range(STUDIES)]
    assert np.mean([(verdict == DIFFER).any() for verdict in found]) <= 0.17


def test_the_difference_of_means_is_welchs():
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 7), rng.normal(0.5, 3, 4)
    found = difference_of(mean_over_models(first), mean_over_models(second))
    welch = stats.ttest_ind(first, second, equal_var=False)
    assert 2 * min(found.p_above(), found.p_below()) == pytest.approx(welch.pvalue)
    assert found.interval() == pytest.approx(tuple(welch.confidence_interval()))


def test_without_any_scatter_the_difference_is_what_it_is():
    found = difference_of(Estimate(1.0, 0.0, 3, 0.0), Estimate(1.0, 0.0, 3, 0.0))
    assert found.value == 0 and found.stderr == 0 and found.p_above(-0.1) == 0


def test_one_family_has_nothing_to_compare_but_a_table_with_a_header():
    rows = agreements(study({}, families=("one",)))
    assert rows == [] and list(agreement_table(rows))[:2] == ["stratum", "exponent"]
