"""What published numbers say, as tables: kept shares by bits, group and method, and which stratum loses most.

Means are over models, each with the same weight, so that the source with most rows does not decide. Intervals resample
families, since the models of one family are alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.published.law import Law
from stratalaw.published.library import PER_CHANNEL, STRATA, by_stratum
from stratalaw.published.terms import WITHOUT_GROUPS, covariates, share_kept

METHOD = "GPTQ"
RESAMPLES = 2000
LEVEL = 0.95
FEWEST_FAMILIES = 3  # below it no interval
GROUPS: Mapping[Hashable, str] = {128: "128", PER_CHANNEL: "whole row", 0: "not stated"}


def kept_by_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """Kept shares of GPTQ: bits, group, stratum, models, families, sources, kept, low, high.

    Args:
        rows: see ``library.kept_shares``.
    """
    shares = by_stratum(rows[(rows.method == METHOD) & rows.group_size.isin(list(GROUPS))])
    found = []
    for (bits, group), part in shares.groupby(["bits", "group_size"]):
        for stratum in STRATA:
            of_stratum = part[part.stratum == stratum]
            if len(of_stratum):
                about = {"bits": bits, "group": GROUPS[group], "stratum": stratum}
                found.append(about | _counts(of_stratum) | _mean(of_stratum, "kept"))
    return pd.DataFrame(found).sort_values(["bits", "group"], kind="stable", ascending=[False, True])


def methods_beside_gptq(rows: pd.DataFrame, bits: Sequence[float] = (4, 3)) -> pd.DataFrame:
    """Kept share of other methods less that of GPTQ in the same source, model, bits, group and stratum.

    Columns: bits, method, models, families, sources, difference, low, high.
    """
    shares = by_stratum(rows[~rows.method.isin(WITHOUT_GROUPS)])
    keys = ["model", "family", "source_id", "bits", "group_size", "stratum"]
    kept = shares.groupby([*keys, "method"]).kept.mean().unstack("method")
    found = []
    for width in bits:
        for method in sorted(set(kept.columns) - {METHOD}):
            difference = (kept[method] - kept[METHOD]).dropna().rename("difference").reset_index()
            part = difference[difference.bits == width]
            if part.family.nunique() >= FEWEST_FAMILIES:
                found.append({"bits": width, "method": method} | _counts(part) | _mean(part, "difference"))
    return pd.DataFrame(found)


def losing_most(rows: pd.DataFrame, strata: Sequence[str] = STRATA, bits: Sequence[float] = (4, 3)) -> pd.DataFrame:
    """Which stratum keeps least, in settings of GPTQ that have all of some strata.

    Columns: bits, stratum, settings, models, families, least (settings in which the stratum keeps least), difference
    (its kept share less the mean of the others), low, high.
    """
    shares = by_stratum(rows[rows.method == METHOD])
    keys = ["model", "family", "source_id", "bits", "group_size"]
    kept = shares.groupby([*keys, "stratum"]).kept.mean().unstack("stratum").reindex(columns=list(strata)).dropna()
    found = []
    for width in bits:
        part = kept[kept.index.get_level_values("bits") == width]
        least = part.idxmin(axis=1).value_counts()
        for stratum in strata:
            others = part.drop(columns=stratum).mean(axis=1)
            difference = (part[stratum] - others).rename("difference").reset_index()
            counts = _counts(difference)
            about = {"bits": width, "stratum": stratum, "settings": len(part), "least": int(least.get(stratum, 0))}
            found.append(about | counts | _mean(difference, "difference"))
    return pd.DataFrame(found)


def between_sources(rows: pd.DataFrame, bits: Sequence[float] = (4, 3)) -> pd.DataFrame:
    """How far two sources are apart for the same model, method, bits and stratum: bits, stratum, pairs, error (mean
    absolute difference in points). No prediction for another source can be nearer on average."""
    shares = by_stratum(rows)
    keys = ["model", "method", "bits", "stratum"]
    means = shares.groupby([*keys, "source_id"]).kept.mean().reset_index()
    pairs = means.merge(means, on=keys, suffixes=("", "_other"))
    pairs = pairs[pairs.source_id < pairs.source_id_other]
    found = []
    for width in bits:
        for stratum in STRATA:
            part = pairs[(pairs.bits == width) & (pairs.stratum == stratum)]
            error = 100 * float((part.kept - part.kept_other).abs().mean())
            found.append({"bits": width, "stratum": stratum, "pairs": len(part), "error": error})
    return pd.DataFrame(found)


def _counts(part: pd.DataFrame) -> dict[str, int]:
    names = {"models": "model", "families": "family", "sources": "source_id"}
    return {name: int(part[column].nunique()) for name, column in names.items()}


def _mean(part: pd.DataFrame, column: str) -> dict[str, float]:
    """Mean over models with its interval over resampled families."""
    models = part.groupby(["family", "model"])[column].mean().reset_index()
    families = [group[column].to_numpy(float) for _, group in models.groupby("family")]
    low, high = np.nan, np.nan
    if len(families) >= FEWEST_FAMILIES:
        low, high = _interval(families)
    return {column: float(models[column].mean()), "low": low, "high": high}


def _interval(families: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    random = np.random.default_rng(0)
    sums, sizes = np.array([values.sum() for values in families]), np.array([len(values) for values in families])
    chosen = random.integers(len(families), size=(RESAMPLES, len(families)))
    means = sums[chosen].sum(1) / sizes[chosen].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


SIZES = (1e9, 8e9, 32e9, 70e9)
BENCHMARKS = {"memorization": "mmlu", "application": "hellaswag", "reasoning": "arc_challenge"}


def expected_of_new_models(law: Law) -> pd.DataFrame:
    """What the law expects of a model of a new family from a new source: n_params, bits, group, stratum, benchmark,
    kept (median), low, high."""
    points = pd.DataFrame(
        [
            {"n_params": size, "bits": float(bits), "group_size": float(group), "stratum": stratum}
            for size in SIZES
            for bits in (8, 4, 3)
            for group in (128, PER_CHANNEL)
            for stratum in STRATA
        ]
    )
    new = dict.fromkeys(("family", "source_id"), "new")
    points = points.assign(method=METHOD, calibration="", benchmark=points.stratum.map(BENCHMARKS), **new)
    points = points.assign(model=points.n_params.map("new {:g}".format))
    draws = share_kept(law.log_damage(covariates(points)))
    low, kept, high = np.quantile(draws, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=1)
    group = points.group_size.map(GROUPS)
    about = points[["n_params", "bits", "stratum", "benchmark"]].assign(group=group)
    return about.assign(kept=kept, low=low, high=high)
