"""From a study and its laws to the variants that could be deployed, and what is asked of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ByteSize, Field, ValidationError, field_validator, model_validator
from scipy import stats

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.laws.surface import PREDICTED
from stratalaw.laws.table import GENERAL
from stratalaw.laws.whole import LEVEL
from stratalaw.models.shapes import Shapes
from stratalaw.planning.portfolio import Candidate, Workload
from stratalaw.planning.prediction import (
    MEASURED,
    PredictionError,
    check_is_accuracy,
    predict,
    predict_original,
    why_unknown,
)
from stratalaw.study import Name, Section, Study, describe
from stratalaw.study.plain_yaml import YamlError, read_yaml
from stratalaw.study.variants import BASELINE_NAME, Quantization

MEAN_LEVEL = 0.95
LOG = logging.getLogger(__name__)


class DemandError(StratalawError):
    """A demand that cannot be read; the message is one line that names the file and the key."""


class WorkloadDemand(Section):
    """One workload of a portfolio."""

    name: Name
    """Short name."""
    share: float = Field(default=1.0, gt=0)
    """Its part of everything that is asked."""
    weights: dict[str, float] = Field(min_length=1)
    """How much each stratum matters."""
    floors: dict[str, float] = Field(default={})
    """Accuracies that must be reached, by stratum."""

    @field_validator("floors")
    @classmethod
    def _are_accuracies(cls, floors: dict[str, float]) -> dict[str, float]:
        for stratum, floor in floors.items():
            check_is_accuracy(stratum, floor)
        return floors

    @field_validator("weights")
    @classmethod
    def _not_all_zero(cls, weights: dict[str, float]) -> dict[str, float]:
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            raise ValueError(f"{weights}: weights are not negative, and one is more than 0")
        return weights


class Demand(Section):
    """What a portfolio of variants is for."""

    workloads: list[WorkloadDemand] = Field(min_length=1)
    """What the variants are asked; each workload is served by one variant."""
    memory: ByteSize | None = None
    """Memory that all variants share, such as 8GB; the smallest plan that meets the floors if not given."""
    context: int = Field(default=4096, ge=1)
    """Tokens whose keys and values are kept in memory."""
    most_variants: int | None = Field(default=None, ge=1)
    """Variants that may be served at once."""

    @model_validator(mode="after")
    def _asks_for_something(self) -> Demand:
        if self.memory is None and not any(workload.floors for workload in self.workloads):
            raise ValueError(
                "neither a memory limit nor a floor is given: name a memory such as 8GB for the most accurate variant "
                "that fits, or a floor such as reasoning=0.6 for the smallest that reaches it"
            )
        return self

    def as_workloads(self) -> list[Workload]:
        return [Workload(w.name, w.share, w.weights, w.floors) for w in self.workloads]


def read_demand(path: Path) -> Demand:
    """Read and check a portfolio's YAML file; raises DemandError."""
    try:
        content = read_yaml(path)
    except YamlError as error:
        raise DemandError(str(error)) from None
    try:
        return demand_of(content)
    except DemandError as error:
        raise DemandError(f"{path}: {error}") from None


def demand_of(content: dict[str, Any]) -> Demand:
    """A demand from plain values; raises DemandError."""
    try:
        return Demand.model_validate(content)
    except ValidationError as error:
        raise DemandError(describe(error, Demand)) from None


def candidates_of(
    study: Study, shapes: Mapping[str, Shapes], analysis: Analysis, context: int, risk: float | None = None
) -> list[Candidate]:
    """Every variant of a study that something is known of: the originals, and the quantized ones.

    What was not measured is as the study's surface expects it, else as the laws do. Left out are variants of 2 bits of
    which neither was asked, as laws leave them out, and, with a warning, models of which the laws can say nothing
    (``prediction.why_unknown``).

    Args:
        study: the models and their variants.
        shapes: of each model, by its name.
        analysis: the laws.
        context: tokens whose keys and values count as memory.
        risk: accuracies are those that are missed with this probability; the expected ones if not given.

    Raises:
        PredictionError: nothing is known of any model.
    """
    candidates: list[Candidate] = []
    reasons = []
    level = MEAN_LEVEL if risk is None else 1 - 2 * risk
    for model in study.models:
        own = shapes[model.name]
        if reason := why_unknown(analysis, own.n_params, model.name):
            reasons.append(f"{model.name}: {reason}")
            continue
        # Draws of the calibration set are replicates: a user quantizes once.
        known = [
            q
            for q in study.quantizations_of(model)
            if q.group_size > 0 and q.is_of_laws  # laws know no whole rows
        ]
        settings = {(q.bits, q.group_size, q.calibration_size): q for q in reversed(known)}
        grid: dict[str, Quantization | None] = {q.name: q for q in reversed(settings.values())}
        predicted = predict(analysis, own.n_params, [q for q in grid.values() if q], level, model=model.name)
        originals = predict_original(analysis, own.n_params, level, model.name)
        if originals.stratum.nunique() == len(analysis.scatters):
            grid[BASELINE_NAME] = None
            predicted = pd.concat([predicted, originals], ignore_index=True)
        predicted = by_surface(predicted[predicted.stratum != GENERAL], analysis, model.name, level)
        for name, rows in predicted.groupby("variant", sort=False):
            quantization = grid[str(name)]
            outside = set(", ".join(rows.outside).split(", ")) - {""}
            if quantization and "bits" in outside and quantization.bits <= PHASE_TRANSITION_BITS:
                continue  # the laws say nothing of what they leave out as a phase of its own
            candidates.append(
                Candidate(
                    name=f"{model.name} {name}",
                    memory=own.memory_bytes(quantization, context),
                    accuracy=dict(zip(rows.stratum, rows.accuracy if risk is None else rows.low, strict=True)),
                    note=_note(rows, outside),
                )
            )
    if not candidates:
        raise PredictionError("; ".join(reasons) or "the study names no variant that the laws cover")
    for reason in reasons:
        LOG.warning("left out: %s", reason)
    return candidates


def by_surface(predicted: pd.DataFrame, analysis: Analysis, model: str, level: float) -> pd.DataFrame:
    """Predictions of a model's variants with those of the surface of its own study in place of the laws', where it has
    them: it knows what was measured nearby.

    Args:
        predicted: as ``predict`` gives them.
        analysis: of the study.
        model: whose variants they are.
        level: of the intervals.
    """
    known = analysis.variants[(analysis.variants.model == model) & (analysis.variants.kind == PREDICTED)]
    if known.empty:
        return predicted
    names = pd.MultiIndex.from_frame(predicted[["variant", "stratum"]])
    values = known.set_index(["variant", "stratum"])[["accuracy", "low", "high"]].astype(float).reindex(names)
    ratio = stats.norm.ppf((1 + level) / 2) / stats.norm.ppf((1 + LEVEL) / 2)
    for end in ("low", "high"):
        values[end] = (values.accuracy + ratio * (values[end] - values.accuracy)).clip(0, 1)
    has_one = values.accuracy.notna().to_numpy() & (predicted.form != MEASURED).to_numpy()
    found = predicted.reset_index(drop=True)
    found.loc[has_one, ["accuracy", "low", "high"]] = values.to_numpy()[has_one]
    found.loc[has_one, ["form", "outside"]] = ["surface", ""]
    return found


def _note(rows: pd.DataFrame, outside: set[str]) -> str:
    """What a reader must know of a candidate's accuracies, one row for each stratum; empty where all were measured."""
    if (rows.form == MEASURED).all():
        return ""
    return "predicted, not measured" + (
        f", at values that were not fitted: {', '.join(sorted(outside))}" if outside else ""
    )


def check_strata(demand: Demand, candidates: list[Candidate]) -> None:
    """Raise DemandError when a demand names a stratum that the laws do not have."""
    known = list(candidates[0].accuracy)
    for workload in demand.workloads:
        for key in ("weights", "floors"):
            for name in getattr(workload, key):
                if name not in known:
                    raise DemandError(f"workload {workload.name}: {key}.{name} is not one of {', '.join(known)}")
