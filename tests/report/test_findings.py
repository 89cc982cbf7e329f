"""The sentences say what the numbers say, and nothing where these say nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stratalaw.damage.table import damage_of_study
from stratalaw.laws import read_observations
from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.report.findings import chances, findings, overall, what_bits_cost, what_loses_most
from stratalaw.report.findings import what_groups_and_calibration_do as what_settings_do
from stratalaw.report.matching import matched, with_settings
from stratalaw.report.summary import accuracy_section

OBSERVATIONS = Path("docs/studies/first-ladder/observations.csv")
ITEMS = 500  # of a stratum
NO_LAWS = Analysis.without_laws("no law")
CHANCE = pd.Series({"memorization": 0.25, "reasoning": 0.25})


def damage_where(right: Mapping[tuple[str, str], float | Mapping[str, float]]) -> pd.DataFrame:
    """The stratum means of a study in which each (model, variant) has a share of the items right, or one by stratum.

    An item that a variant has right is right in all that have more right, as in a study whose items differ in how hard
    they are.
    """
    tables = []
    for (model, variant), share in right.items():
        shares = share if isinstance(share, Mapping) else dict.fromkeys(("memorization", "reasoning"), share)
        for stratum, value in shares.items():
            scores = {"document": range(ITEMS), "score": (np.arange(ITEMS) < round(value * ITEMS)).astype(float)}
            tables.append(pd.DataFrame(scores).assign(model=model, variant=variant, stratum=stratum, task=stratum))
    damage = damage_of_study(pd.concat(tables), {})
    return with_settings(damage[damage.benchmark == "all"])


def test_groups_are_compared_within_models_and_not_between_them():
    """The good model was quantized with large groups mostly, the bad one with small ones: larger groups look better."""
    damage = damage_where(
        {("good", "bf16"): 0.9, ("good", "w3-g16-c8-s0"): 0.85, ("good", "w3-g128-c8-s0"): 0.78}
        | {("good", "w3-g128-c32-s0"): 0.78, ("good", "w3-g128-c64-s0"): 0.78}
        | {("bad", "bf16"): 0.5, ("bad", "w3-g16-c8-s0"): 0.3, ("bad", "w3-g16-c32-s0"): 0.3}
        | {("bad", "w3-g16-c64-s0"): 0.3, ("bad", "w3-g128-c8-s0"): 0.26}
    )
    means = overall(damage)
    naive = means.groupby("group_size").accuracy.mean()
    assert naive[128] > naive[16] + 0.2
    # -7 within the good model and -4 within the bad one.
    assert "groups of 128 instead of 16 change it by -5.5 (" in what_settings_do(means)


def test_a_change_that_may_be_nothing_is_said_to_be_so():
    damage = damage_where({("r", "bf16"): 0.9, ("r", "w3-g16-c8-s0"): 0.7, ("r", "w3-g16-c32-s0"): 0.704})
    assert "which may be nothing" in what_settings_do(overall(damage))


def test_groups_that_no_model_has_both_of_are_not_compared():
    damage = damage_where(
        {("a", "bf16"): 0.9, ("a", "w3-g16-c8-s0"): 0.8, ("b", "bf16"): 0.5, ("b", "w3-g128-c8-s0"): 0.3}
    )
    assert what_settings_do(overall(damage)) == ""


def test_bits_are_compared_in_models_that_have_all_of_them():
    """The large model, which loses nothing, has no 8 bits: 8 bits would look worse than 4."""
    damage = damage_where(
        {("small", "bf16"): 0.6, ("small", "w8-g128-c8-s0"): 0.59, ("small", "w4-g128-c8-s0"): 0.56}
        | {("large", "bf16"): 0.9, ("large", "w4-g128-c8-s0"): 0.9, ("large", "w4-g64-c8-s0"): 0.9}
    )
    assert overall(damage).groupby("bits").difference.mean()[4] > -0.015
    said = what_bits_cost(overall(damage))
    assert "-1.0 (" in said and "points at 8 bits, -4.0 (" in said


def test_the_accuracy_table_has_the_same_models_in_every_column():
    rows = [("small", "bf16", 0.6), ("small", "w8-g128-c8-s0", 0.6), ("small", "w4-g128-c8-s0", 0.5)]
    rows += [("large", "bf16", 0.9), ("large", "w4-g128-c8-s0", 0.9)]
    observations = pd.DataFrame(rows, columns=["model", "variant", "accuracy"]).assign(stratum="s", benchmark="b")
    heading, table = accuracy_section(observations)
    assert "mean over small and 1 setting" in heading
    assert table.splitlines()[3].split() == ["s", "60.0", "60.0", "50.0"]
    assert accuracy_section(observations.iloc[[0, 1, 3, 4]]) == []  # no model has both widths


def test_the_worst_stratum_is_named_only_where_the_items_tell_it():
    original = {"memorization": 0.9, "reasoning": 0.9}
    close = {"memorization": 0.66, "reasoning": 0.65}
    apart = {"memorization": 0.86, "reasoning": 0.65}
    known = {("r", "bf16"): original}
    told = what_loses_most(damage_where(known | {("r", "w3-g16-c8-s0"): close}), CHANCE)
    assert "cannot tell which stratum suffers most" in told and "reasoning 62 % (± " in told
    told = what_loses_most(damage_where(known | {("r", "w3-g16-c8-s0"): apart}), CHANCE)
    assert "reasoning suffers most" in told and "reasoning 62 % (± " in told


def test_of_an_original_that_only_guesses_no_share_is_named():
    told = what_loses_most(damage_where({("r", "bf16"): 0.26, ("r", "w3-g16-c8-s0"): 0.24}), CHANCE)
    assert told == ""


def test_matched_rows_have_all_levels_of_the_factor_and_differ_in_nothing_else():
    table = with_settings(
        pd.DataFrame({"model": "r", "variant": ["w3-g16-c8-s0", "w3-g128-c8-s0", "w3-g16-c8-s1", "w4-g16-c8-s0"]})
    )
    assert list(matched(table, "group_size", [16, 128]).variant) == ["w3-g16-c8-s0", "w3-g128-c8-s0"]


def test_a_whole_study_has_its_sentences_and_one_without_variants_says_why():
    observations = read_observations(OBSERVATIONS)
    corners = observations.group_size.isin([16, 128]) & observations.calibration_size.isin([8, 128])
    observations = observations[(observations.bits == 16) | corners]
    damage = damage_where({("r", "bf16"): 0.9, ("r", "w3-g16-c8-s0"): 0.5, ("r", "w3-g128-c8-s0"): 0.4})
    sentences = findings(observations, damage, analyse(observations, [PAPER_LAW], resamples=20))
    assert len(sentences) == 5 and all(sentence.endswith(".") for sentence in sentences)
    assert findings(observations, damage[:0], NO_LAWS) == ["No law was fitted: no law."]


def test_chance_is_the_mean_over_benchmarks():
    observations = pd.DataFrame(
        {"stratum": ["s"] * 3, "benchmark": ["a", "a", "b"], "chance": [0.5, 0.5, 0.25], "accuracy": 0.6}
    )
    assert chances(observations)["s"] == pytest.approx(0.375)
