"""Verdicts follow from draws whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from stratalaw.laws.rows import GENERAL
from stratalaw.laws.verdicts import CONTRADICTED, SUPPORTED, UNDECIDED, UTILIZATION, Draws, judge
from stratalaw.study import COMPOSITES

R = 1000
rng = np.random.default_rng(0)


def exponents(spread: float = 0.01, **values: float) -> pd.DataFrame:
    return pd.DataFrame({name: value + rng.normal(0, spread, R) for name, value in values.items()})


def draws(
    accuracy_by_bits: dict[int, float], spread: float = 0.01, models: int = 6, **strata: dict[str, float]
) -> Draws:
    """Some models, three group and calibration sizes; at low bits a larger group costs and more calibration helps."""
    rows = []
    for model in "abcdefghijkl"[:models]:
        for bits, accuracy in accuracy_by_bits.items():
            for group, calibration in [(None, None)] if bits == 16 else [(g, c) for g in (16, 64) for c in (2, 8, 32)]:
                low = bits == 3
                effect = (
                    0 if group is None else low * (-0.03 * np.log2(group / 16) + 0.1 * np.sqrt(np.log2(calibration)))
                )
                rows.append((model, bits, group, calibration, accuracy + effect))
    table = pd.DataFrame(rows, columns=["model", "bits", "group_size", "calibration_size", "accuracy"]).assign(
        calibration_seed=0
    )
    noisy = table.accuracy.to_numpy() + rng.normal(0, 0.002, (R, len(table)))
    weights = np.repeat(rng.multinomial(models, np.full(models, 1 / models), R), len(table) // models, axis=1).astype(
        float
    )
    return Draws({name: exponents(spread, **values) for name, values in strata.items()}, table, weights, noisy)


LIKE_THE_PAPER = {
    "memorization": {"alpha": -0.3, "beta": -1.0, "gamma": -0.2, "delta": 0.06},
    "application": {"alpha": -0.5, "beta": -1.1, "gamma": -0.1, "delta": 0.07},
    "reasoning": {"alpha": -0.3, "beta": -1.5, "gamma": -0.1, "delta": 0.08},
    "utilization": {"alpha": -0.4, "beta": -1.3, "gamma": -0.1, "delta": 0.08},
    "general": {"alpha": -0.4, "beta": -1.2, "gamma": -0.1, "delta": 0.07},
}
GRADED = {2: 0.05, 3: 0.6, 4: 0.95, 16: 1.0}


def verdicts(drawn: Draws) -> pd.Series:
    return judge(drawn).set_index("claim").verdict


def test_a_world_like_the_papers_supports_its_claims():
    found = verdicts(draws(GRADED, models=12, **LIKE_THE_PAPER))
    assert found["first-version"] == CONTRADICTED  # utilization depends more on size and bits
    assert set(found.drop("first-version")) == {SUPPORTED}


def test_a_world_that_is_the_other_way_contradicts_them():
    other = LIKE_THE_PAPER | {
        "memorization": {"alpha": -0.6, "beta": -2.0, "gamma": -0.01, "delta": -0.1},
        "general": {"alpha": -0.4, "beta": -1.2, "gamma": -0.1, "delta": -0.07},
    }
    found = verdicts(draws({2: 0.7, 3: 0.8, 4: 0.95, 16: 1.0}, **other))
    for claim in ("bits", "size", "calibration", "group", "phase"):
        assert found[claim] == CONTRADICTED, claim


def test_noise_makes_claims_undecidable_and_says_what_could_have_been_seen():
    judged = judge(draws(GRADED, spread=0.5, **LIKE_THE_PAPER)).set_index("claim")
    for claim in ("bits", "size", "calibration"):
        assert judged.verdict[claim] == UNDECIDED
        assert judged.smallest_effect[claim] > abs(judged.estimate[claim])


def test_what_a_study_does_not_have_is_undecidable_without_numbers():
    judged = judge(draws({3: 0.6, 4: 0.95}, general={"alpha": -0.4, "beta": -1.2})).set_index("claim")
    for claim in ("bits", "size", "phase", "group", "first-version", "differ"):
        assert judged.verdict[claim] == UNDECIDED
        assert pd.isna(judged.probability[claim])


def test_equal_strata_are_rarely_said_to_differ():
    same = {"alpha": -0.3, "beta": -1.0}
    judged = judge(draws(GRADED, memorization=same, application=same, reasoning=same, general=same))
    assert judged.set_index("claim").verdict["differ"] == UNDECIDED
    assert judged.set_index("claim").probability["differ"] == pytest.approx(0.5, abs=0.5)


def test_few_models_decide_nothing():
    judged = judge(draws(GRADED, models=3, **LIKE_THE_PAPER))
    assert set(judged.verdict) == {UNDECIDED}
    assert judged.set_index("claim").probability["bits"] > 0.99


def test_equal_exponents_of_few_models_cannot_be_tested_jointly():
    # Eight differences of exponents, and six models.
    judged = judge(draws(GRADED, **LIKE_THE_PAPER)).set_index("claim")
    assert judged.verdict["differ"] == UNDECIDED and pd.isna(judged.probability["differ"])


@pytest.mark.parametrize("models", [5, 6, 12])
def test_models_that_agree_by_chance_decide_nothing(models):
    """Where an effect is zero on average, models of random effects decide as rarely as the level says."""
    table = pd.DataFrame({"model": list("abcdefghijkl"[:models]), "bits": 3, "group_size": 64, "calibration_size": 8})
    random, decided, studies = np.random.default_rng(0), 0, 1500
    for effects in random.normal(size=(studies, models)):
        weights = random.multinomial(models, np.full(models, 1 / models), 300)
        delta = pd.DataFrame({"delta": weights @ effects / models})
        found = judge(Draws({"general": delta}, table, weights.astype(float), np.zeros((300, models))))
        decided += found.set_index("claim").verdict["group"] != UNDECIDED
    # .005 is the level of one of ten claims; the shares of resamples decided 9 % at five models.
    assert decided / studies < 0.012


def test_no_study_can_have_a_stratum_named_like_a_composite():
    assert {GENERAL, UTILIZATION} == COMPOSITES
