"""Which finished jobs snakemake takes for older than what they were made from."""

import os
from pathlib import Path

import pytest

from stratalaw.jobs.outdated import TIMESTAMP, outdated_jobs, outdated_note
from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import read_study

ROOT = Path(__file__).parents[2]
STUDY = read_study(ROOT / "config" / "demo.yaml")
VARIANT = "q3/w4-g128-c32-s0"


@pytest.fixture
def jobs(tmp_path) -> list[Job]:
    """All jobs of the demo: placeholders of what they make, each younger than what it was made from."""
    jobs = jobs_of(STUDY, Results(tmp_path))
    for time, job in enumerate(jobs):
        for output in job.outputs:
            output.mkdir(parents=True) if job.stage.name in ("models", "checkpoints") else write(output)
            os.utime(output, (time, time))
    return jobs


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def output_of(jobs: list[Job], stage: str, name: str) -> Path:
    return next(job.outputs[0] for job in jobs if (job.stage.name, job.name) == (stage, name))


def outdated(folder: Path) -> list[str]:
    return [f"{job.stage.name} {job.name}" for job in outdated_jobs(STUDY, Results(folder))]


def test_results_in_the_order_in_which_they_were_made_are_not_outdated(jobs, tmp_path):
    assert outdated(tmp_path) == []
    assert outdated(tmp_path / "nothing") == []


def test_of_one_time_stamp_nothing_is_outdated(jobs, tmp_path):
    for output in (output for job in jobs for output in job.outputs):
        os.utime(output, (0, 0))
    assert outdated(tmp_path) == []


def test_what_is_older_than_what_it_was_made_from_is_outdated(jobs, tmp_path):
    os.utime(output_of(jobs, "answers", VARIANT))
    assert outdated(tmp_path) == [f"scores {VARIANT}"]


def test_the_file_with_a_jobs_timing_counts_as_made_by_it(jobs, tmp_path):
    timing = Results(tmp_path).timing("answers", VARIANT)
    write(timing)
    assert outdated(tmp_path) == []
    os.utime(timing, (0, 0))
    assert outdated(tmp_path) == [f"answers {VARIANT}"]


def test_what_is_not_finished_is_not_outdated(jobs, tmp_path):
    os.utime(output_of(jobs, "answers", VARIANT))
    output_of(jobs, "scores", VARIANT).unlink()
    assert outdated(tmp_path) == []


def test_the_time_of_a_folder_is_that_of_snakemakes_stamp_within(jobs, tmp_path):
    checkpoint = output_of(jobs, "checkpoints", VARIANT)
    (checkpoint / TIMESTAMP).touch()
    assert outdated(tmp_path) == [f"answers {VARIANT}", "observations demo"]
    os.utime(checkpoint / TIMESTAMP, (0, 0))
    assert outdated(tmp_path) == [f"checkpoints {VARIANT}"]


def test_the_note_is_one_line_that_says_what_to_do(jobs, tmp_path):
    os.utime(output_of(jobs, "answers", VARIANT))
    note = outdated_note(outdated_jobs(STUDY, Results(tmp_path)), "config/demo.yaml")
    assert note.startswith(f"1 finished job is older than what it was made from (first: scores {VARIANT})")
    assert note.endswith("run: stratalaw adopt config/demo.yaml") and "\n" not in note
