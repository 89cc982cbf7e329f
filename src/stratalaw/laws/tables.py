"""The laws of a study as tables to read, and what is said of how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pandas as pd

from stratalaw.files import write_csv
from stratalaw.laws import published
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.comparison import comparison_table
from stratalaw.laws.exponents import ACCURACY, DAMAGE, mean_over_models
from stratalaw.laws.families import HOW_AGREEMENT_IS_TESTED, agreement_table
from stratalaw.laws.forms import FACTORS, PAPER_LAW
from stratalaw.laws.holdout import HOW_COMPARED
from stratalaw.laws.intervals import OVER_MODELS, REGRESSION
from stratalaw.laws.power import HOW_NEEDED, Need
from stratalaw.laws.verdicts import HOW_JUDGED, MIN_MODELS, verdict_table
from stratalaw.laws.whole import HOW_PREDICTED

PAPER_LAW_RST = (
    "-ln(accuracy adjusted for chance) = A · N\\ :sup:`α` · (log2 B)\\ :sup:`β` · (log2 C)\\ :sup:`γ` · G\\ :sup:`δ`"
)
HEADLINE = OVER_MODELS  # the method of the intervals that are shown first, wherever there is room for one
WHY_NO_INTERVAL = (
    f"there is none where fewer than {MIN_MODELS} models tell an exponent, or {MIN_MODELS + 1} that of the size: those "
    "that happen to agree would make it look sure"
)
FACTOR_OF = {"alpha": "N", "beta": "B", "c": "B", "gamma": "C", "delta": "G"}

EXPONENT_COLUMNS = (
    *("stratum", "scale", "exponent", "factor", "value", "low", "high"),
    *("model_mean", "model_low", "model_high", "models", "published"),
)


def exponents_table(analysis: Analysis) -> pd.DataFrame:
    """One row for each stratum, scale and exponent, with its intervals and what the paper publishes.

    Columns: stratum, scale (accuracy: the paper's law of -ln a; damage: the law of D = -ln(a / a16) of the model's own
    original), exponent, factor, value, low and high (the regression over all rows, HC3), model_mean, model_low and
    model_high (mean over single models, or slope over their sizes, with Student's t interval over models, which
    ``MIN_MODELS`` must tell), models, published (of the paper's law, for the strata that the paper has).
    """
    parts = [part for part in (_paper_exponents(analysis), _damage_exponents(analysis)) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(EXPONENT_COLUMNS))


def headline_exponents(analysis: Analysis) -> pd.DataFrame:
    """``exponents_table`` for readers: ``value`` is what ``model_low`` to ``model_high`` is an interval of, where there
    is one. The regression over all rows weighs models by what they tell, and may lie outside of it.
    """
    table = exponents_table(analysis)
    return table.assign(value=table.model_mean.where(table.model_low.notna(), table.value))


def _paper_exponents(analysis: Analysis) -> pd.DataFrame:
    own = analysis.intervals[analysis.intervals.form == PAPER_LAW.name]
    rows = []
    for law in analysis.laws:
        for name in (name for name in law.params.index if name in FACTOR_OF):
            by_method = own[(own.stratum == law.stratum) & (own.parameter == name)].set_index("method")
            regression = by_method.loc[REGRESSION]
            known = by_method.loc[OVER_MODELS] if OVER_MODELS in by_method.index else pd.Series(dtype=float)
            rows.append(
                {
                    "stratum": law.stratum,
                    "scale": ACCURACY,
                    "exponent": name,
                    "factor": FACTORS[FACTOR_OF[name]],
                    "value": law.params[name],
                    "low": regression.low,
                    "high": regression.high,
                    "model_mean": known.get("value"),
                    "model_low": known.get("low") if _tell_interval(name, known.get("models")) else None,
                    "model_high": known.get("high") if _tell_interval(name, known.get("models")) else None,
                    "models": known.get("models"),
                    "published": published.EXPONENTS.get(law.stratum, {}).get(name),
                }
            )
    return pd.DataFrame(rows, columns=list(EXPONENT_COLUMNS))


def _damage_exponents(analysis: Analysis) -> pd.DataFrame:
    rows = []
    for fit in (fit for fit in analysis.fits if fit.form.name == "anchored" and fit.estimator == "accuracy"):
        intervals = fit.conf_int()
        for name in (name for name in fit.params.index if name in FACTOR_OF):
            row = {
                "stratum": fit.stratum,
                "scale": DAMAGE,
                "exponent": name,
                "factor": FACTORS[FACTOR_OF[name]],
                "value": fit.params[name],
                "low": intervals.low[name],
                "high": intervals.high[name],
            }
            values = model_values(analysis, fit.stratum, DAMAGE, name)
            if len(values) > 1:
                estimate = mean_over_models(values.to_numpy(float))
                low, high = estimate.interval() if _tell_interval(name, len(values)) else (None, None)
                row |= {"model_mean": estimate.value, "model_low": low, "model_high": high, "models": len(values)}
            rows.append(row)
    return pd.DataFrame(rows, columns=list(EXPONENT_COLUMNS))


def _tell_interval(exponent: str, models: float | None) -> bool:
    """Whether models are enough for an interval: two degrees of freedom or more; a slope over sizes takes one of them.

    With one, Student's t interval has its level only on average: it is narrow whenever two models happen to agree.
    """
    return models is not None and models >= MIN_MODELS + (exponent == "alpha")


def model_values(analysis: Analysis, stratum: str, scale: str, exponent: str) -> pd.Series:
    """An exponent of each model by itself, by model."""
    table = analysis.exponents
    if table.empty:
        return pd.Series(dtype=float)
    chosen = (table.stratum == stratum) & (table.scale == scale) & (table.exponent == exponent)
    return table[chosen].set_index("model").value


def write_tables(analysis: Analysis, files: Mapping[str, Path]) -> None:
    """Write tables as CSV files; ``files``: by the name of the table (see ``table_named``)."""
    for name, path in files.items():
        write_csv(table_named(analysis, name), path, float_format="%.4g")


def table_named(analysis: Analysis, name: str) -> pd.DataFrame:
    """A table of an analysis: variants, exponents, models (exponents of each), forms, verdicts, families, or needs.

    Where there is no law, all but the first hold the sentence that says why.
    """
    if name == "variants":
        return analysis.variants
    if not analysis.laws:
        return pd.DataFrame({"note": [analysis.why_no_laws]})
    if name == "exponents":
        return exponents_table(analysis)
    if name == "models":
        return analysis.exponents
    if name == "forms":
        return comparison_table(analysis.forms)
    if name == "verdicts":
        return verdict_table(analysis.verdicts)
    if name == "families":
        return agreement_table(analysis.families)
    return pd.DataFrame([vars(need) for need in analysis.needs], columns=[field.name for field in fields(Need)])


def captions(analysis: Analysis, about: Mapping[str, str]) -> dict[str, str]:
    """How each table was made, as reStructuredText; ``about``: the study (see ``study.description``)."""
    exponents = (
        f"Exponents of {PAPER_LAW_RST} by stratum. The intervals of the figure, and ``model_low`` to ``model_high`` of "
        f"the table, are 95 % of {HEADLINE}: Student's t over estimates of single models; {WHY_NO_INTERVAL}. The table "
        f"also has those of the {REGRESSION} (``low``, ``high``). Beside them stands what the paper publishes (arXiv "
        "2508.18609; it gives no intervals). On the scale ``damage``: the same of D = -ln(a / a16), "
        "what quantization took of a model's own original, log D being linear in log N, bits, log C and log G. "
        f"Studied: {about['variants']} variants of {about['models']}."
    )
    models = (
        "The exponents of each model by itself, from the rows of that model alone: of -ln a (scale ``accuracy``) and "
        "of the damage D (scale ``damage``). Their spread is what the intervals over models rest on."
    )
    return {
        "variants": HOW_PREDICTED,
        "exponents": exponents,
        "models": models,
        "forms": HOW_COMPARED,
        "verdicts": HOW_JUDGED,
        "families": HOW_AGREEMENT_IS_TESTED,
        "needs": HOW_NEEDED,
    }
