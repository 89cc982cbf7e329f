"""A run says how far it is and how long it will take, in a file and on a terminal."""

import enum
import io
import logging
from pathlib import Path

import pytest

from stratalaw.cost.schedule import Work
from stratalaw.jobs.progress import DEFAULT_HANDLER, Forecast, failed_jobs, follow_run
from stratalaw.layout import Results
from stratalaw.study import read_study

Event = enum.Enum("Event", ["JOB_INFO", "JOB_FINISHED", "JOB_ERROR", "PROGRESS", "JOB_STARTED"])
PLANNED = [("checkpoints", {"model": "q3", "variant": f"w{bits}-g128-c32-s0"}) for bits in (3, 4, 8)]
PLANNED += [("calibration", {"model": "q3", "draw": "s0"}), ("laws", {}), ("all", {})]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Run:
    """Snakemake as its loggers see it, with a clock that goes when it is told."""

    def __init__(self, stream: io.StringIO, **filtered) -> None:
        self.now, self.stream = 0.0, stream
        self.logger = logging.Logger("snakemake")
        self.default = logging.StreamHandler(stream)
        self.default.name = DEFAULT_HANDLER
        self.default.addFilter(type("Filter", (logging.Filter,), filtered)())
        self.logger.addHandler(self.default)
        study = read_study(Path("config/demo.yaml"))
        self.followed = follow_run(
            self.logger, study, "demo.yaml", Results(Path("none")), PLANNED, 1, False, lambda: self.now
        )

    def log(self, event: Event, number: int, text: str = "", **about) -> None:
        identity = {"jobid": number} if event in (Event.JOB_INFO, Event.JOB_ERROR) else {"job_id": number}
        self.logger.info(text, extra={"event": event, **identity, **about})

    def run(self, number: int, seconds: float, end: Event = Event.JOB_FINISHED) -> None:
        rule, wildcards = PLANNED[number]
        self.log(Event.JOB_INFO, number, f"rule {rule}:", rule_name=rule, wildcards=wildcards)
        self.now += seconds
        self.log(end, number, "Error in rule" if end is Event.JOB_ERROR else "Finished jobid")


@pytest.fixture
def to_file() -> Run:
    return Run(io.StringIO())


def test_in_a_file_each_finished_job_is_one_line_with_the_time_that_is_left(to_file):
    to_file.run(3, 60)
    to_file.run(0, 600)
    first, second = to_file.stream.getvalue().splitlines()
    assert "] 1 of 5 jobs done, 0:01:00 elapsed, about 0:" in first
    assert first.endswith(" left: calibration q3/s0 took 0:01:00")
    assert "] 2 of 5 jobs done, 0:11:00 elapsed, about 0:" in second
    assert second.endswith(" left: checkpoints q3/w3-g128-c32-s0 took 0:10:00")


def test_the_last_line_has_nothing_left_and_the_target_is_no_job(to_file):
    for number in range(len(PLANNED)):
        to_file.run(number, 1)
    lines = to_file.stream.getvalue().splitlines()
    assert len(lines) == 5 and "] 5 of 5 jobs done, 0:00:05 elapsed: laws demo took 0:00:01" in lines[-1]


def test_errors_and_messages_are_snakemakes_own(to_file):
    to_file.logger.info("Building DAG of jobs...")
    to_file.run(0, 1, Event.JOB_ERROR)
    to_file.run(1, 1)
    message, error, line = to_file.stream.getvalue().splitlines()
    assert (message, error) == ("Building DAG of jobs...", "Error in rule")
    assert "1 of 5 jobs done, 1 failed, " in line
    assert [job.name for job in failed_jobs(to_file.logger)] == ["q3/w3-g128-c32-s0"]


def test_a_job_that_succeeds_in_its_second_try_has_not_failed(to_file):
    to_file.run(0, 1, Event.JOB_ERROR)
    to_file.run(0, 1)
    assert failed_jobs(to_file.logger) == []


def test_on_a_terminal_the_times_are_called_what_they_are():
    terminal = Terminal()
    run = Run(terminal)
    run.run(3, 60)
    times = run.followed.times()
    assert times.startswith("0:01:00 elapsed, about 0:") and times.endswith(" left")
    run.now += 1
    assert run.followed.times() != times and run.followed.times().startswith("0:01:01 elapsed, about ")
    run.logger.error("Something is wrong")
    failed_jobs(run.logger)
    shown = terminal.getvalue()
    assert "Something is wrong" in shown and "checkpoints" in shown and "1/5" in shown


def test_whoever_asks_for_quiet_or_another_logger_gets_it():
    quiet = Event["PROGRESS"]
    assert Run(io.StringIO(), quiet={quiet}).followed is None
    study = read_study(Path("config/demo.yaml"))
    other = logging.Logger("snakemake")
    other.addHandler(logging.StreamHandler(io.StringIO()))
    assert follow_run(other, study, "demo.yaml", Results(Path("none")), PLANNED, 1, False) is None


def chain(seconds: float, jobs: int) -> list[Work]:
    return [Work("answers", "m", seconds, (i - 1,) if i else ()) for i in range(jobs)]


def test_before_anything_has_finished_the_expectation_counts():
    assert Forecast(chain(10, 6), 2).seconds_left(0, {}, {}) == pytest.approx(60)
    assert Forecast(chain(1, 6), 2, is_expected=False).seconds_left(5, {}, {}) is None


@pytest.mark.parametrize("is_expected", [True, False])
def test_what_finished_jobs_took_corrects_the_rest(is_expected):
    forecast = Forecast(chain(10, 100), 1, is_expected)
    took = dict.fromkeys(range(50), 30.0)
    assert forecast.seconds_left(1500, took, {}) == pytest.approx(1500, rel=0.1)


def test_a_running_job_has_less_to_go():
    forecast = Forecast(chain(100, 2), 1)
    assert forecast.seconds_left(50, {}, {0: 50.0}) < forecast.seconds_left(50, {}, {})


def test_where_fewer_jobs_run_at_once_than_thought_the_pace_tells():
    work = [Work("answers", "m", 10.0) for _ in range(100)]
    took = dict.fromkeys(range(50), 10.0)
    assert Forecast(work, 100).seconds_left(500, took, {}) > 20
    assert Forecast(work, 1).seconds_left(500, took, {}) == pytest.approx(500)


def test_nothing_is_shown_of_a_run_without_jobs_and_no_run_ends_for_its_progress(to_file, monkeypatch):
    study = read_study(Path("config/demo.yaml"))
    nothing = [("all", {})]
    assert follow_run(to_file.logger, study, "demo.yaml", Results(Path("none")), nothing, 1, False) is None
    monkeypatch.setattr(logging, "raiseExceptions", False)
    monkeypatch.setattr(Forecast, "seconds_left", lambda *_: 1 / 0)
    to_file.run(0, 1)
