"""At its end a run says where the results are, or what failed, and what to do next."""

from pathlib import Path

import pytest

from stratalaw.jobs.ending import lines_of_failure, lines_of_success
from stratalaw.layout import Results
from stratalaw.pipeline import jobs_of
from stratalaw.study import read_study

ARGUMENTS = ["--profile", "profiles/demo"]


@pytest.fixture(scope="module")
def study():
    return read_study(Path("config/demo.yaml"))


def test_an_analysed_study_says_where_it_is_and_how_to_look_at_it(study, tmp_path):
    results = Results(tmp_path)
    for path in results.files_of_study("demo", "summary"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    folder = results.of_study("demo")
    assert lines_of_success(study, "config/demo.yaml", results, ARGUMENTS) == [
        f"demo is analysed: its tables, figures and laws are in {folder}",
        f"To see what came out: stratalaw show {folder}/laws.json",
        f"As one page: snakemake --profile profiles/demo --report {folder}/report.html",
    ]


def test_a_part_of_a_study_says_how_much_is_left(study, tmp_path):
    first, second = lines_of_success(study, "config/demo.yaml", Results(tmp_path), ARGUMENTS)
    assert first == "What was asked for is done: 0 of the 101 jobs of demo are"
    assert second == "To see what is left: stratalaw status config/demo.yaml"


def test_failures_are_named_with_their_cause_their_log_and_how_to_run_them_again(study, tmp_path):
    jobs = [job for job in jobs_of(study, Results(tmp_path)) if job.stage.name == "checkpoints"][:3]
    for job in jobs[:2]:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        job.log.write_text("torch.OutOfMemoryError: CUDA out of memory.\n")
    lines = lines_of_failure("config/demo.yaml", jobs, ARGUMENTS)
    assert lines[0] == "3 jobs failed."
    assert lines[1].startswith("checkpoints: 2 jobs: out of GPU memory: it is retried; ask for a larger GPU")
    assert lines[2] == f"    {jobs[0].name}: torch.OutOfMemoryError: CUDA out of memory. ({jobs[0].log})"
    assert lines[4] == f"    again: snakemake {jobs[0].outputs[0]} {jobs[1].outputs[0]} --profile profiles/demo"
    assert lines[5] == "checkpoints: 1 job: see the log"
    assert lines[-2].endswith(": snakemake --profile profiles/demo")
    assert lines[-1].endswith("stratalaw status config/demo.yaml")


def test_a_target_that_was_asked_for_is_not_named_twice(study, tmp_path):
    (job,) = [job for job in jobs_of(study, Results(tmp_path)) if job.stage.name == "laws"]
    target = str(job.outputs[0])
    lines = lines_of_failure("config/demo.yaml", [job], [target, *ARGUMENTS])
    assert f"    again: snakemake {target} --profile profiles/demo" in lines


def test_of_many_failures_the_first_are_named(study, tmp_path):
    jobs = [job for job in jobs_of(study, Results(tmp_path)) if job.stage.name == "scores"]
    lines = lines_of_failure("config/demo.yaml", jobs, ARGUMENTS)
    assert len(lines) == 10 and lines[-3].endswith(" (and 24 more)")
