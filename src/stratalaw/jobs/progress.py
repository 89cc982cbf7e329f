"""How far a run is, as it goes: a line for each finished job, or bars on a terminal, with the time that is left.

Snakemake tells its loggers what starts and what ends. What it prints of each job itself, a dozen lines and no time that
is left, goes to its log file under ``.snakemake/log`` alone. It prints errors as ever.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TextIO

from rich.console import Console
from rich.file_proxy import FileProxy
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from stratalaw.cost.estimate import DOWNLOAD_RATE, START, expectation, work_left
from stratalaw.cost.rates import CPU
from stratalaw.cost.schedule import Work, simulate
from stratalaw.errors import StratalawError
from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import Study
from stratalaw.units import readable_time

DEFAULT_HANDLER = "DefaultStreamHandler"  # of snakemake; there is none where the user asked for another logger
OF_EACH_JOB = {"JOB_INFO", "JOB_STARTED", "JOB_FINISHED", "PROGRESS", "SHELLCMD"}
SELECTING = "Select jobs to execute..."
PAUSE = 20  # times as long as a forecast takes
PRIOR = 0.2  # the pace that was expected counts as if it had been seen for this share of the run


class Forecast:
    """How long the rest of a run will take.

    Expected seconds of jobs are corrected by what finished jobs of the same stage took, and those of stages without any
    by what all took. With them, the rest of the run is simulated, and stretched by the pace so far: how many jobs will
    run at once on a cluster, nobody knows.

    Args:
        work: the jobs of the run.
        workers: how many of them run at once.
        is_expected: whether anything is known of their seconds; if not, they count the same, and before the first has
            finished there is no forecast.
    """

    def __init__(self, work: Sequence[Work], workers: int, is_expected: bool = True) -> None:
        self._work, self._workers, self._is_expected = work, workers, is_expected

    def seconds_left(self, elapsed: float, took: Mapping[int, float], running: Mapping[int, float]) -> float | None:
        """Seconds from now on.

        Args:
            elapsed: seconds since the start.
            took: seconds of each finished job, by its index.
            running: seconds since its start of each job that runs, by its index.
        """
        if not self._is_expected and not took:
            return None
        work = self._corrected(took)
        places = {number: i for i, number in enumerate(n for n in range(len(work)) if n not in took)}
        rest = [
            replace(
                work[number],
                seconds=max(work[number].seconds - running.get(number, 0.0), 0.0),
                after=tuple(places[before] for before in work[number].after if before in places),
            )
            for number in places
        ]
        whole, left = simulate(work, self._workers).makespan, simulate(rest, self._workers).makespan
        return left * (elapsed + PRIOR * whole) / (whole - left + PRIOR * whole)

    def _corrected(self, took: Mapping[int, float]) -> list[Work]:
        """The jobs with the seconds that they took, or are to take by what others took."""
        expected, measured, mean = (defaultdict[str, float](float) for _ in range(3))
        stages = Counter(job.stage for job in self._work)
        for job in self._work:
            mean[job.stage] += job.seconds / stages[job.stage]
        for number, seconds in took.items():
            expected[self._work[number].stage] += self._work[number].seconds
            measured[self._work[number].stage] += seconds
        # One more job of the mean length, which took what was expected of it.
        one = sum(job.seconds for job in self._work) / len(self._work)
        overall = (sum(measured.values()) + one) / (sum(expected.values()) + one)
        factors = {
            stage: (measured[stage] + overall * mean[stage]) / (expected[stage] + mean[stage]) for stage in stages
        }
        return [
            replace(job, seconds=took.get(number, job.seconds * factors[job.stage]))
            for number, job in enumerate(self._work)
        ]


class Progress(logging.Handler):
    """A handler of snakemake's logger that knows the jobs of the run.

    Args:
        stream: where lines or bars go.
        jobs: the jobs of the run, in the order of ``forecast``'s.
        forecast: of the same jobs.
        clock: seconds from any start.
    """

    def __init__(self, stream: TextIO, jobs: Sequence[Job], forecast: Forecast, clock: Callable[[], float]) -> None:
        super().__init__()
        self._stream, self._jobs, self._forecast, self._clock = stream, jobs, forecast, clock
        self._places = {key_of(job): i for i, job in enumerate(jobs)}
        self._of_id: dict[int, int] = {}
        self._running: dict[int, float] = {}
        self._took: dict[int, float] = {}  # by finished jobs
        self._failed: dict[int, None] = {}  # in their order
        self._started_at = clock()
        self._left: float | None = None
        self._forecast_at, self._pause = -math.inf, 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._take(record)
        except Exception:  # no run ends for its progress
            self.handleError(record)

    def _take(self, record: logging.LogRecord) -> None:
        event, about = event_of(record), record.__dict__
        if event == "JOB_INFO":
            place = self._places.get((about["rule_name"], name_of(about["wildcards"])))
            if place is not None:
                self._of_id[about["jobid"]] = place
                self._running[place] = self._clock()
                self.show_started(place)
        elif event == "JOB_FINISHED" and (place := self._of_id.get(about["job_id"])) is not None:
            self._took[place] = self._clock() - self._running.pop(place, self._started_at)
            self._failed.pop(place, None)
            self.show_finished(place)
        elif event == "JOB_ERROR" and (place := self._of_id.get(about["jobid"])) is not None:
            self._running.pop(place, None)
            self._failed[place] = None
            self.show_failed(place)

    @property
    def elapsed(self) -> float:
        return self._clock() - self._started_at

    def seconds_left(self) -> float | None:
        """Seconds from now on; between two forecasts, of which large runs have few, they run down."""
        now = self._clock()
        if now - self._forecast_at >= self._pause:
            running = {place: now - start for place, start in self._running.items()}
            self._left = self._forecast.seconds_left(self.elapsed, self._took, running)
            self._forecast_at, self._pause = now, PAUSE * (self._clock() - now)
        return None if self._left is None else max(self._left - (now - self._forecast_at), 0.0)

    @property
    def failed(self) -> list[Job]:
        """The jobs that failed when they last ran."""
        return [self._jobs[place] for place in self._failed]

    def counts(self) -> str:
        """How many jobs are done, and how many failed."""
        failed = f", {len(self._failed)} failed" if self._failed else ""
        return f"{len(self._took)} of {len(self._jobs)} jobs done{failed}"

    def show_started(self, place: int) -> None:
        """A job has started."""

    def show_finished(self, place: int) -> None:
        """A job has finished: one line."""
        job, now = self._jobs[place], datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        left = "" if len(self._took) == len(self._jobs) else f", {readable_left(self.seconds_left())}"
        self._stream.write(
            f"[{now}] {self.counts()}, {readable_time(self.elapsed)} elapsed{left}: {job.stage.name} {job.name} "
            f"took {readable_time(self._took[place])}\n"
        )
        self._stream.flush()

    def show_failed(self, place: int) -> None:
        """A job has failed, of which snakemake says more."""


class Bars(Progress):
    """The same on a terminal: a bar for all jobs, with the times, and one for each stage."""

    def __init__(self, stream: TextIO, jobs: Sequence[Job], forecast: Forecast, clock: Callable[[], float]) -> None:
        super().__init__(stream, jobs, forecast, clock)
        console = Console(file=stream)
        self.above = FileProxy(console, stream)  # what is written to it appears above the bars
        self._bars = RichProgress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Note(), console=console
        )
        self._all = self._bars.add_task("all", total=len(jobs), note=self.times)
        totals = Counter(job.stage.name for job in jobs)
        self._stages = {stage: self._bars.add_task(stage, total=total, note=str) for stage, total in totals.items()}
        self.seconds_left()
        self._bars.start()

    def times(self) -> str:
        """Elapsed and left; between two jobs, the time that is left runs down."""
        left = None if self._left is None else max(self._left - (self._clock() - self._forecast_at), 0.0)
        return f"{readable_time(self.elapsed)} elapsed, {readable_left(left)}"

    def show_started(self, place: int) -> None:
        self._update(place)

    def show_finished(self, place: int) -> None:
        self.seconds_left()
        self._update(place)

    def show_failed(self, place: int) -> None:
        self._update(place)

    def _update(self, place: int) -> None:
        stage = self._jobs[place].stage.name
        done, running, failed = (
            sum(self._jobs[other].stage.name == stage for other in places)
            for places in (self._took, self._running, self._failed)
        )
        notes = [f"{number} {what}" for number, what in ((running, "running"), (failed, "failed")) if number]
        self._bars.update(self._stages[stage], completed=done, note=lambda: ", ".join(notes))
        self._bars.update(self._all, completed=len(self._took))

    def close(self) -> None:
        self._bars.stop()
        super().close()


class _Note(ProgressColumn):
    """What the task says of itself at the moment."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["note"]())


def follow_run(
    logger: logging.Logger,
    study: Study,
    study_file: str,
    results: Results,
    wanted: Collection[tuple[str, Mapping[str, str]]],
    workers: int,
    has_gpus: bool,
    clock: Callable[[], float] = time.monotonic,
) -> Progress | None:
    """Show the progress of a run that is about to start, instead of what snakemake prints of each job.

    Args:
        logger: snakemake's.
        study: the study.
        study_file: for messages.
        results: where its results are.
        wanted: the rule and the wildcards of each job that will run.
        workers: jobs on GPUs that run at once, or where there are none, jobs.
        has_gpus: whether jobs run on GPUs.
        clock: seconds from any start.

    Returns:
        The handler; None where the user asked for another logger, or for quiet.
    """
    default = next((handler for handler in logger.handlers if handler.name == DEFAULT_HANDLER), None)
    if not isinstance(default, logging.StreamHandler):
        return None
    quiet = {kind.name for asked in default.filters for kind in getattr(asked, "quiet", ())}
    if quiet & {"ALL", "PROGRESS"}:
        return None
    jobs, planned = jobs_of(study, results), {(rule, name_of(wildcards)) for rule, wildcards in wanted}
    left = [job for job in jobs if key_of(job) in planned]
    if not left:
        return None
    forecast = forecast_of(study, study_file, results, jobs, left, workers, has_gpus)
    if default.stream.isatty():
        progress: Progress = (bars := Bars(default.stream, left, forecast, clock))
        default.setStream(bars.above)
    else:
        progress = Progress(default.stream, left, forecast, clock)
    default.addFilter(is_of_no_single_job)
    logger.addHandler(progress)
    return progress


def failed_jobs(logger: logging.Logger) -> list[Job]:
    """The jobs of a run that failed, at its end; the bars go."""
    followed = [handler for handler in logger.handlers if isinstance(handler, Progress)]
    for handler in followed:
        handler.close()
    return [job for handler in followed for job in handler.failed]


def forecast_of(
    study: Study,
    study_file: str,
    results: Results,
    jobs: Sequence[Job],
    left: Sequence[Job],
    workers: int,
    has_gpus: bool,
) -> Forecast:
    """A forecast of some jobs of a study, by the cost model as far as it knows the study."""
    device = None if has_gpus else CPU
    try:
        seconds = expectation(study, study_file, DOWNLOAD_RATE, device, results, count_requests=False).seconds
    except StratalawError:
        seconds = {}
    expected = {key: START + seconds.get(key, 0.0) for key in ((job.stage.name, job.name) for job in left)}
    work = work_left(jobs, expected, on_cpu=not has_gpus, is_left=set(left).__contains__)
    return Forecast(work, max(min(workers, len(work)), 1), is_expected=bool(seconds))


def key_of(job: Job) -> tuple[str, str]:
    """The rule of a job, and its name by ``name_of``."""
    return job.stage.name, job.name if job.model else ""


def name_of(wildcards: Mapping[str, str]) -> str:
    """The name of a rule's job, as ``pipeline.Job`` has it; none for one of the whole study."""
    return "/".join(filter(None, (wildcards.get("model"), wildcards.get("draw") or wildcards.get("variant"))))


def event_of(record: logging.LogRecord) -> str:
    """What a record of snakemake's is about, such as JOB_FINISHED; nothing for mere text."""
    return getattr(getattr(record, "event", None), "name", "")


def is_of_no_single_job(record: logging.LogRecord) -> bool:
    """Whether snakemake is to print a record itself."""
    return event_of(record) not in OF_EACH_JOB and record.msg != SELECTING


def readable_left(seconds: float | None) -> str:
    return "time left unknown" if seconds is None else f"about {readable_time(seconds)} left"
