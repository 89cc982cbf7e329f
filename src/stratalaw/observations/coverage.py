"""Which variants of a study were observed, so that none is missing silently."""

from __future__ import annotations

import pandas as pd

from stratalaw.layout import Results
from stratalaw.study import Study, StudyError
from stratalaw.study.variants import BASELINE_NAME

MAX_NAMED = 5  # variants in a sentence

CAPTION = (
    "For each model and stratum, the variants that the study names, how many of them were observed (on all benchmarks "
    "of the stratum), and the names of the missing ones."
)


def coverage(study: Study, observations: pd.DataFrame) -> pd.DataFrame:
    """For each model and stratum: variants named by the study, variants observed, and the missing ones by name."""
    rows = []
    for model, named in study.variants().groupby("model", sort=False).variant:
        for stratum, benchmarks in study.evaluation.strata.items():
            observed = observations[(observations.model == model) & (observations.stratum == stratum)]
            counts = observed.groupby("variant").benchmark.nunique()
            missing = [name for name in named if counts.get(name, 0) < len(benchmarks)]
            rows.append(
                {
                    "model": model,
                    "stratum": stratum,
                    "named": len(named),
                    "observed": len(named) - len(missing),
                    "missing": " ".join(missing),
                }
            )
    return pd.DataFrame(rows)


def missing_variants(coverage: pd.DataFrame) -> list[str]:
    """Sentences that name the variants missing from an analysis, one for each model that misses any."""
    sentences = []
    for model, rows in coverage.fillna({"missing": ""}).groupby("model", sort=False):
        missing = list(dict.fromkeys(" ".join(rows.missing).split()))
        if missing:
            more = f" and {len(missing) - MAX_NAMED} more (coverage.csv)" if len(missing) > MAX_NAMED else ""
            sentences.append(
                f"not observed, of the {rows.named.max()} variants of {model} that the study names: "
                f"{', '.join(missing[:MAX_NAMED])}{more}"
            )
    return sentences


def scored_variants(study: Study, results: Results) -> pd.DataFrame:
    """The rows of ``study.variants()`` whose scores are there, of models whose baseline's are there too.

    Raises:
        StudyError: there are none.
    """
    variants = study.variants()
    strata = study.evaluation.strata
    scored = variants[
        [
            all(results.scores(model, variant, stratum).exists() for stratum in strata)
            for model, variant in study.variant_names()
        ]
    ]
    usable = scored[scored.model.isin(scored.model[scored.variant == BASELINE_NAME])]
    if usable.empty:
        raise StudyError(
            f"allow_missing: no model's baseline has been scored yet in {results.root}; run without it first"
        )
    return usable
