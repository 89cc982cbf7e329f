"""The laws of a study as tables to read, and what is said of how they were made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from stratalaw.files import write_csv
from stratalaw.laws import published
from stratalaw.laws.analysis import BOTH, Analysis
from stratalaw.laws.forms import PAPER_LAW
from stratalaw.laws.holdout import HOW_COMPARED
from stratalaw.laws.verdicts import HOW_JUDGED

PAPER_LAW_RST = (
    "-ln(accuracy adjusted for chance) = A · N\\ :sup:`α` · (log2 B)\\ :sup:`β` · (log2 C)\\ :sup:`γ` · G\\ :sup:`δ`"
)

EXPONENT_COLUMNS = (
    *("stratum", "exponent", "factor", "value", "low", "high"),
    *("bootstrap_low", "bootstrap_high", "published"),
)


def exponents_table(analysis: Analysis) -> pd.DataFrame:
    """One row for each stratum and exponent of the paper's law, with its intervals and what the paper publishes.

    Columns: stratum, exponent, factor, value, low and high (regression), bootstrap_low and bootstrap_high (models and
    items resampled), published (missing for strata that the paper does not have).
    """
    factors = {p.name: p.factor for p in PAPER_LAW.parameters if p.factor}
    names = {"N": "n_params", "B": "bits", "G": "group_size", "C": "calibration_size"}
    own = analysis.intervals[analysis.intervals.form == PAPER_LAW.name]
    indexed = own.set_index(["stratum", "parameter", "method"])
    rows = []
    for law in analysis.laws:
        for name in law.params.index.intersection(list(factors)):
            regression = indexed.loc[law.stratum, name, "regression (HC3)"]
            both = indexed.loc[law.stratum, name, BOTH]
            rows.append(
                {
                    "stratum": law.stratum,
                    "exponent": name,
                    "factor": names[factors[name]],
                    "value": law.params[name],
                    "low": regression.low,
                    "high": regression.high,
                    "bootstrap_low": both.low,
                    "bootstrap_high": both.high,
                    "published": published.EXPONENTS.get(law.stratum, {}).get(name),
                }
            )
    return pd.DataFrame(rows, columns=list(EXPONENT_COLUMNS))


def write_tables(analysis: Analysis, files: Mapping[str, Path]) -> None:
    """Write tables as CSV files; ``files``: by the name of the table: exponents, forms, verdicts.

    Where there is no law they hold the sentence that says why.
    """
    if analysis.laws:
        tables = {"exponents": exponents_table(analysis), "forms": analysis.forms, "verdicts": analysis.verdicts}
    else:
        tables = dict.fromkeys(files, pd.DataFrame({"note": [analysis.why_no_laws]}))
    for name, path in files.items():
        write_csv(tables[name], path, float_format="%.4g")


def captions(analysis: Analysis, about: Mapping[str, str]) -> dict[str, str]:
    """How each table was made, as reStructuredText; ``about``: the study (see ``study.description``)."""
    exponents = (
        f"Exponents of {PAPER_LAW_RST} by stratum, with 95 % intervals of ordinary least squares on the logarithms, "
        "and beside them what the paper publishes (arXiv 2508.18609; it gives no intervals). "
        f"Studied: {about['variants']} variants of {about['models']}."
    )
    return {"exponents": exponents, "forms": HOW_COMPARED, "verdicts": HOW_JUDGED}
