"""The five sentences say what the numbers say."""

from pathlib import Path

import pandas as pd
import pytest

from stratalaw.laws import read_observations, stratum_accuracies
from stratalaw.laws.analysis import analyse
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.report.findings import findings, shares_kept

OBSERVATIONS = Path("docs/studies/ladder/observations.csv")


@pytest.fixture(scope="module")
def observations() -> pd.DataFrame:
    return read_observations(OBSERVATIONS)


@pytest.fixture(scope="module")
def sentences(observations) -> list[str]:
    return findings(observations, analyse(observations, [PAPER_LAW], resamples=100))


def test_there_are_five(sentences):
    assert len(sentences) == 5 and all(sentence.endswith(".") for sentence in sentences)


def test_what_bits_leave_is_the_mean_over_the_mean_of_the_baselines(observations, sentences):
    adjusted = observations.assign(a=(observations.accuracy - observations.chance) / (1 - observations.chance))
    by_stratum = adjusted.groupby(["model", "variant", "bits", "stratum"]).a.mean().reset_index()
    general = by_stratum.groupby(["model", "variant", "bits"]).a.mean().reset_index()
    baseline = general[general.bits == 16].set_index("model").a
    quantized = general[general.bits < 16]
    kept = quantized.groupby("bits").a.mean() / quantized.model.map(baseline).groupby(quantized.bits).mean()
    for bits, share in kept.items():
        assert f"{100 * share:.0f} % at {bits:g} bits" in sentences[0]


def test_a_model_that_knows_next_to_nothing_does_not_outweigh_the_others(observations):
    poor = observations.model == "r1"
    at_chance = observations.chance + 0.002
    table = observations.assign(accuracy=observations.accuracy.mask(poor & (observations.bits == 16), at_chance))
    kept = shares_kept(stratum_accuracies(table), "stratum")
    assert (kept < 1.2).all()


def test_without_baselines_nothing_is_said_of_what_is_left(observations):
    quantized = observations[observations.bits < 16]
    found = findings(quantized, analyse(quantized, [PAPER_LAW], resamples=100))
    assert not any("is left" in sentence for sentence in found)
