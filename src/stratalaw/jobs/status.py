"""How far a study is: done, running, failed by cause, and remaining, for each stage; and how long the rest will take.

Everything is read from the results folder and the logs, so any machine can ask, during a run or after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from stratalaw.cost.estimate import DOWNLOAD_RATE, START, expectation
from stratalaw.errors import StratalawError
from stratalaw.jobs.call import FINISHED, is_written
from stratalaw.jobs.failures import Failure, classify, failure_with
from stratalaw.layout import Results
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.models.sources import weights_folder
from stratalaw.pipeline import STAGES, Job, Stage, jobs_of
from stratalaw.quantization.unquantizable import why_unquantizable
from stratalaw.study import Study

CAPTION = (
    "Jobs that failed when they last ran, with the cause, the line of the log that shows it, and what to do, as "
    "``stratalaw status`` shows them; read when the observations were made. A variant whose Hessian cannot be inverted "
    "stays here: it cannot be quantized, and the laws do without it."
)
MIN_FINISHED_JOBS = 3  # to tell a rate
PAUSE_SECONDS = 3600  # without a finished job for so long, the run stood still, and the rate is measured anew


@dataclass(frozen=True)
class StageStatus:
    """How far a stage is.

    Attributes:
        stage: the stage.
        done: jobs that succeeded.
        failed: jobs that failed when they last ran, with the reason.
        running: jobs that run now.
        remaining: jobs that have yet to start.
        seconds_left: at the rate at which it finished jobs until now, weighted by the model's size; None when unknown.
    """

    stage: Stage
    done: int
    failed: tuple[tuple[Job, Failure], ...]
    running: int
    remaining: int
    seconds_left: float | None


def status_of(study: Study, results: Results = Results()) -> list[StageStatus]:
    """How far the stages of a study are.

    Raises:
        ModelError: the folder of a model is damaged.
    """
    jobs = jobs_of(study, results)
    places = {model.name: weights_folder(model, results) for model in study.models}
    sizes = {name: shapes_of_weights(place).n_params for name, place in places.items() if place}
    of_stages = [(stage, [job for job in jobs if job.stage == stage]) for stage in STAGES]
    return [_status(stage, jobs_of_stage, sizes) for stage, jobs_of_stage in of_stages if jobs_of_stage]


def _status(stage: Stage, jobs: Sequence[Job], sizes: Mapping[str, int]) -> StageStatus:
    done = [job for job in jobs if job.is_done()]
    undone = [job for job in jobs if not job.is_done()]
    running = {job for job in undone if is_written(job.log)}
    # What is said of a running job is of an earlier try.
    failed = [(job, failure) for job in jobs if job not in running and (failure := failure_of(job))]
    failed_for_good = sum(job.is_done() for job, _ in failed)
    remaining = len(undone) - len(running) - (len(failed) - failed_for_good)
    left = seconds_left(done, undone, sizes)
    return StageStatus(stage, len(done) - failed_for_good, tuple(failed), len(running), remaining, left)


def failure_of(job: Job) -> Failure | None:
    """Why a job failed the last time, or None if it did not; what Slurm says comes first.

    A job that found its variant unquantizable is done and failed. One whose log has neither an error nor an end, and
    that does not run, was killed.
    """
    if reason := why_unquantizable(job.outputs[0]):
        return classify(reason) or failure_with("uninvertible Hessian", reason)
    if job.is_done():
        return None
    from_slurm = sorted(job.slurm_logs.glob("*.log"), key=lambda path: path.stat().st_mtime)[-1:]
    try:
        of_slurm = "".join(path.read_text(errors="replace") for path in from_slurm)
        own = job.log.read_text(errors="replace") if job.log.exists() else None
    except OSError as error:  # another user's logs
        return failure_with("permission denied", f"{error.filename}: {error.strerror}")
    lines = (own or "").splitlines()
    if FINISHED in lines:  # what it made was removed since
        return classify(of_slurm)
    if (failure := classify(f"{of_slurm}\n{own or ''}")) or own is None or is_written(job.log) is not False:
        return failure
    # Snakemake makes an empty log for a job that ended before it had one.
    nothing = "its log is empty; the last log in .snakemake/log may say more"
    return failure_with("ended early", next(filter(str.strip, reversed(lines)), nothing))


def seconds_left(done: Sequence[Job], undone: Sequence[Job], sizes: Mapping[str, int]) -> float | None:
    """Seconds that jobs will take at the rate at which others finished since the last pause; None if too few did.

    ``sizes``: parameters of the models that are there; other jobs count as 1.
    """
    if not undone:
        return 0.0
    finished = sorted((finished_at(job), sizes.get(job.model, 1)) for job in done)
    pauses = [i for i in range(1, len(finished)) if finished[i][0] - finished[i - 1][0] > PAUSE_SECONDS]
    recent = finished[pauses[-1] if pauses else 0 :]
    if len(recent) < MIN_FINISHED_JOBS:
        return None
    # The first job's end is where the clock starts, so its own size does not count.
    worked = sum(size for _, size in recent[1:])
    return (recent[-1][0] - recent[0][0]) / worked * sum(sizes.get(job.model, 1) for job in undone)


@dataclass(frozen=True)
class TimeLeft:
    """How long the rest of a study will take.

    Attributes:
        least: seconds if stages overlap as far as they can: those of the longest.
        most: seconds if they run one after the other; None where nobody knows the time of some stage.
        assumed: stages of which too little is done to tell a rate, so that their time is the cost model's.
        unknown: stages whose time the cost model does not know either.
    """

    least: float
    most: float | None
    assumed: tuple[str, ...]
    unknown: tuple[str, ...]


def time_left(study: Study, study_file: str, statuses: Sequence[StageStatus], results: Results = Results()) -> TimeLeft:
    """How long the rest of a study will take, at the rates so far, or by the cost model where there are none."""
    without_rate = [status.stage.name for status in statuses if status.seconds_left is None]
    least = [status.seconds_left for status in statuses if status.seconds_left is not None]
    if not without_rate:
        return TimeLeft(max(least, default=0.0), sum(least), (), ())
    try:
        seconds = expectation(study, study_file, DOWNLOAD_RATE, results=results, count_requests=False).seconds
    except StratalawError:
        return TimeLeft(max(least, default=0.0), None, (), tuple(without_rate))
    most = sum(least)
    for name in without_rate:
        expected = [
            START + seconds.get((name, job.name), 0.0)
            for job in jobs_of(study, results)
            if job.stage.name == name and not job.is_done()
        ]
        least.append(max(expected))
        most += sum(expected)
    return TimeLeft(max(least), most, tuple(without_rate), ())


def finished_at(job: Job) -> float:
    """Seconds since the epoch."""
    return max(output.stat().st_mtime for output in job.outputs)


def failures_table(statuses: Sequence[StageStatus]) -> pd.DataFrame:
    """One row for each job that failed: stage, job, cause, the line of the log that shows it, advice, and the log."""
    rows = [
        (status.stage.name, job.name, failure.cause.name, failure.line, failure.cause.advice, str(job.log))
        for status in statuses
        for job, failure in status.failed
    ]
    return pd.DataFrame(rows, columns=["stage", "job", "cause", "line", "advice", "log"])
