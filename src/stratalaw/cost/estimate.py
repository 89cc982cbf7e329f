"""GPU-hours, disk and wall time of a study, from its models' shapes, its workload, and measured rates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from stratalaw.cost.rates import CPU, REFERENCE, Rates, RatesError, rates_of
from stratalaw.cost.runs import Runs, corrections, runs_of
from stratalaw.cost.schedule import Schedule, Work, longest_chain, most_worthwhile, simulate
from stratalaw.cost.workload import Workload, work_of
from stratalaw.layout import Results
from stratalaw.models.known_shapes import has_shipped_shapes, shapes_of_study
from stratalaw.models.shapes import Shapes
from stratalaw.models.sources import is_unpinned
from stratalaw.pipeline import STAGES, Job, jobs_of
from stratalaw.study import Study
from stratalaw.study.variants import draw_of, is_quantized_here

DOWNLOAD_RATE = 1e8  # bytes per second
START = 2.0  # seconds until snakemake has started a job; costs leave it out
VARIANTS_OF_LADDER = 299
WORKERS = (1, 2, 4, 8, 16, 32, 64)
ON_GPU = [stage.name for stage in STAGES if stage.on_gpu]


@dataclass(frozen=True)
class Cost:
    """What a study takes.

    Attributes:
        variants: one row for each variant: model, variant; seconds of its jobs by stage: checkpoints, answers, scores;
            reference_checkpoints and reference_answers (the same by gptqmodel and lm-eval's ``hf``); checkpoint_bytes;
            done_seconds (of GPU jobs that were run).
        model_bytes: bytes of each model's dense weights.
        shipped: names of the models whose shapes are those that are shipped, since they were not fetched yet.
        device: the device whose rates were used.
        runs: how many jobs that were run refined them.
        is_estimated: whether the requests of a model were not recorded, so that their tokens are estimated.
        schedules: of what is left, by the number of GPUs (or of cores, where there is no GPU).
        most_worthwhile: GPUs (cores) beyond which twice as many help little.
        shortest: seconds that no number of GPUs can do without.
    """

    variants: pd.DataFrame
    model_bytes: dict[str, int]
    shipped: list[str]
    device: str
    runs: int
    is_estimated: bool
    schedules: list[Schedule]
    most_worthwhile: int
    shortest: float

    @property
    def gpu_seconds(self) -> float:
        """Seconds of all GPU jobs, those that were run included."""
        return float(self.variants[ON_GPU].to_numpy().sum())

    @property
    def reference_seconds(self) -> float:
        """Seconds of the same jobs by gptqmodel and lm-eval, one after the other."""
        return float(self.variants[["reference_checkpoints", "reference_answers"]].to_numpy().sum())

    @property
    def disk_bytes(self) -> int:
        """Bytes of models and checkpoints."""
        return sum(self.model_bytes.values()) + int(self.variants.checkpoint_bytes.sum())


def cost_of(
    study: Study,
    study_file: str,
    download_rate: float,
    device: str | None = None,
    results: Results = Results(),
    workers: Sequence[int] = WORKERS,
) -> Cost:
    """Estimate what a study takes.

    Args:
        study: of its models only the configurations are read, or fetched from the Hub if they are not shipped.
        study_file: for messages.
        download_rate: bytes per second.
        device: the device whose rates to use; if not given, the one on which jobs in ``results`` were run, or an H100.
        results: jobs that were run there refine the rates, and requests that were recorded say what is asked.
        workers: numbers of GPUs to simulate.

    Raises:
        StudyError: a model whose shapes are not shipped is not pinned; or one is not there, or cannot be quantized.
        DownloadError: the configuration of a model cannot be fetched.
        RatesError: there are no rates of the device.
    """
    expected = expectation(study, study_file, download_rate, device, results)
    work = work_left(jobs_of(study, results), expected.seconds, expected.rates.device == CPU)
    return Cost(
        expected.variants,
        expected.model_bytes,
        [model.name for model in study.models if has_shipped_shapes(model, results)],
        expected.rates.device if expected.runs.device is None else expected.runs.device,
        len(expected.runs.seconds),
        expected.is_estimated,
        [simulate(work, number) for number in workers],
        most_worthwhile(work),
        longest_chain(work),
    )


@dataclass(frozen=True)
class Expectation:
    """What the jobs of a study are expected to take.

    Attributes:
        seconds: by stage and name of the job; jobs of negligible time are missing.
        variants: see ``Cost``.
        model_bytes: see ``Cost``.
        runs: the jobs that were run.
        rates: those that were used.
        is_estimated: see ``Cost``.
    """

    seconds: dict[tuple[str, str], float]
    variants: pd.DataFrame
    model_bytes: dict[str, int]
    runs: Runs
    rates: Rates
    is_estimated: bool


def expectation(
    study: Study,
    study_file: str,
    download_rate: float,
    device: str | None = None,
    results: Results = Results(),
    count_requests: bool = True,
) -> Expectation:
    """What the jobs of a study are expected to take; arguments and errors are those of ``cost_of``.

    ``count_requests``: read the requests that were recorded, which loads torch; without, their tokens are estimated.
    """
    shapes = shapes_of_study(study, study_file, results)
    runs, rates = runs_and_rates(study, results, device)
    workloads = {name: work_of(study.evaluation, name, results if count_requests else None) for name in shapes}
    variants = estimated_variants(study, shapes, workloads, rates, runs)
    model_bytes = {name: shape.weight_bytes(None) for name, shape in shapes.items()}
    on_the_hub = [model.name for model in study.models if model.revision or is_unpinned(model)]
    downloads = {name: model_bytes[name] / download_rate for name in on_the_hub}
    seconds = seconds_of_jobs(study, variants, workloads, rates, downloads)
    is_estimated = any(asked.is_estimated for asked in workloads.values())
    return Expectation(seconds, variants, model_bytes, runs, rates, is_estimated)


def runs_and_rates(study: Study, results: Results, device: str | None) -> tuple[Runs, Rates]:
    """The rates to use, and the runs that refine them; runs on another device than the requested one are ignored."""
    runs = runs_of(study, results)
    if device is not None:
        rates = rates_of(device)
        return (runs if runs.device == rates.device else Runs({}, None)), rates
    try:
        return runs, rates_of(runs.device)
    except RatesError:  # a GPU without measured rates is taken to be slower or faster by a constant factor
        return runs, rates_of()


def estimated_variants(
    study: Study, shapes: Mapping[str, Shapes], workloads: Mapping[str, Workload], rates: Rates, runs: Runs
) -> pd.DataFrame:
    """The table of a cost: measured seconds of jobs that were run, predicted seconds of the others."""
    quantizations = {
        (model, variant): study.quantization_of(model, variant) for model, variant in study.variant_names()
    }
    predicted = {}
    for (model, variant), quantization in quantizations.items():
        if quantization is not None:
            tokens = quantization.calibration_size * study.calibration.tokens
            predicted["checkpoints", model, variant] = rates.quantization(shapes[model], tokens)
        predicted["answers", model, variant] = rates.answers(shapes[model], workloads[model])
        predicted["scores", model, variant] = rates.seconds("scores", requests=workloads[model].requests)
    factors = corrections(predicted, runs.seconds)

    def seconds(stage: str, model: str, variant: str) -> float:
        key = (stage, model, variant)
        return runs.seconds.get(key, predicted[key] * factors[stage, model])

    # What exists already is converted to dense weights.
    is_stored = {
        pair: quantization is not None or study.checkpoint_of(*pair) is not None
        for pair, quantization in quantizations.items()
    }
    rows = []
    for (model, variant), quantization in quantizations.items():
        checkpoint = reference = 0.0
        if quantization is not None:
            # An audit does not count the start of its job.
            checkpoint = rates.seconds("start") + seconds("checkpoints", model, variant)
            tokens = quantization.calibration_size * study.calibration.tokens
            reference = rates.checkpoint(shapes[model], tokens, REFERENCE)
        took = {"checkpoints": checkpoint, "answers": seconds("answers", model, variant)}
        rows.append(
            {
                "model": model,
                "variant": variant,
                **took,
                "scores": seconds("scores", model, variant),
                "reference_checkpoints": reference,
                "reference_answers": rates.answers(shapes[model], workloads[model], REFERENCE),
                "checkpoint_bytes": shapes[model].weight_bytes(quantization) if is_stored[model, variant] else 0,
                "done_seconds": sum(took[stage] for stage in ON_GPU if (stage, model, variant) in runs.seconds),
            }
        )
    return pd.DataFrame(rows)


def seconds_of_jobs(
    study: Study,
    variants: pd.DataFrame,
    workloads: Mapping[str, Workload],
    rates: Rates,
    downloads: Mapping[str, float],
) -> dict[tuple[str, str], float]:
    """Seconds of the jobs whose time is not negligible, by stage and name of the job."""
    names = variants.model + "/" + variants.variant
    drawn = rates.seconds(
        "calibration", calibration_tokens=study.variants().calibration_size.fillna(0).max() * study.calibration.tokens
    )
    draws = {f"{model}/{draw_of(variant)}" for model, variant in study.variant_names() if is_quantized_here(variant)}
    return {
        **{("models", name): took for name, took in downloads.items()},
        **{("requests", name): rates.seconds("requests", requests=w.requests) for name, w in workloads.items()},
        **{("calibration", name): drawn for name in draws},
        **{
            (stage, name): took
            for stage in ("checkpoints", "answers", "scores")
            for name, took in zip(names, variants[stage], strict=True)
        },
        # The stages after the scores were measured together, on the ladder.
        ("laws", study.name): rates.seconds("analysis") * min(max(len(variants) / VARIANTS_OF_LADDER, 0.1), 1),
    }


def work_left(
    jobs: Sequence[Job],
    seconds: Mapping[tuple[str, str], float],
    on_cpu: bool,
    is_left: Callable[[Job], bool] = lambda job: not job.is_done(),
) -> list[Work]:
    """The jobs that are left, with what each waits for; ``on_cpu``: without a GPU, each of them takes a core.

    Downloads share the connection: they run one after the other.
    """
    work: list[Work] = []
    places: dict[int, int] = {}
    line: list[int] = []
    for number, job in enumerate(jobs):
        if not is_left(job):
            continue
        after = [places[i] for i in job.after if i in places]
        if is_download := job.stage.name == "models":
            after, line = [*after, *line], [len(work)]
        places[number] = len(work)
        needs_worker = job.stage.on_gpu or (on_cpu and not is_download)
        took = seconds.get((job.stage.name, job.name), 0.0)
        work.append(Work(job.stage.name, job.model, took, tuple(after), needs_worker))
    return work
