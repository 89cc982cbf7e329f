"""How far a study is: done, running, failed by cause, and remaining, for each stage; and how long the rest will take.

Everything is read from the results folder and the logs, so any machine can ask, while a run goes on or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pandas as pd

from stratalaw.failures import Failure, classify
from stratalaw.inputs import weights_folder
from stratalaw.jobs import is_written
from stratalaw.shapes import shapes_of_weights
from stratalaw.study import Study
from stratalaw.unquantizable import why_unquantizable
from stratalaw.variants import BASELINE_NAME

SLURM_LOGS = Path("results/logs/slurm")  # profiles/slurm/config.yaml: slurm-logdir
FEWEST_TO_EXTRAPOLATE = 3  # finished jobs
PAUSE_SECONDS = 3600  # nothing finished for so long: the run stood still, and the rate is measured anew


@dataclass(frozen=True)
class Job:
    """A job of a study: what it makes, where its logs are, and its size (parameters of its model)."""

    stage: str
    name: str
    outputs: tuple[Path, ...]
    log: Path
    slurm_logs: Path
    size: int

    def is_done(self) -> bool:
        return all(output.exists() for output in self.outputs)

    def finished_at(self) -> float:
        """Seconds since the epoch."""
        return max(output.stat().st_mtime for output in self.outputs)

    def failure(self) -> Failure | None:
        """Why it failed the last time, or None if it did not; what Slurm says comes first.

        A job that found its variant unquantizable is done and failed.
        """
        if reason := why_unquantizable(self.outputs[0]):
            return classify(reason)
        if self.is_done():
            return None
        from_slurm = sorted(self.slurm_logs.glob("*.log"), key=lambda path: path.stat().st_mtime)[-1:]
        logs = [path for path in (*from_slurm, self.log) if path.exists()]
        return classify("\n".join(path.read_text(errors="replace") for path in logs))


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is.

    Attributes:
        stage: its name.
        done: jobs that succeeded.
        failed: jobs that failed when they last ran, with the reason.
        running: jobs.
        remaining: jobs that have yet to start.
        seconds_left: at the rate at which it finished jobs until now, weighted by the model's size; None when unknown.
    """

    stage: str
    done: int
    failed: tuple[tuple[Job, Failure], ...]
    running: int
    remaining: int
    seconds_left: float | None


def status_of(study: Study, folder: Path) -> list[StageStatus]:
    """How far the stages of a study are in a working directory.

    Raises:
        ModelError: the folder of a model is damaged.
    """
    jobs = list(jobs_of(study, folder))
    stages = dict.fromkeys(job.stage for job in jobs)
    return [_status(stage, [job for job in jobs if job.stage == stage]) for stage in stages]


def jobs_of(study: Study, folder: Path) -> Iterator[Job]:
    """The jobs of a study, as workflow/rules/ names their files, in the order of the stages."""
    results, logs, slurm = folder / "results", folder / "results" / "logs", folder / SLURM_LOGS
    strata = list(study.evaluation.strata)
    variants = list(study.variants().itertuples())
    places = {model.name: weights_folder(model, folder) for model in study.models}
    sizes = {name: shapes_of_weights(place).n_params if place else 1 for name, place in places.items()}

    def job(stage: str, name: str, outputs: Sequence[Path], slurm_logs: str, size: int = 1) -> Job:
        return Job(stage, name, tuple(outputs), logs / stage / f"{name}.log", slurm / slurm_logs, size)

    for name, size in sizes.items():
        yield job("models", name, [results / "models" / name], f"rule_model/{name}", size)
    for name, seed in sorted({(row.model, row.calibration_seed) for row in variants if row.variant != BASELINE_NAME}):
        drawn = results / "calibration" / name / f"s{seed}.parquet"
        yield job("calibration", f"{name}/s{seed}", [drawn], f"rule_calibration/{name}_{seed}")
    for name in sizes:
        recorded = [results / "requests" / name / f"{stratum}.parquet" for stratum in strata]
        yield job("requests", name, recorded, f"rule_requests/{name}")
    for row in variants:
        if row.variant != BASELINE_NAME:
            values = (row.model, row.bits, row.group_size, row.calibration_size, row.calibration_seed)
            yield job(
                "checkpoints",
                f"{row.model}/{row.variant}",
                [results / "checkpoints" / row.model / row.variant],
                f"rule_quantize/{'_'.join(map(str, values))}",
                sizes[row.model],
            )
    for stage in ("loglikelihoods", "scores"):
        for row in variants:
            made = [results / stage / row.model / row.variant / f"{stratum}.parquet" for stratum in strata]
            yield job(
                stage,
                f"{row.model}/{row.variant}",
                made,
                f"rule_{stage}/{row.model}_{row.variant}",
                sizes[row.model],
            )
    of_study = results / "studies" / study.name
    for stage, made in (
        *(("observations", "observations.csv"), ("coverage", "coverage.csv"), ("laws", "laws.json")),
        *(("figures", "figures/accuracy.svg"), ("summary", "summary.rst")),
    ):
        yield job(stage, study.name, [of_study / made], f"rule_{stage}")


def _status(stage: str, jobs: Sequence[Job]) -> StageStatus:
    done = [job for job in jobs if job.is_done()]
    undone = [job for job in jobs if not job.is_done()]
    running = {job for job in undone if is_written(job.log)}
    # What is said of a running job is of an earlier try.
    failed = [(job, failure) for job in jobs if job not in running and (failure := job.failure())]
    failed_for_good = sum(job.is_done() for job, _ in failed)
    remaining = len(undone) - len(running) - (len(failed) - failed_for_good)
    left = seconds_left(done, undone)
    return StageStatus(stage, len(done) - failed_for_good, tuple(failed), len(running), remaining, left)


def seconds_left(done: Sequence[Job], undone: Sequence[Job]) -> float | None:
    """Seconds that jobs will take at the rate at which others finished since the last pause; None when too few did."""
    if not undone:
        return 0.0
    finished = sorted((job.finished_at(), job.size) for job in done)
    pauses = [i for i in range(1, len(finished)) if finished[i][0] - finished[i - 1][0] > PAUSE_SECONDS]
    recent = finished[pauses[-1] if pauses else 0 :]
    if len(recent) < FEWEST_TO_EXTRAPOLATE:
        return None
    # The first job's end is where the clock starts, so its own size does not count.
    worked = sum(size for _, size in recent[1:])
    return (recent[-1][0] - recent[0][0]) / worked * sum(job.size for job in undone)


def failures_table(statuses: Sequence[StageStatus]) -> pd.DataFrame:
    """One row for each job that failed: stage, job, cause, the line of the log that shows it, advice, and the log."""
    rows = [
        (status.stage, job.name, failure.cause.name, failure.line, failure.cause.advice, str(job.log))
        for status in statuses
        for job, failure in status.failed
    ]
    return pd.DataFrame(rows, columns=["stage", "job", "cause", "line", "advice", "log"])


def show_status(statuses: Sequence[StageStatus]) -> None:
    """Print the stages as a table, the causes of failures with advice, and the time that the rest will take."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("stage", "done", "running", "failed", "remaining", "left")
    for status in statuses:
        left = "?" if status.seconds_left is None else str(timedelta(seconds=round(status.seconds_left)))
        counts = (status.done, status.running, len(status.failed), status.remaining)
        table.add_row(status.stage, *map(str, counts), left)
    console.print(table)
    for (stage, cause), alike in failures_table(statuses).groupby(["stage", "cause"], sort=False):
        first, plural = alike.iloc[0], f"{len(alike)} job" + ("s" if len(alike) > 1 else "")
        console.print(f"{stage}: {plural}: {cause}: {first.advice}", soft_wrap=True, markup=False)
        console.print(f"    {first.job}: {first.line} ({first.log})", soft_wrap=True, markup=False)
    known = [status.seconds_left for status in statuses if status.seconds_left is not None]
    beyond = "" if len(known) == len(statuses) else ", and stages of which too little is done to tell"
    # Stages overlap: a variant is answered while others are still quantized.
    console.print(
        f"At most about {timedelta(seconds=round(sum(known)))} left at the rates so far{beyond}.", soft_wrap=True
    )
