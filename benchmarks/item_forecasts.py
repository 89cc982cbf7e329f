"""Do items go as forecast? ``python benchmarks/item_forecasts.py config/demo.yaml results``

A finished study with its answers is replayed: some variants of each model, drawn at random, count as measured; the
items of all others are forecast and compared with what they answered, those that the original answers right apart.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.jobs.forecast import with_gaps
from stratalaw.jobs.so_far import read_so_far
from stratalaw.laws.surface import Surface, surface_rows
from stratalaw.layout import Results
from stratalaw.planning.forecasts import Forecaster
from stratalaw.study import read_study
from stratalaw.study.variants import BASELINE_BITS, BASELINE_NAME

MEASURED = 4  # variants of each model
DRAWS = 3
EDGES = (0, 0.1, 0.3, 0.5, 0.7, 0.9, 1)


def auc(survives: pd.Series, probability: pd.Series) -> float:
    """The probability that one that survives was given more than one that does not."""
    ranks, ones = probability.rank(), int(survives.sum())
    zeros = len(survives) - ones
    return float((ranks[survives == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros)) if ones and zeros else np.nan


def replayed(items: pd.DataFrame, rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The items of all variants that are not drawn, with their probabilities."""
    random = np.random.default_rng(seed)
    known = {}
    for model, own in rows[rows.bits < BASELINE_BITS].groupby("model"):
        known[str(model)] = {BASELINE_NAME, *random.permutation(own.variant.unique())[:MEASURED]}
    is_known = np.array([variant in known[model] for model, variant in zip(rows.model, rows.variant, strict=True)])
    others = rows[~is_known]
    predicted = Surface.fit(rows[is_known].reset_index(drop=True)).predict(others)["mean"]
    expected = items.groupby(["model", "variant", "stratum"], observed=True).score.mean().to_dict()
    for row, adjusted in zip(others.itertuples(), predicted, strict=True):
        expected[row.model, row.variant, row.stratum] = row.chance + (1 - row.chance) * adjusted
    pairs = zip(items.model.astype(str), items.variant.astype(str), strict=True)
    measured = items[[variant in known[model] for model, variant in pairs]]
    chance = rows.groupby("stratum").chance.first().to_dict()
    forecaster = Forecaster.fit(measured, expected, chance)
    tables = []
    for model, variant in others[["model", "variant"]].drop_duplicates().itertuples(index=False):
        own = items[(items.model == model) & (items.variant == variant)]
        found = forecaster.forecast(model, variant).merge(own, on=["stratum", "task", "document"])
        tables.append(found)
    bits = rows.drop_duplicates("variant").set_index("variant").bits
    together = pd.concat(tables, ignore_index=True)
    return together.assign(bits=together.variant.map(bits), draw=seed)


def main(study_file: Path, results: Path) -> None:
    study = read_study(study_file)
    so_far = read_so_far(study, Results(results))
    items = with_gaps(so_far, study, Results(results))
    rows = surface_rows(so_far.observations)
    found = pd.concat([replayed(items, rows, seed) for seed in range(DRAWS)], ignore_index=True)
    right = found[found.original == 1]
    lines = []
    for (stratum, bits), own in right.groupby(["stratum", "bits"], sort=False):
        of_variants = [part for _, part in own.groupby(["model", "variant", "draw"])]
        share = np.concatenate([np.full(len(part), part.score.mean()) for part in of_variants])
        score = np.concatenate([part.score for part in of_variants])
        lines.append(
            {
                "stratum": stratum,
                "bits": int(bits),
                "survive, %": 100 * own.score.mean(),
                "Brier": ((own.probability - own.score) ** 2).mean(),
                "Brier of the share": ((share - score) ** 2).mean(),
                "AUC": np.nanmean([auc(part.score, part.probability) for part in of_variants]),
            }
        )
    print(pd.DataFrame(lines).sort_values(["bits", "stratum"]).round(3).to_markdown(index=False))
    groups = right.groupby(pd.cut(right.probability, EDGES, include_lowest=True), observed=True)
    reliability = groups.agg(forecasts=("score", "size"), said=("probability", "mean"), survived=("score", "mean"))
    print("\n" + (reliability * [1, 100, 100]).round(1).reset_index().to_markdown(index=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
