"""The explorer: one HTML page that works without a network, to ask the laws and to look into the observations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.laws.analysis import Analysis
from stratalaw.laws.rows import stratum_accuracies
from stratalaw.laws.scatter import line_of_originals
from stratalaw.laws.surface import PREDICTED
from stratalaw.laws.table import GENERAL
from stratalaw.planning.prediction import ALLOWANCES, SAME, Predictor, effective_bits, predictors
from stratalaw.report.damage import HOW_TO_READ
from stratalaw.report.findings import as_sentence
from stratalaw.report.tables import SCRIPT, STYLE, overview
from stratalaw.study.variants import BASELINE_NAME

TEMPLATE = Path(__file__).with_suffix(".html")
LEVEL = 0.95
CAPTION = (
    f"Interactive page: what was lost, the accuracy of any variant in each stratum with its {LEVEL:.0%} interval and "
    "its memory, lines of equal accuracy and equal memory, and every variant of the study. What was measured is shown "
    "as measured; all else starts from the model's own original and takes off the damage that the best law predicts, "
    "with intervals from models that were left out in turn; variants of the study that were not measured are "
    "drawn apart. It works without a network."
)


def explorer_page(name: str, observations: pd.DataFrame, damage: pd.DataFrame, analysis: Analysis) -> str:
    """The page of a study as HTML, with its data and laws within.

    Args:
        name: of the study.
        observations: the observations table.
        damage: the damage table.
        analysis: of the observations.
    """
    accuracies = stratum_accuracies(observations)
    accuracies["accuracy"] = accuracies.chance + (1 - accuracies.chance) * accuracies.accuracy_adjusted
    found = predictors(analysis)
    data = {
        "study": name,
        "strata": sorted(accuracies.stratum.unique(), key=lambda stratum: stratum != GENERAL),
        "chance": accuracies.groupby("stratum").chance.mean().to_dict(),
        "models": _models(observations),
        "points": [*_points(accuracies), *_predicted_points(analysis, observations)],
        "whyNoLaws": as_sentence(analysis.why_no_laws or "no law was fitted to this stratum"),
        "laws": {stratum: _law(predictor) | _expected(analysis, stratum) for stratum, predictor in found.items()},
    }
    # A text that ends a script element must not occur within it.
    content = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    parts = {"STYLE": STYLE, "HOW_TO_READ": HOW_TO_READ, "TABLE": overview(damage), "SCRIPT": SCRIPT, "DATA": content}
    # In one go: a name in the table may look like a place of the template.
    return re.sub("__([A-Z_]+)__", lambda place: parts[place[1]], TEMPLATE.read_text())


def _models(observations: pd.DataFrame) -> list[dict[str, Any]]:
    sizes = observations.groupby("model", sort=False)[["n_params", "n_params_nonembedding", "held_out"]].first()
    rows = sizes.sort_values("n_params").reset_index().astype(object)
    return [dict(zip(("name", "size", "quantized", "heldOut"), row, strict=True)) for row in rows.to_numpy().tolist()]


def _points(accuracies: pd.DataFrame) -> list[dict[str, Any]]:
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
            "accuracy": {name: None if pd.isna(row[name]) else round(float(row[name]), 5) for name in strata},
        }
        for row in table.to_dict("records")
    ]


def _predicted_points(analysis: Analysis, observations: pd.DataFrame) -> list[dict[str, Any]]:
    """The variants of the study that were not measured, as ``_points``, each with a mark that says so."""
    table = analysis.variants[analysis.variants.kind == PREDICTED]
    if table.empty:
        return []
    sizes = observations.groupby("model").n_params.first()
    settings = ["model", "variant", "bits", "group_size", "calibration_size"]
    wide = table.astype({"accuracy": float}).pivot(index=settings, columns="stratum", values="accuracy")
    return [
        {
            "model": row["model"],
            "variant": row["variant"],
            "N": float(sizes[row["model"]]),
            "B": float(row["bits"]),
            "E": round(effective_bits(row["bits"], row["group_size"]), 4) if row["group_size"] > 0 else row["bits"],
            "G": float(row["group_size"]),
            "C": float(row["calibration_size"]),
            "accuracy": {name: round(float(row[name]), 5) for name in table.stratum.unique()},
            "isPredicted": True,
        }
        for row in wide.reset_index().to_dict("records")
    ]


def _expected(analysis: Analysis, stratum: str) -> dict[str, Any]:
    """What the surface expects of the variants that were not measured: accuracy, low and high, by the same names as
    those that were."""
    table = analysis.variants[(analysis.variants.kind == PREDICTED) & (analysis.variants.stratum == stratum)]
    return {
        "expected": {
            "|".join([row["model"], *(f"{row[name]:g}" for name in ("bits", "group_size", "calibration_size"))]): [
                round(float(row[name]), 5) for name in ("accuracy", "low", "high")
            ]
            for row in table.to_dict("records")
        }
    }


def _law(predictor: Predictor) -> dict[str, Any]:
    """What the page needs to predict with an interval, as ``Predictor.predict`` does.

    ``damage``: the loss without the original's, as JavaScript of the factors and of S, a family's shift of ln A.
    """
    law, scatter = predictor.law, predictor.scatter
    intercept, slope = line_of_originals(predictor.measured)
    sizes = predictor.measured.groupby("model", sort=False).n_params.first()
    models = {}
    for name, size in sizes.items():
        own = predictor.measured[predictor.measured.model == name]
        found = predictor.original(float(size), own, None)
        models[str(name)] = {
            "original": found.accuracy,
            "spread": found.spread,
            "shift": found.shift,
            "damageSpread": found.damage_spread,
            "family": law.family_shift(str(own.family.iloc[0])),
        }
    return {
        "form": law.form.title,
        "anchored": law.form.is_anchored,
        "damage": law.form.javascript(law.fitted),
        "quantile": predictor.quantile(LEVEL),
        "normal": float(stats.norm.ppf((1 + LEVEL) / 2)),
        "between": scatter.between,
        "noise": scatter.noise,
        "line": [intercept, slope, scatter.original] if law.form.is_anchored else None,
        "models": models,
        "reference": law.reference_size,
        "chance": law.chance,
        "levels": law.levels,
        "allowances": ALLOWANCES,
        "same": SAME,
        "measured": _measured(predictor),
    }


def _measured(predictor: Predictor) -> dict[str, list[float]]:
    """Accuracy and the error of its items, by ``model|bits|group|calibration``; draws of one setting are averaged."""
    table = predictor.measured[predictor.measured.group_size > 0]
    settings = ["model", "bits", "group_size", "calibration_size"]
    means = table.groupby(settings)[["accuracy_adjusted", "stderr_adjusted"]].agg(["mean", "size"])
    return {
        "|".join([str(model), *(f"{value:g}" for value in values)]): [
            round(float(mean), 5),
            round(float(np.nan_to_num(error) / np.sqrt(draws)), 5),
        ]
        for (model, *values), mean, error, draws in zip(
            means.index,
            means["accuracy_adjusted", "mean"],
            means["stderr_adjusted", "mean"],
            means["accuracy_adjusted", "size"],
            strict=True,
        )
    }
