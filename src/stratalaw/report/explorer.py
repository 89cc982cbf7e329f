"""The explorer: one HTML page that works without a network, to ask the laws and to look into the observations."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
from scipy import stats

from stratalaw.laws.analysis import Analysis
from stratalaw.laws.rows import GENERAL, stratum_accuracies
from stratalaw.planning.prediction import Predictor, predictors
from stratalaw.report.findings import as_sentence
from stratalaw.study.variants import BASELINE_NAME

TEMPLATE = Path(__file__).with_suffix(".html")
PLACEHOLDER = "__DATA__"
LEVEL = 0.95
CAPTION = (
    f"Interactive page: the accuracy of any variant in each stratum with its {LEVEL:.0%} interval and its memory, "
    "lines of equal accuracy and equal memory, and every variant of the study. Each stratum is predicted by the form "
    "that does best on held-out sizes; a size that was not fitted has intervals as wide as the errors there. It works "
    "without a network."
)


def explorer_page(name: str, observations: pd.DataFrame, analysis: Analysis) -> str:
    """The page of a study as HTML, with its data and laws within.

    Args:
        name: of the study.
        observations: the observations table.
        analysis: of it.
    """
    accuracies = stratum_accuracies(observations)
    accuracies["accuracy"] = accuracies.chance + (1 - accuracies.chance) * accuracies.accuracy_adjusted
    found = predictors(analysis)
    data = {
        "study": name,
        "strata": sorted(accuracies.stratum.unique(), key=lambda stratum: stratum != GENERAL),
        "models": _models(observations),
        "points": _points(accuracies),
        "whyNoLaws": as_sentence(analysis.why_no_laws or "no law was fitted to this stratum"),
        "laws": {stratum: _law(predictor) for stratum, predictor in found.items()},
    }
    # A text that ends a script element must not occur within it.
    content = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return TEMPLATE.read_text().replace(PLACEHOLDER, content)


def _models(observations: pd.DataFrame) -> list[dict]:
    sizes = observations.groupby("model", sort=False)[["n_params", "n_params_nonembedding", "held_out"]].first()
    rows = sizes.sort_values("n_params").reset_index().astype(object)
    return [dict(zip(("name", "size", "quantized", "heldOut"), row, strict=True)) for row in rows.to_numpy().tolist()]


def _points(accuracies: pd.DataFrame) -> list[dict]:
    """One entry for each variant: what it is, and its accuracy in each stratum."""
    identity = ["model", "variant", "n_params", "bits", "effective_bits", "group_size", "calibration_size"]
    table = accuracies.pivot(index=identity, columns="stratum", values="accuracy").reset_index()
    strata = [name for name in table.columns if name not in identity]
    return [
        {
            "model": row["model"],
            "variant": row["variant"],
            "N": float(row["n_params"]),
            "B": float(row["bits"]),
            "E": round(float(row["effective_bits"]), 4),
            "G": None if row["variant"] == BASELINE_NAME else float(row["group_size"]),
            "C": None if row["variant"] == BASELINE_NAME else float(row["calibration_size"]),
            "accuracy": {name: round(float(row[name]), 5) for name in strata},
        }
        for row in table.to_dict("records")
    ]


def _law(predictor: Predictor) -> dict:
    """What the page needs to predict with an interval, as ``Predictor.predict`` does."""
    law = predictor.law
    loss, *gradient = law.form.javascript(law.fitted)
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, max(predictor.n_sizes - 1, 1)))
    return {
        "form": law.form.title,
        "loss": loss,
        "gradient": gradient,
        "covariance": law.covariance.tolist(),
        "residual": law.residual_stderr,
        "quantile": float(stats.t.ppf((1 + LEVEL) / 2, law.degrees_of_freedom)),
        "newSize": None if math.isnan(predictor.held_out_stderr) else quantile * predictor.held_out_stderr,
        "reference": law.reference_size,
        "chance": law.chance,
        "levels": law.levels,
    }
