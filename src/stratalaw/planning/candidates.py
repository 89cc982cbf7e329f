"""From a study and its laws to the variants that could be deployed, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ByteSize, Field, ValidationError, field_validator

from stratalaw.errors import StratalawError
from stratalaw.laws.analysis import Analysis
from stratalaw.laws.rows import PHASE_TRANSITION_BITS
from stratalaw.laws.table import GENERAL
from stratalaw.models.shapes import Shapes
from stratalaw.planning.portfolio import Candidate, Workload
from stratalaw.planning.prediction import predict
from stratalaw.study import Name, Section, Study, describe
from stratalaw.study.plain_yaml import YamlError, read_yaml

MEAN_LEVEL = 0.95


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
    """Every quantized variant of a study but those of 2 bits that were not measured, which laws leave out.

    Args:
        study: the models and their variants.
        shapes: of each model, by its name.
        analysis: the laws.
        context: tokens whose keys and values count as memory.
        risk: accuracies are those that are missed with this probability; the expected ones if not given.

    Raises:
        PredictionError: see ``prediction.predict``.
    """
    candidates = []
    level = MEAN_LEVEL if risk is None else 1 - 2 * risk
    for model in study.models:
        # Draws of the calibration set are replicates: a user quantizes once.
        known = [q for q in study.quantizations_of(model) if q.group_size > 0]  # laws know no whole rows
        settings = {(q.bits, q.group_size, q.calibration_size): q for q in reversed(known)}
        grid = {q.name: q for q in reversed(settings.values())}
        if not grid:
            continue
        predicted = predict(analysis, shapes[model.name].n_params, list(grid.values()), level)
        predicted = predicted[predicted.stratum != GENERAL]
        for name, rows in predicted.groupby("variant", sort=False):
            quantization = grid[str(name)]
            outside = set(", ".join(rows.outside).split(", ")) - {""}
            if "bits" in outside and quantization.bits <= PHASE_TRANSITION_BITS:
                continue  # the laws say nothing of what they leave out as a phase of its own
            candidates.append(
                Candidate(
                    name=f"{model.name} {name}",
                    memory=shapes[model.name].memory_bytes(quantization, context),
                    accuracy=dict(zip(rows.stratum, rows.accuracy if risk is None else rows.low, strict=True)),
                    note=f"predicted at values that were not fitted: {', '.join(sorted(outside))}" if outside else "",
                )
            )
    return candidates


def check_strata(demand: Demand, candidates: list[Candidate]) -> None:
    """Raise DemandError when a demand names a stratum that the laws do not have."""
    known = list(candidates[0].accuracy)
    for workload in demand.workloads:
        for key in ("weights", "floors"):
            for name in getattr(workload, key):
                if name not in known:
                    raise DemandError(f"workload {workload.name}: {key}.{name} is not one of {', '.join(known)}")
