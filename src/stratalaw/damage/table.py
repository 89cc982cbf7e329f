"""The damage table: each variant beside its original, on every benchmark, in every stratum and in general.

See ``COLUMNS`` for what its columns mean and ``paired`` for the methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from stratalaw.damage.paired import (
    LEVEL,
    POWER,
    Floats,
    combined_interval,
    detectable_loss,
    detectable_mean_loss,
    is_binary,
    paired_interval,
    sign_flip_p,
)
from stratalaw.errors import StratalawError
from stratalaw.multiple_tests import holm
from stratalaw.study.variants import BASELINE_NAME

ALL = "all"  # in the place of a benchmark: the mean over those of a stratum
GENERAL = "general"  # in the place of a stratum: the mean over strata
ITEM = ["stratum", "task", "document"]
ASKED_IN_PART = "asked_in_part"  # in the attrs of a table of items
DIGITS = "%.6g"  # of a table's file
COLUMNS = {
    "model": "name of the model",
    "variant": "what is compared",
    "original": "what it is compared with",
    "stratum": f"stratum of the benchmark; {GENERAL}: the mean over strata",
    "benchmark": f"task of lm-eval; {ALL}: the mean over the benchmarks of the stratum",
    "n_items": "items that both answered",
    "accuracy_original": "share of right answers of the original",
    "accuracy": "share of right answers of the variant",
    "difference": "accuracy minus that of the original: a loss is negative",
    "low": "lower end of the 95 % interval of the difference, paired by item",
    "high": "upper end of that interval",
    "p": "probability of a difference at least as large if quantization does nothing (McNemar's exact test)",
    "p_holm": "p adjusted for all rows of the same kind: benchmarks, strata, general (Holm)",
    "lost": "items that the original has right and the variant wrong, or whose score fell",
    "gained": "items that the original has wrong and the variant right, or whose score rose",
    "detectable_loss": "smallest loss that would be found with 80 % power at p < 0.05, before adjustment",
    "tokens_original": "new tokens of an answer of the original, on average; missing where answers are not generated",
    "tokens": "the same of the variant",
    "cut_off_original": "share of answers of the original that the limit of new tokens ended; missing likewise",
    "cut_off": "the same of the variant",
    "bytes_original": "bytes of the original's weights; missing where unknown",
    "bytes": "bytes of the variant's weights, packed; missing where unknown",
}
CAPTION = (
    f"Each variant beside its original ({BASELINE_NAME}), paired by item: accuracy of both, the difference with its "
    f"{1 - LEVEL:.0%} interval, McNemar's exact p and the same adjusted by Holm for all rows of the same kind, items "
    "lost (right, then wrong) and gained (wrong, then right), the smallest loss that would have been found with "
    f"{POWER:.0%} power, and the bytes of the weights. Rows of the benchmark “{ALL}” are means over the benchmarks of "
    f"a stratum, those of the stratum “{GENERAL}” means over strata. Equal accuracies can hide flips: both columns of "
    "items show them."
)


class DamageError(StratalawError):
    """Variants that cannot be compared; the message is one line."""


@dataclass(frozen=True)
class Pair:
    """What is compared: names of a model, a variant and its original, and the bytes of both (None where unknown)."""

    model: str
    variant: str
    original: str
    bytes: int | None = None
    bytes_original: int | None = None


def damage_of_study(items: pd.DataFrame, weight_bytes: Mapping[tuple[str, str], int | None]) -> pd.DataFrame:
    """The damage table of a study: every quantized variant beside its model's baseline.

    Args:
        items: scores of items: model, variant, stratum, task, document, score. Where ``attrs`` has ``ASKED_IN_PART``,
            a variant may have been asked some of them only, and is compared on these.
        weight_bytes: of each (model, variant); missing or None where unknown.

    Raises:
        DamageError: a variant answered other items than its baseline.
    """
    rows: list[dict[str, object]] = []
    for model, of_model in items.groupby("model", sort=False, observed=True):
        variants = {str(name): part for name, part in of_model.groupby("variant", sort=False, observed=True)}
        baseline = variants.pop(BASELINE_NAME, None)
        if baseline is None:
            continue
        known = {name: weight_bytes.get((str(model), name)) for name in (*variants, BASELINE_NAME)}
        for name, part in variants.items():
            pair = Pair(str(model), name, BASELINE_NAME, known[name], known[BASELINE_NAME])
            in_part = items.attrs.get(ASKED_IN_PART, False)
            rows += compare(pair, baseline.merge(part[ITEM], on=ITEM) if in_part else baseline, part)
    return damage_table(rows)


def damage_table(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows of ``compare`` as one table, with p adjusted for all of them."""
    table = pd.DataFrame(rows, columns=[column for column in COLUMNS if column != "p_holm"])
    kind = np.select([table.stratum == GENERAL, table.benchmark == ALL], ["general", "stratum"], "benchmark")
    adjusted = table.groupby(kind).p.transform(lambda p: holm(p.tolist()))
    table.insert(list(COLUMNS).index("p_holm"), "p_holm", adjusted.astype(float))
    return table.astype({"bytes": "Int64", "bytes_original": "Int64"})


def compare(pair: Pair, original: pd.DataFrame, variant: pd.DataFrame) -> list[dict[str, object]]:
    """The rows of one pair: in general if there are several strata, then each stratum, followed by its benchmarks.

    Args:
        pair: names of what is compared.
        original: scores of its items: stratum, task, document, score.
        variant: the same of the variant.

    Raises:
        DamageError: they are not the same items, or an item occurs twice or has no score.
    """
    scores = _paired_scores(pair, original, variant)
    strata = [
        (
            str(stratum),
            [
                _Benchmark(str(task), part.original.to_numpy(float), part.variant.to_numpy(float))
                for task, part in of_stratum.groupby("task", sort=False, observed=True)
            ],
        )
        for stratum, of_stratum in scores.groupby("stratum", sort=False, observed=True)
    ]
    rows: list[dict[str, object]] = []
    if len(strata) > 1:
        every = [(benchmark, 1 / len(strata) / len(members)) for _, members in strata for benchmark in members]
        rows.append({"stratum": GENERAL, "benchmark": ALL} | _means(every))
    for stratum, members in strata:
        rows.append({"stratum": stratum, "benchmark": ALL} | _means([(one, 1 / len(members)) for one in members]))
        rows += [
            {"stratum": stratum, "benchmark": one.task}
            | _means([(one, 1.0)])
            | _lengths(original, "_original", stratum, one.task)
            | _lengths(variant, "", stratum, one.task)
            for one in members
        ]
    return [vars(pair) | row for row in rows]


@dataclass(frozen=True)
class _Benchmark:
    """Scores of the same items; ``original`` and ``variant``: shape (items,)."""

    task: str
    original: Floats
    variant: Floats

    @property
    def differences(self) -> Floats:
        return self.variant - self.original


def _paired_scores(pair: Pair, original: pd.DataFrame, variant: pd.DataFrame) -> pd.DataFrame:
    """Both scores of each item, in the order of the original's."""
    for name, table in ((pair.original, original), (pair.variant, variant)):
        where = f"{pair.model}/{name}" if pair.model else name
        if table.empty:
            raise DamageError(f"{where}: no items")
        bad = table[table.duplicated(ITEM) | ~np.isfinite(table.score.astype(float))]
        if len(bad):
            item = bad.iloc[0]
            raise DamageError(f"{where}: {item.task}: document {item.document}: it occurs twice or has no score")
    first, second = (table[[*ITEM, "score"]] for table in (original, variant))
    # A left join keeps the order of the items.
    paired = first.merge(second, on=ITEM, how="left", suffixes=("_original", "_variant"))
    _refuse_unpaired(paired[paired.score_variant.isna()], pair.original, pair.variant)
    if len(first) < len(second):
        paired = second.merge(first, on=ITEM, how="left", suffixes=("_variant", "_original"))
        _refuse_unpaired(paired[paired.score_original.isna()], pair.variant, pair.original)
    return paired.rename(columns={"score_original": "original", "score_variant": "variant"})


def _lengths(items: pd.DataFrame, suffix: str, stratum: str, task: str) -> dict[str, object]:
    """How long the generated answers of a benchmark are, and the share that was cut off."""
    if "tokens" not in items:  # of a folder of lm-eval, which counts none
        return {}
    answers = items[(items.stratum == stratum) & (items.task == task)].dropna(subset="tokens")
    if answers.empty:
        return {}
    return {f"tokens{suffix}": float(answers.tokens.mean()), f"cut_off{suffix}": float(answers.is_cut_off.mean())}


def _refuse_unpaired(alone: pd.DataFrame, one: str, other: str) -> None:
    if len(alone):
        item = alone.iloc[0]
        raise DamageError(
            f"not the same items: {item.task}: document {item.document} is in {one} and not in {other} "
            f"({len(alone)} such items)"
        )


def _means(members: Sequence[tuple[_Benchmark, float]]) -> dict[str, object]:
    """What is said of a weighted mean over benchmarks, or of a single one."""
    weights = np.array([weight for _, weight in members])
    sizes = np.array([len(benchmark.original) for benchmark, _ in members])
    parts = [benchmark.differences for benchmark, _ in members]
    gained = np.array([np.count_nonzero(part > 0) for part in parts])
    means = [float(part.mean()) for part in parts]
    low, high = combined_interval(means, [paired_interval(part) for part in parts], weights.tolist())
    if all(map(is_binary, parts)):
        # As many items of one weight as make the mean as sure as these do (Kish).
        n_items = round(1 / (weights**2 / sizes).sum())
        detectable = detectable_loss(n_items, round(n_items * float(weights @ (gained / sizes))))
    else:
        detectable = float(np.sqrt(sum((w * detectable_mean_loss(one.differences)) ** 2 for one, w in members)))
    accuracy_original = float(sum(weight * one.original.mean() for one, weight in members))
    accuracy = float(sum(weight * one.variant.mean() for one, weight in members))
    return {
        "n_items": int(sizes.sum()),
        "accuracy_original": accuracy_original,
        "accuracy": accuracy,
        "difference": float(sum(w * one.differences.mean() for one, w in members)),
        "low": low,
        "high": high,
        "p": sign_flip_p(np.concatenate([w * one.differences / len(one.original) for one, w in members])),
        "lost": int(sum(np.count_nonzero(part < 0) for part in parts)),
        "gained": int(gained.sum()),
        "detectable_loss": detectable,
    }
