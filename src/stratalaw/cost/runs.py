"""What jobs that were run took, from the audits of checkpoints and Snakemake's ``benchmark:`` files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stratalaw.quantization import AUDIT
from stratalaw.study import Study
from stratalaw.variants import BASELINE_NAME

PRIOR_JOBS = 3  # a model's own rate counts for as many jobs as were measured, that of its stage for so many


@dataclass(frozen=True)
class Runs:
    """Seconds of jobs that were run.

    Attributes:
        seconds: by stage (quantize, answer, score), model and variant. Those of ``quantize`` are the audit's, without
            the start of the job.
        device: where most checkpoints were quantized; None if there are none.
    """

    seconds: Mapping[tuple[str, str, str], float]
    device: str | None


def runs_of(study: Study, results: Path) -> Runs:
    """Jobs of a study that were run in a results folder."""
    seconds, devices = {}, Counter()
    for row in study.variants().itertuples():
        audit = results / "checkpoints" / row.model / row.variant / AUDIT
        if row.variant != BASELINE_NAME and audit.exists():
            about = json.loads(audit.read_text())
            seconds["quantize", row.model, row.variant] = about["seconds"]
            devices[about["device"]] += 1
        for stage, took in benchmarks_of(results, row.model, row.variant):
            seconds[stage, row.model, row.variant] = took
    return Runs(seconds, devices.most_common(1)[0][0] if devices else None)


def benchmarks_of(results: Path, model: str, variant: str) -> Iterator[tuple[str, float]]:
    """Stage and seconds of a variant's jobs with a ``benchmark:`` file."""
    for stage, folder in (("answer", "loglikelihoods"), ("score", "scores")):
        path = results / "benchmarks" / folder / model / f"{variant}.tsv"
        if path.exists():
            yield stage, float(pd.read_csv(path, sep="\t").s.iloc[0])


def corrections(
    predicted: Mapping[tuple[str, str, str], float], measured: Mapping[tuple[str, str, str], float]
) -> dict[tuple[str, str], float]:
    """By stage and model, how many times the predicted seconds jobs take, as those that were run say.

    A ratio of sums, so that totals come out right. A model's own jobs are pulled to the rate of its stage, as if some
    more had taken what that says; stages of which nothing was run keep what is predicted.
    """
    table = pd.DataFrame(
        [(*key, value, measured.get(key)) for key, value in predicted.items()],
        columns=["stage", "model", "variant", "predicted", "measured"],
    )
    found = {}
    for stage, jobs in table.groupby("stage"):
        run = jobs.dropna(subset="measured")
        overall = run.measured.sum() / run.predicted.sum() if len(run) else 1.0
        for model, of_model in jobs.groupby("model"):
            own = run[run.model == model]
            prior = PRIOR_JOBS * of_model.predicted.mean()
            found[stage, model] = (own.measured.sum() + overall * prior) / (own.predicted.sum() + prior)
    return found
