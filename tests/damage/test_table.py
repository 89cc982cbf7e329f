"""The damage table says of each variant what its items say."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from stratalaw.damage.table import (
    ALL,
    ASKED_IN_PART,
    COLUMNS,
    GENERAL,
    DamageError,
    Pair,
    compare,
    damage_of_study,
    damage_table,
)

STRATA = {"memorization": {"facts": 40, "dates": 25}, "reasoning": {"chains": 30}}
PAIR = Pair("m", "w4-g128-c8-s0", "bf16")
SEEDS = st.integers(0, 2**32 - 1)


def items(seed: int, p: float = 0.7, binary: bool = True) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "stratum": stratum,
                    "task": task,
                    "document": range(n),
                    "score": (generator.random(n) < p).astype(float) if binary else generator.random(n),
                }
            )
            for stratum, tasks in STRATA.items()
            for task, n in tasks.items()
        ],
        ignore_index=True,
    )


def table_of(original: pd.DataFrame, variant: pd.DataFrame) -> pd.DataFrame:
    return damage_table(compare(PAIR, original, variant)).set_index(["stratum", "benchmark"])


def test_rows_are_in_general_then_each_stratum_and_its_benchmarks():
    table = damage_table(compare(PAIR, items(0), items(1)))
    assert list(table.columns) == list(COLUMNS)
    assert list(zip(table.stratum, table.benchmark, strict=True)) == [
        (GENERAL, ALL),
        *[("memorization", ALL), ("memorization", "facts"), ("memorization", "dates")],
        *[("reasoning", ALL), ("reasoning", "chains")],
    ]


@settings(deadline=None, max_examples=10)
@given(SEEDS, SEEDS)
def test_accuracies_flips_and_means_are_those_of_the_items(first, second):
    original, variant = items(first), items(second, p=0.5)
    table = table_of(original, variant)
    for stratum, tasks in STRATA.items():
        for task, n in tasks.items():
            before = original.score[original.task == task].to_numpy()
            after = variant.score[variant.task == task].to_numpy()
            row = table.loc[(stratum, task)]
            assert (row.accuracy_original, row.accuracy) == pytest.approx((before.mean(), after.mean()))
            assert (row.lost, row.gained) == (
                ((before == 1) & (after == 0)).sum(),
                ((before == 0) & (after == 1)).sum(),
            )
            assert row.difference * n == pytest.approx(row.gained - row.lost)
            assert row.p == pytest.approx(
                stats.binomtest(row.lost, row.lost + row.gained).pvalue if row.lost + row.gained else 1
            )
        of_stratum, mean = table.loc[stratum].drop(ALL), table.loc[(stratum, ALL)]
        assert mean.difference == pytest.approx(of_stratum.difference.mean())
        assert (mean.lost, mean.gained, mean.n_items) == tuple(of_stratum[["lost", "gained", "n_items"]].sum())
    strata = table.xs(ALL, level="benchmark").drop(GENERAL)
    assert table.difference[GENERAL, ALL] == pytest.approx(strata.difference.mean())
    assert (table.low <= table.difference).all() and (table.difference <= table.high).all()


@settings(deadline=None, max_examples=6)
@given(SEEDS, SEEDS, st.booleans())
def test_exchanging_the_two_turns_everything_around(first, second, binary):
    there = table_of(items(first, binary=binary), items(second, binary=binary))
    back = table_of(items(second, binary=binary), items(first, binary=binary))
    pd.testing.assert_series_equal(there.difference, -back.difference)
    pd.testing.assert_series_equal(there.low, -back.high, check_names=False)
    pd.testing.assert_series_equal(there.p, back.p)
    pd.testing.assert_series_equal(there.lost, back.gained, check_names=False)


@settings(deadline=None, max_examples=6)
@given(SEEDS, st.booleans())
def test_a_variant_that_answers_as_its_original_has_p_1(seed, binary):
    table = table_of(items(seed, binary=binary), items(seed, binary=binary).sample(frac=1, random_state=0))
    assert (table.p == 1).all() and (table.p_holm == 1).all()
    assert (table[["difference", "lost", "gained"]] == 0).all(axis=None)
    assert (table.low < 0).all() and (table.high > 0).all() and (table.detectable_loss > 0).all()


def test_benchmarks_of_one_size_have_mcnemars_p_of_all_their_items():
    original, variant = items(0), items(1, p=0.4)
    chosen = (original.task != "dates") | (original.document < 25)
    facts = (original.task != "facts") | (original.document < 25)
    original, variant = original[chosen & facts], variant[chosen & facts]
    row = table_of(original, variant).loc[("memorization", ALL)]
    assert row.p == pytest.approx(stats.binomtest(int(row.lost), int(row.lost + row.gained)).pvalue)


def test_holm_is_over_all_variants_and_rows_of_the_same_kind():
    scored = pd.concat(
        items(seed, p).assign(model=model, variant=variant)
        for seed, (model, variant, p) in enumerate(
            [
                ("a", "bf16", 0.8),
                ("a", "w4", 0.7),
                ("a", "w3", 0.4),
                ("b", "bf16", 0.8),
                ("b", "w4", 0.5),
                ("c", "w4", 0.5),
            ]
        )
    )
    table = damage_of_study(scored, {("a", "bf16"): 100, ("a", "w4"): 30, ("b", "w4"): 40})
    assert table[["model", "variant"]].drop_duplicates().values.tolist() == [["a", "w4"], ["a", "w3"], ["b", "w4"]]
    kind = np.where(table.stratum == GENERAL, 0, np.where(table.benchmark == ALL, 1, 2))
    for level in range(3):
        rows = table[kind == level]
        assert rows.p_holm.to_numpy() == pytest.approx(multipletests(rows.p, method="holm")[1])
    sizes = table.groupby(["model", "variant"], sort=False)[["bytes", "bytes_original"]].first()
    assert sizes.loc[("a", "w4")].tolist() == [30, 100]
    assert pd.isna(sizes.bytes["a", "w3"]) and pd.isna(sizes.bytes_original["b", "w4"])


def test_one_stratum_has_no_row_in_general():
    only = items(0)[lambda table: table.stratum == "reasoning"]
    assert damage_table(compare(PAIR, only, only)).benchmark.tolist() == [ALL, "chains"]


def test_a_study_of_baselines_has_an_empty_table():
    table = damage_of_study(items(0).assign(model="a", variant="bf16"), {})
    assert table.empty and list(table.columns) == list(COLUMNS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t[:-1],
            "not the same items: chains: document 29 is in bf16 and not in w4-g128-c8-s0 (1 such items)",
        ),
        (lambda t: t.assign(document=t.document + 1), "not the same items: facts: document 0 is in bf16 and not in"),
        (lambda t: pd.concat([t, t[:1]]), "m/w4-g128-c8-s0: facts: document 0: it occurs twice or has no score"),
        (lambda t: t.assign(score=np.nan), "m/w4-g128-c8-s0: facts: document 0: it occurs twice or has no score"),
        (lambda t: t[:0], "m/w4-g128-c8-s0: no items"),
    ],
)
def test_what_cannot_be_paired_is_refused_in_one_line(change, message):
    with pytest.raises(DamageError) as refused:
        compare(PAIR, items(0), change(items(1)))
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value)


def test_lengths_of_generated_answers_stand_beside_their_benchmark():
    def answers(tokens: list[int | None], cut_off: list[bool | None]) -> pd.DataFrame:
        items = pd.DataFrame({"stratum": "r", "task": ["sums", "sums", "paths"], "document": [0, 1, 0], "score": 1.0})
        return items.assign(tokens=pd.array(tokens, "Int64"), is_cut_off=pd.array(cut_off, "boolean"))

    original = answers([3, 5, None], [False, False, None])
    variant = answers([8, 64, None], [False, True, None])
    table = damage_table(compare(Pair("m", "w2", "bf16"), original, variant)).set_index("benchmark")
    sums, lengths = table.loc["sums"], ["tokens_original", "tokens", "cut_off_original", "cut_off"]
    assert sums[lengths].tolist() == [4, 36, 0, 0.5]
    assert table.loc[["paths", "all"], lengths].isna().all(axis=None)


def test_a_variant_that_was_asked_some_items_is_compared_on_these():
    original = pd.DataFrame({"stratum": "s", "task": "t", "document": range(40), "score": [1.0] * 30 + [0.0] * 10})
    some = original[original.document % 2 == 0].assign(score=0.0)
    items = pd.concat([original.assign(variant="bf16"), some.assign(variant="w3")]).assign(model="m")
    with pytest.raises(DamageError, match="not the same items"):
        damage_of_study(items, {})
    items.attrs[ASKED_IN_PART] = True
    row = damage_of_study(items, {}).set_index("benchmark").loc["t"]
    assert (row.n_items, row.lost, row.accuracy_original, row.accuracy) == (20, 15, 0.75, 0)
