"""GPU-hours, disk and wall time of a study, from its models' shapes, what it asks of them, and measured rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stratalaw.cost.rates import CPU, PLAIN, Rates, RatesError, rates_of
from stratalaw.cost.runs import Runs, corrections, runs_of
from stratalaw.cost.schedule import Job, Schedule, longest_chain, most_worthwhile, simulate
from stratalaw.cost.workload import Work, work_of
from stratalaw.preflight import shapes_of_study
from stratalaw.shapes import Shapes
from stratalaw.study import Study
from stratalaw.variants import BASELINE_NAME, Quantization

WORKERS = (1, 2, 4, 8, 16, 32, 64)
ON_GPU = ("quantize", "answer")


@dataclass(frozen=True)
class Cost:
    """What a study takes.

    Attributes:
        variants: one row for each variant: model, variant, quantize and answer (seconds of GPU jobs), plain_quantize
            and plain_answer (the same by gptqmodel and lm-eval's ``hf``), score (seconds of a CPU job),
            checkpoint_bytes, done_seconds (of GPU jobs that were run).
        model_bytes: of each model's dense weights.
        device: whose rates were used.
        runs: how many jobs that were run refined them.
        is_estimated: whether the requests of a model were not recorded, so that their tokens are estimated.
        schedules: of what is left, by the number of GPUs (or of cores, where there is no GPU).
        most_worthwhile: GPUs (cores) beyond which twice as many help little.
        shortest: seconds that no number of GPUs can do without.
    """

    variants: pd.DataFrame
    model_bytes: dict[str, int]
    device: str
    runs: int
    is_estimated: bool
    schedules: list[Schedule]
    most_worthwhile: int
    shortest: float

    @property
    def gpu_seconds(self) -> float:
        """Of all GPU jobs, those that were run included."""
        return float(self.variants[list(ON_GPU)].to_numpy().sum())

    @property
    def plain_seconds(self) -> float:
        """The same by gptqmodel and lm-eval, one after the other."""
        return float(self.variants[["plain_quantize", "plain_answer"]].to_numpy().sum())

    @property
    def disk_bytes(self) -> int:
        """Models and checkpoints."""
        return sum(self.model_bytes.values()) + int(self.variants.checkpoint_bytes.sum())


def cost_of(
    study: Study,
    study_file: str,
    download_rate: float,
    device: str | None = None,
    folder: Path = Path(),
    workers: Sequence[int] = WORKERS,
) -> Cost:
    """Estimate what a study takes.

    Args:
        study: of its models only the configurations are read, or fetched if they are on the Hub.
        study_file: for messages.
        download_rate: bytes a second.
        device: whose rates; if not given, those of the device on which jobs in ``folder`` were run, or an H100's.
        folder: the working directory: jobs that were run there refine the rates, and requests that were recorded say
            what is asked.
        workers: numbers of GPUs to simulate.

    Raises:
        StudyError: a model is not pinned, is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
        RatesError: there are no rates of the device.
    """
    results = folder / "results"
    shapes = shapes_of_study(study, study_file)
    runs, rates = runs_and_rates(study, results, device)
    work = {name: work_of(study.evaluation, results / "requests" / name) for name in shapes}
    variants = estimated_variants(study, shapes, work, rates, runs)
    is_done = {name: (results / "models" / name).exists() for name in shapes}
    model_bytes = {name: shape.weight_bytes(None) for name, shape in shapes.items()}
    downloads = {
        model.name: model_bytes[model.name] / download_rate if model.revision and not is_done[model.name] else 0.0
        for model in study.models
    }
    jobs = jobs_left(study, variants, work, rates, downloads, runs)
    return Cost(
        variants,
        model_bytes,
        rates.device if runs.device is None else runs.device,
        len(runs.seconds),
        any(asked.is_estimated for asked in work.values()),
        [simulate(jobs, number) for number in workers],
        most_worthwhile(jobs),
        longest_chain(jobs),
    )


def runs_and_rates(study: Study, results: Path, device: str | None) -> tuple[Runs, Rates]:
    """The rates to use, and the runs that refine them: none that were made on another device than the wanted one."""
    runs = runs_of(study, results)
    if device is not None:
        rates = rates_of(device)
        return (runs if runs.device == rates.device else Runs({}, None)), rates
    try:
        return runs, rates_of(runs.device)
    except RatesError:  # a GPU that was not measured is some times as slow as the one that was
        return runs, rates_of()


def estimated_variants(
    study: Study, shapes: dict[str, Shapes], work: dict[str, Work], rates: Rates, runs: Runs
) -> pd.DataFrame:
    """The table of a cost: jobs that were run with their seconds, others as the rates and those runs say."""
    quantizations = {
        (row.model, row.variant): None if row.variant == BASELINE_NAME else Quantization.from_name(row.variant)
        for row in study.variants().itertuples()
    }
    predicted = {}
    for (model, variant), quantization in quantizations.items():
        if quantization is not None:
            tokens = quantization.calibration_size * study.calibration.tokens
            predicted["quantize", model, variant] = rates.quantization(shapes[model], tokens)
        predicted["answer", model, variant] = rates.evaluation(shapes[model], work[model])
        predicted["score", model, variant] = rates.seconds("scores", requests=work[model].requests)
    factors = corrections(predicted, runs.seconds)

    def seconds(stage: str, model: str, variant: str) -> float:
        key = (stage, model, variant)
        return runs.seconds.get(key, predicted[key] * factors[stage, model])

    rows = []
    for (model, variant), quantization in quantizations.items():
        row = {"model": model, "variant": variant, "quantize": 0.0, "plain_quantize": 0.0, "checkpoint_bytes": 0}
        if quantization is not None:
            tokens = quantization.calibration_size * study.calibration.tokens
            row |= {
                "quantize": rates.before_quantization(shapes[model]) + seconds("quantize", model, variant),
                "plain_quantize": rates.before_quantization(shapes[model], PLAIN)
                + rates.quantization(shapes[model], tokens, PLAIN),
                "checkpoint_bytes": shapes[model].weight_bytes(quantization),
            }
        row |= {
            "answer": seconds("answer", model, variant),
            "plain_answer": rates.evaluation(shapes[model], work[model], PLAIN),
            "score": seconds("score", model, variant),
        }
        row["done_seconds"] = sum(row[stage] for stage in ON_GPU if (stage, model, variant) in runs.seconds)
        rows.append(row)
    return pd.DataFrame(rows)


def jobs_left(
    study: Study, variants: pd.DataFrame, work: dict[str, Work], rates: Rates, downloads: dict[str, float], runs: Runs
) -> list[Job]:
    """The jobs that were not run, with what each waits for; all of them take a core where there is no GPU."""
    on_cpu = rates.device == CPU
    jobs: list[Job] = []

    def add(stage: str, model: str, seconds: float, after: Sequence[int], needs_worker: bool) -> int:
        jobs.append(Job(stage, model, seconds, tuple(after), needs_worker))
        return len(jobs) - 1

    drawn = rates.seconds(
        "calibration", calibration_tokens=study.variants().calibration_size.max() * study.calibration.tokens
    )
    scores, downloaded = [], []
    for model, rows in variants.groupby("model", sort=False):
        # One after the other: they share the line.
        downloaded = [add("download", model, downloads[model], downloaded, needs_worker=False)]
        recorded = add("requests", model, rates.seconds("requests", requests=work[model].requests), downloaded, on_cpu)
        calibrated = add("calibration", model, drawn, [recorded], on_cpu)
        for row in rows.itertuples():
            needed = [recorded]
            if row.variant != BASELINE_NAME and ("quantize", model, row.variant) not in runs.seconds:
                needed.append(add("quantize", model, row.quantize, [calibrated], True))
            if ("answer", model, row.variant) not in runs.seconds:
                needed = [add("answer", model, row.answer, needed, True)]
            if ("score", model, row.variant) not in runs.seconds:
                scores.append(add("score", model, row.score, needed, on_cpu))
    add("analysis", "", rates.seconds("analysis"), scores, on_cpu)
    return jobs
