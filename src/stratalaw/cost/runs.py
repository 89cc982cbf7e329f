"""Measured seconds of finished jobs, from the audits of checkpoints and Snakemake's timings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from stratalaw.layout import Results
from stratalaw.models.folder import AUDIT
from stratalaw.seals import read_record
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME

PRIOR_JOBS = 3  # the rate of a stage counts for so many jobs, that of one model for as many as were measured
TIMED = ("answers", "scores")  # stages whose jobs Snakemake times


@dataclass(frozen=True)
class Runs:
    """Measured seconds of finished jobs.

    Attributes:
        seconds: by stage (checkpoints, answers, scores), model and variant. Those of ``checkpoints`` are the audit's,
            without the start of the job; where several GPUs shared the work, those of all of them.
        device: where most checkpoints were quantized; None if there are none.
    """

    seconds: Mapping[tuple[str, str, str], float]
    device: str | None


def runs_of(study: Study, results: Results) -> Runs:
    """The finished jobs of a study."""
    seconds: dict[tuple[str, str, str], float] = {}
    devices: Counter[str] = Counter()
    for model, variant in study.variant_names():
        audit = results.checkpoint(model, variant) / AUDIT
        if variant != BASELINE_NAME and audit.exists():
            about = read_record(audit, "checkpoint")
            seconds["checkpoints", model, variant] = about["seconds"] * about.get("gpus", 1)
            devices[about["device"]] += 1
        for stage in TIMED:
            timing = results.timing(stage, f"{model}/{variant}")
            with suppress(OSError, ValueError, AttributeError, IndexError):  # none yet, or cut short
                seconds[stage, model, variant] = float(pd.read_csv(timing, sep="\t").s.iloc[0])
    return Runs(seconds, devices.most_common(1)[0][0] if devices else None)


def corrections(
    predicted: Mapping[tuple[str, str, str], float], measured: Mapping[tuple[str, str, str], float]
) -> dict[tuple[str, str], float]:
    """Measured over predicted seconds of finished jobs, by stage and model.

    A ratio of sums, so that totals come out right. The jobs of a model are shrunk towards the rate of its stage, as if
    a few more had run at that rate; stages without a finished job keep the prediction (1).
    """
    table = pd.DataFrame(
        [(*key, value, measured.get(key)) for key, value in predicted.items()],
        columns=["stage", "model", "variant", "predicted", "measured"],
    )
    factors = {}
    for stage, jobs in table.groupby("stage"):
        run = jobs.dropna(subset="measured")
        overall = run.measured.sum() / run.predicted.sum() if len(run) else 1.0
        for model, of_model in jobs.groupby("model"):
            same_model = run[run.model == model]
            prior = PRIOR_JOBS * of_model.predicted.mean()
            measured_seconds = same_model.measured.sum() + overall * prior
            factors[str(stage), str(model)] = measured_seconds / (same_model.predicted.sum() + prior)
    return factors
