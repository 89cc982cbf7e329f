"""What a report says of damage first: a sentence, and the variants beside their originals."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd

from stratalaw.damage.table import ALL, damage_of_study
from stratalaw.report.damage import damage_rows, damage_sentence, overall, rows_by_bits, verdict_of

MIXED, OF_MIXTURE, EXISTED = "mixed-0123456789ab-c8-s0", "w4-g128-c8-s0-even", "awq"
KEPT = {  # of the right answers
    **{"bf16": 1.0, "w8-g128-c8-s0": 1.0, "w4-g128-c8-s0": 0.9, "w3-g128-c8-s0": 0.5},
    **{MIXED: 0.8, OF_MIXTURE: 0.7, EXISTED: 1.0},
}


def damage_of(
    variants: Sequence[str], model: str = "r2", strata: Sequence[str] = ("memorization", "reasoning")
) -> pd.DataFrame:
    """A damage table of 400 items a stratum, of which the original has two thirds right."""
    return _damage_of(tuple(variants), model, tuple(strata)).copy()


@cache
def _damage_of(variants: tuple[str, ...], model: str, strata: tuple[str, ...]) -> pd.DataFrame:
    right = np.arange(400) % 3 > 0
    tables = []
    for stratum in strata:
        for variant in ("bf16", *variants):
            kept = np.random.default_rng(len(variant)).random(400) < KEPT[variant]
            scores = {"document": range(400), "score": (right & kept).astype(float)}
            about = {"model": model, "variant": variant, "stratum": stratum, "task": f"{stratum} task"}
            tables.append(pd.DataFrame(scores).assign(**about))
    return damage_of_study(pd.concat(tables), {(model, "bf16"): 2_000_000, (model, "w4-g128-c8-s0"): 600_000})


def test_the_sentence_counts_what_loses_by_bits():
    damage = damage_of(["w8-g128-c8-s0", "w4-g128-c8-s0", "w3-g128-c8-s0"])
    sentence = damage_sentence(damage)
    assert sentence.startswith(
        "Variants that lose more than the noise of the items (p < 0.05, Holm): 0 of 1 at 8 bits, 1 of 1 at 4 "
    )
    seen = 100 * overall(damage).detectable_loss
    assert seen.nunique() == 1 and sentence.endswith(
        f"the smallest loss that would have been seen is {seen.iloc[0]:.1f} points."
    )


def test_mixed_bits_mixtures_and_what_existed_are_counted_apart():
    sentence = damage_sentence(damage_of(["w4-g128-c8-s0", MIXED, OF_MIXTURE, EXISTED]))
    counted = "1 of 1 at 4 bits, 1 of 1 of mixed bits, 1 of 1 calibrated on mixtures, 0 of 1 checkpoints that existed; "
    assert counted in sentence


def test_every_variant_is_shown_by_stratum_with_memory_and_verdict():
    damage = damage_of(["w8-g128-c8-s0", "w4-g128-c8-s0"])
    header, same, worse = damage_rows(damage)
    assert header == ["variant", "memory", "general", "memorization", "reasoning", "verdict"]
    assert same[:2] == ["r2 w8-g128-c8-s0", "unknown"] and worse[1] == "600 kB (30 %)"
    assert not same[2].startswith("**") and worse[2].startswith("**-")
    seen = overall(damage).detectable_loss.iloc[0]
    assert same[-1] == f"no loss found; one of {100 * seen:.1f} points would have been"
    assert worse[-1] == "loses in every stratum"


def test_a_verdict_names_only_what_is_significant():
    damage = damage_of(["w4-g128-c8-s0"])
    means = damage[damage.benchmark == ALL].copy()
    means["p_holm"] = [0.2, 0.01, 0.3]
    assert verdict_of(means) == "loses in memorization"
    means["p_holm"] = [0.01, 0.2, 0.3]
    assert verdict_of(means) == "loses on average over strata"
    means["p_holm"] = [0.2, 0.01, 0.01]
    means.loc[means.stratum == "reasoning", "difference"] = 0.2
    assert verdict_of(means) == "loses in memorization; gains in reasoning"
    assert verdict_of(means.tail(1)) == "gains 20.0 points"
    means["p_holm"], means["detectable_loss"] = 1.0, np.nan
    assert verdict_of(means) == "too few items to find a loss"


def test_a_study_of_one_stratum_has_it_in_place_of_the_mean():
    damage = damage_of(["w3-g128-c8-s0"], strata=["reasoning"])
    assert damage_rows(damage)[0] == ["variant", "memory", "reasoning", "verdict"]
    assert "1 of 1 at 3 bits" in damage_sentence(damage)


def test_many_variants_are_shown_by_bits():
    damage = pd.concat([damage_of(["w8-g128-c8-s0", "w4-g128-c8-s0"], model) for model in ("r2", "r4")])
    header, eight, four = rows_by_bits(damage)
    assert header[:3] == ["bits", "variants", "that lose"]
    assert eight == ["8", "2", "0", "+0.0", "+0.0", "+0.0", "0"] and four[:3] == ["4", "2", "2"]
    own = overall(damage)[lambda rows: rows.variant == "w4-g128-c8-s0"]
    assert four[3] == f"{100 * own.difference.mean():+.1f}"
    assert four[6] == f"{1000 * own.lost.sum() / own.n_items.sum():.0f}"


def test_without_variants_nothing_is_said():
    assert damage_sentence(damage_of([])) == "" and len(damage_rows(damage_of([]))) == 1
