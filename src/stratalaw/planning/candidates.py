"""From a study and its laws to the variants that could be deployed, and what is asked of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from scipy import stats

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.laws.surface import PREDICTED
from stratalaw.laws.table import GENERAL
from stratalaw.laws.whole import LEVEL
from stratalaw.models.shapes import Shapes
from stratalaw.planning.mixed_bits import expected_of_mixed, uniform_parts
from stratalaw.planning.portfolio import Candidate, Workload
from stratalaw.planning.prediction import (
    MEASURED,
    SAME,
    PredictionError,
    check_is_accuracy,
    predict,
    predict_original,
    predictors,
    why_unknown,
)
from stratalaw.study import Name, Section, Study, describe
from stratalaw.study.plain_yaml import YamlError, read_yaml
from stratalaw.study.variants import BASELINE_NAME, Quantization
from stratalaw.units import parse_bytes

MEAN_LEVEL = 0.95
LOG = logging.getLogger(__name__)


class DemandError(StratalawError):
    """A demand that cannot be read; the message is one line that names the file and the key."""


def _bytes(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


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
    memory: Annotated[int, BeforeValidator(_bytes), Field(ge=0)] | None = None
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

    What was measured stands as measured. What was not is as the study's surface expects it, else as the laws do, and
    where its matrices have bits of their own as the uniform variants of these bits let expect. Left out are variants of
    2 bits of which neither was asked, as laws leave them out; what was not measured and has whole rows or was
    calibrated on a mixture, which laws do not know; checkpoints that existed, whose memory shapes do not tell; and,
    with a warning, models of which the laws can say nothing (``prediction.why_unknown``).

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
    strata = strata_of(analysis)
    for model in study.models:
        own = shapes[model.name]
        known: Known = {}
        if _is_of_study(model.name, own.n_params, analysis):
            known = _measured_of_model(study.quantizations_of(model), model.name, analysis, level)
        if reason := why_unknown(analysis, own.n_params, model.name):
            reasons.append(f"{model.name}: {reason}")
        else:
            known = _predicted_of_model(study.quantizations_of(model), model.name, own, analysis, level) | known
        for quantization, rows in known.items():
            if not strata <= set(rows.stratum):
                continue  # the laws do not speak of all strata
            rows = rows[rows.stratum.isin(strata)]
            candidates.append(
                Candidate(
                    name=f"{model.name} {quantization.name if quantization else BASELINE_NAME}",
                    memory=own.memory_bytes(quantization, context),
                    accuracy=dict(zip(rows.stratum, rows.accuracy if risk is None else rows.low, strict=True)),
                    note=_note(rows),
                )
            )
    if not candidates:
        raise PredictionError("; ".join(reasons) or "the study names no variant that the laws cover")
    for reason in reasons:
        LOG.warning("left out but for what was measured: %s", reason)
    return candidates


def strata_of(analysis: Analysis) -> set[str]:
    """The strata of an analysis: those that were measured, or that laws speak of."""
    return {*analysis.variants.stratum, *(scatter.stratum for scatter in analysis.scatters)} - {GENERAL}


Known = dict[Quantization | None, pd.DataFrame]  # the original is None; a row for each stratum


def _is_of_study(model: str, n_params: float, analysis: Analysis) -> bool:
    """Whether a model is the one of this name that was measured, as far as its size tells."""
    if analysis.measured.empty:
        return True
    sizes = analysis.measured.n_params[analysis.measured.model == model]
    return bool((np.abs(np.log(sizes / n_params)) < SAME).all())


def _measured_of_model(quantizations: Sequence[Quantization], model: str, analysis: Analysis, level: float) -> Known:
    """What was measured of the original of a model and of its variants.

    Draws of the calibration set are replicates, and count as one: a user quantizes once.
    """
    found: Known = {}
    for quantization in [*_one_draw_of(quantizations), None]:
        draws = [BASELINE_NAME]
        if quantization is not None:
            draws = [q.name for q in quantizations if _setting(q) == _setting(quantization)]
        rows = _mean_of_draws(analysis.variants, model, draws, level)
        if len(rows):
            found[quantization] = rows
    return found


def _predicted_of_model(
    quantizations: Sequence[Quantization], model: str, shapes: Shapes, analysis: Analysis, level: float
) -> Known:
    """What is expected of the original of a model and of its variants, or known of them."""
    of_laws = [q for q in quantizations if q.group_size > 0 and q.is_of_laws]
    parts = {q: uniform_parts(q, shapes) for q in _one_draw_of(quantizations) if q.exceptions and not q.mixture}
    uniform = [part for shares in parts.values() for part in shares if part.group_size > 0]
    predicted = predict(
        analysis, shapes.n_params, [*_one_draw_of(of_laws), *dict.fromkeys(uniform)], level, model=model
    ).drop_duplicates(["variant", "stratum"])
    originals = predict_original(analysis, shapes.n_params, level, model)
    if originals.stratum.nunique() == len(analysis.scatters):
        predicted = pd.concat([predicted, originals], ignore_index=True)
    predicted = by_surface(predicted[predicted.stratum != GENERAL], analysis, model, level)
    rows_of = {str(name): rows for name, rows in predicted.groupby("variant", sort=False)}
    # The laws say nothing of what they leave out as a phase of its own.
    rows_of = {name: rows for name, rows in rows_of.items() if not _is_beyond_laws(name, rows)}
    named = {q.name if q else BASELINE_NAME: q for q in (*_one_draw_of(of_laws), None)}
    found: Known = {quantization: rows_of[name] for name, quantization in named.items() if name in rows_of}
    chances = {stratum: one.law.chance for stratum, one in predictors(analysis).items()}
    for quantization, of_precisions in parts.items():
        shares = {part.name: share for part, share in of_precisions.items()}
        if {BASELINE_NAME, *shares} <= rows_of.keys():
            uniform_rows = pd.concat([rows_of[BASELINE_NAME], *(rows_of[name] for name in shares)])
            found[quantization] = expected_of_mixed(uniform_rows, shares, chances, level)
    return found


def _setting(quantization: Quantization) -> Quantization:
    """All that draws of the calibration set have in common."""
    return replace(quantization, calibration_seed=0)


def _one_draw_of(quantizations: Sequence[Quantization]) -> list[Quantization]:
    """The first of the draws of each setting."""
    return list({_setting(q): q for q in reversed(quantizations)}.values())[::-1]


def _is_beyond_laws(variant: str, rows: pd.DataFrame) -> bool:
    if variant == BASELINE_NAME:
        return False
    return Quantization.from_name(variant).bits <= PHASE_TRANSITION_BITS and "bits" in _outside(rows)


def _outside(rows: pd.DataFrame) -> set[str]:
    """The factors of a variant whose values were not fitted."""
    return set(", ".join(rows.outside).split(", ")) - {""}


def _mean_of_draws(variants: pd.DataFrame, model: str, draws: Sequence[str], level: float) -> pd.DataFrame:
    """What was measured of the draws of a variant, as ``predict`` has it; empty where nothing was.

    Args:
        variants: of an analysis.
        model: whose variant it is.
        draws: names of the variant, one for each draw.
        level: of the intervals.
    """
    known = variants[(variants.model == model) & (variants.kind == MEASURED) & variants.variant.isin(draws)]
    means = known.groupby("stratum", sort=False)[["accuracy", "low", "high"]].mean().astype(float)
    found = _at_level(means[means.index != GENERAL], level)
    return found.reset_index().assign(form=MEASURED, outside="")


def _at_level(rows: pd.DataFrame, level: float) -> pd.DataFrame:
    """Accuracies with intervals of another level than ``LEVEL``."""
    ratio = stats.norm.ppf((1 + level) / 2) / stats.norm.ppf((1 + LEVEL) / 2)
    ends = {end: (rows.accuracy + ratio * (rows[end] - rows.accuracy)).clip(0, 1) for end in ("low", "high")}
    return rows.assign(**ends)


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
    values = _at_level(values, level)
    has_one = values.accuracy.notna().to_numpy() & (predicted.form != MEASURED).to_numpy()
    found = predicted.reset_index(drop=True)
    found.loc[has_one, ["accuracy", "low", "high"]] = values.to_numpy()[has_one]
    found.loc[has_one, ["form", "outside"]] = ["surface", ""]
    return found


def _note(rows: pd.DataFrame) -> str:
    """What a reader must know of a candidate's accuracies, one row for each stratum; empty where all were measured."""
    if (rows.form == MEASURED).all():
        return ""
    outside = ", ".join(sorted(_outside(rows)))
    return "predicted, not measured" + (f", at values that were not fitted: {outside}" if outside else "")


def check_strata(demand: Demand, candidates: list[Candidate]) -> None:
    """Raise DemandError when a demand names a stratum that the laws do not have."""
    known = list(candidates[0].accuracy)
    for workload in demand.workloads:
        for key in ("weights", "floors"):
            for name in getattr(workload, key):
                if name not in known:
                    raise DemandError(f"workload {workload.name}: {key}.{name} is not one of {', '.join(known)}")
