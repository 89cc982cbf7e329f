"""A study in words, for captions and summaries.

Every job of the workflow reads this when it starts, so nothing heavy is imported here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stratalaw.study import Study

if TYPE_CHECKING:
    import pandas as pd


def listed(values: pd.Series) -> str:
    """The distinct values in their order, as text."""
    return ", ".join(str(value) for value in sorted(values.dropna().unique()))


def describe_study(study: Study) -> dict[str, str]:
    """What captions need to know of a study, in words."""
    variants = study.variants()
    quantized = variants[variants.calibration_mixture.isna()].dropna(subset="bits")
    strata = study.evaluation.strata
    return {
        "name": study.name,
        "models": ", ".join(model.name + (" (held out)" if model.held_out else "") for model in study.models),
        "variants": str(len(quantized)),
        "bits": listed(quantized.bits),
        "group_sizes": listed(quantized.group_size),
        "calibration_sizes": listed(quantized.calibration_size),
        "calibration_tokens": str(study.calibration.tokens),
        "largest": "; ".join(
            f"{bits} bits: G = {rows.group_size.max()}, C = {rows.calibration_size.max()}"
            for bits, rows in quantized.groupby("bits")
        ),
        "benchmarks": "; ".join(
            f"{stratum}: {', '.join(benchmark.task for benchmark in benchmarks)}"
            for stratum, benchmarks in strata.items()
        ),
    }
