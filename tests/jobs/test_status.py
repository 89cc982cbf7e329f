"""Status counts what is there, says why the rest failed, and extrapolates from what was measured."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from stratalaw.errors import StratalawError
from stratalaw.jobs.call import FINISHED
from stratalaw.jobs.status import failure_of, failures_table, status_of, time_left
from stratalaw.layout import Results
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.pipeline import jobs_of
from stratalaw.quantization.unquantizable import record_unquantizable
from stratalaw.study import Study, read_study
from stratalaw.terminal.status import sentence_of
from tests.jobs.test_worker import wait_until

ROOT = Path(__file__).parents[2]
MODELS = ("q3", "q5", "q6")


@pytest.fixture
def study(tmp_path):
    content = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())
    for model in content["models"]:
        model["source"] = str(ROOT / model["source"])
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    return read_study(tmp_path / "study.yaml")


def finish(job, at: float = 0) -> None:
    for output in job.outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.touch()
        os.utime(output, (at, at))


def stage(study, folder, name):
    return next(status for status in status_of(study, Results(folder)) if status.stage.name == name)


def checkpoint_jobs(study, folder):
    return [job for job in jobs_of(study, Results(folder)) if job.stage.name == "checkpoints"]


def test_the_jobs_are_those_of_the_workflow(study, tmp_path):
    counts = {status.stage.name: status.remaining for status in status_of(study, Results(tmp_path))}
    assert counts == {
        **{"models": 3, "calibration": 3, "requests": 3, "checkpoints": 26, "answers": 29, "scores": 29},
        **{"observations": 1, "coverage": 1, "damage": 1, "laws": 1, "figures": 1, "tables": 1},
        **{"explorer": 1, "summary": 1},
    }


def test_a_mixed_variant_is_quantized_here_after_its_own_draw(study, tmp_path):
    allocation = {"bits": 3, "group_size": 64, "matrices": {"model.layers.0.mlp.down_proj": {"bits": 4}}}
    content = study.as_plain()
    content["models"][0]["mixed"] = [{"allocation": allocation, "calibration_size": [8], "calibration_seed": [7]}]
    results, jobs = Results(tmp_path), jobs_of(Study(**content), Results(tmp_path))
    (job,) = [job for job in jobs if job.stage.name == "checkpoints" and "mixed" in job.variant]
    assert {jobs[place].outputs for place in job.after} == {(results.model("q3"),), (results.calibration("q3", "s7"),)}
    assert job.outputs == (results.weights("q3", job.variant),)


def test_done_failed_and_remaining_are_told_apart(study, tmp_path):
    jobs = checkpoint_jobs(study, tmp_path)
    finish(jobs[0])
    jobs[1].log.parent.mkdir(parents=True)
    jobs[1].log.write_text("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n")
    jobs[2].log.write_text("INFO layer 3\n")  # and then it was killed
    jobs[3].log.write_text(f"INFO layer 3\n{FINISHED}\n")  # and then what it made was removed
    status = stage(study, tmp_path, "checkpoints")
    assert (status.done, len(status.failed), status.remaining) == (1, 2, 23)
    assert [(failure.cause.name, failure.line) for _, failure in status.failed] == [
        ("out of GPU memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("ended early", "INFO layer 3"),
    ]


@pytest.mark.parametrize(
    ("call", "cause"),
    [
        ("'subprocess:run', log, {'args': ['bash', '-c', 'kill -9 $PPID']}", "ended early"),
        ("'subprocess:run', log, {'args': ['bash', '-c', 'kill -7 $PPID']}", "crash"),
        ("'subprocess:run', log, {'args': ['bash', '-c', 'kill -11 $PPID']}", "crash"),
        ("'subprocess:run', log, {'args': ['bash', '-c', 'kill -15 $PPID']}", "cancelled"),
        ("'os:abort', log", "crash"),
        ("'os:_exit', log, {'status': 3}", "ended early"),
        ("'sys:exit', log", "ended early"),
    ],
)
def test_a_job_that_ended_without_its_output_has_failed_however_it_ended(study, tmp_path, call, cause):
    job = checkpoint_jobs(study, tmp_path)[0]
    code = f"from stratalaw.jobs.call import *; log = {str(job.log)!r}; perform(Call({call}))"
    subprocess.run([sys.executable, "-c", code], check=False)
    # The shell that killed it holds its log for a moment longer.
    assert wait_until(lambda: stage(study, tmp_path, "checkpoints").failed)
    status = stage(study, tmp_path, "checkpoints")
    assert [failure.cause.name for _, failure in status.failed] == [cause]
    assert status.remaining == 25


def test_a_job_that_ended_before_it_printed_anything_has_failed(study, tmp_path):
    job = checkpoint_jobs(study, tmp_path)[0]
    assert failure_of(job) is None
    job.log.parent.mkdir(parents=True)
    job.log.touch()
    assert failure_of(job).line.startswith("its log is empty")


def test_where_nobody_can_say_whether_a_job_runs_it_has_not_failed(study, tmp_path, monkeypatch):
    def without_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    job = checkpoint_jobs(study, tmp_path)[0]
    job.log.parent.mkdir(parents=True)
    job.log.write_text("INFO layer 3\n")
    assert failure_of(job).cause.name == "ended early"
    monkeypatch.setattr(fcntl, "flock", without_locks)
    assert failure_of(job) is None


def test_a_log_that_may_not_be_read_is_named(study, tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    job = checkpoint_jobs(study, tmp_path)[0]
    job.log.parent.mkdir(parents=True)
    job.log.touch()
    monkeypatch.setattr(Path, "read_text", refuse)
    failure = failure_of(job)
    assert (failure.cause.name, failure.line) == ("permission denied", f"{job.log}: Permission denied")


def test_a_job_runs_as_long_as_its_process_lives_whatever_came_of_it_before(study, tmp_path):
    def counts() -> tuple[int, int, int]:
        status = stage(study, tmp_path, "checkpoints")
        return status.running, len(status.failed), status.remaining

    job = checkpoint_jobs(study, tmp_path)[0]
    job.slurm_logs.mkdir(parents=True)
    (job.slurm_logs / "9.log").write_text(
        "slurmstepd: error: *** JOB 9 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***\n"
    )
    assert counts() == (0, 1, 25)
    waits = f"from stratalaw.jobs.call import *; perform(Call('builtins:input', {str(job.log)!r}))"
    with subprocess.Popen([sys.executable, "-c", waits], stdin=subprocess.PIPE) as process:
        give_up = time.monotonic() + 60
        while counts() != (1, 0, 25):
            assert time.monotonic() < give_up
            time.sleep(0.1)
        process.kill()
    assert counts() == (0, 1, 25)


def test_a_variant_that_cannot_be_quantized_has_failed_though_its_job_is_done(study, tmp_path):
    job = checkpoint_jobs(study, tmp_path)[0]
    record_unquantizable(job.outputs[0], RuntimeError("layer 0.down: its Hessian cannot be inverted"))
    status = stage(study, tmp_path, "checkpoints")
    assert (status.done, len(status.failed), status.remaining) == (0, 1, 25)
    (failure,) = failures_table([status]).itertuples()
    assert (failure.job, failure.cause) == (job.name, "uninvertible Hessian")
    assert failure.line == "layer 0.down: its Hessian cannot be inverted"


def test_the_newest_log_of_slurm_counts(study, tmp_path):
    job = checkpoint_jobs(study, tmp_path)[0]
    logs = tmp_path / "logs" / "slurm" / "rule_checkpoints" / "q3_w2-g128-c32-s0"
    logs.mkdir(parents=True)
    (logs / "9.log").write_text("slurmstepd: error: *** JOB 9 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***\n")
    os.utime(logs / "9.log", (1, 1))
    assert failure_of(job).cause.name == "time limit"
    (logs / "10.log").write_text("Execute 1 jobs...\n")
    assert failure_of(job) is None


def test_the_time_left_follows_from_sizes_and_rates(study, tmp_path):
    jobs = checkpoint_jobs(study, tmp_path)
    assert stage(study, tmp_path, "checkpoints").seconds_left is None
    of_model = {name: [job for job in jobs if job.model == name] for name in MODELS}
    for i, job in enumerate(of_model["q3"]):
        finish(job, at=1000 + 10 * i)
    size = {model.name: shapes_of_weights(Path(model.source)).n_params for model in study.models}
    expected = 10 / size["q3"] * (10 * size["q5"] + 6 * size["q6"])
    assert stage(study, tmp_path, "checkpoints").seconds_left == pytest.approx(expected)


def test_a_pause_is_not_taken_for_work(study, tmp_path):
    jobs = [job for job in checkpoint_jobs(study, tmp_path) if job.model == "q3"]
    finish(jobs[0], at=0)
    for i, job in enumerate(jobs[1:]):
        finish(job, at=100_000 + 10 * i)
    left = stage(study, tmp_path, "checkpoints").seconds_left
    assert left < 10 * 26 * 20


def test_the_time_left_is_a_range_that_holds_stages_of_which_nothing_is_done(study, tmp_path):
    jobs = [job for job in checkpoint_jobs(study, tmp_path) if job.model == "q3"]
    for i, job in enumerate(jobs):
        finish(job, at=1000 + 10 * i)
    statuses = status_of(study, Results(tmp_path))
    left = time_left(study, "study.yaml", statuses, Results(tmp_path))
    rated = stage(study, tmp_path, "checkpoints").seconds_left
    assert left.least == pytest.approx(rated) and left.most > rated + 42 and not left.unknown
    assert left.assumed == tuple(status.stage.name for status in statuses if status.stage.name != "checkpoints")
    words = sentence_of(left)
    assert " to " in words and "left" in words and "most" not in words and "by the cost model where too little" in words


def test_where_nobody_knows_the_time_there_is_no_upper_end(study, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise StratalawError("no shapes")

    monkeypatch.setattr("stratalaw.jobs.status.expectation", refuse)
    left = time_left(study, "study.yaml", status_of(study, Results(tmp_path)), Results(tmp_path))
    assert left.most is None and sentence_of(left).startswith("More than 0:00:00 left; too little is done of models, ")


def test_of_a_finished_study_nothing_is_left(study, tmp_path):
    for job in jobs_of(study, Results(tmp_path)):
        finish(job)
    left = time_left(study, "study.yaml", status_of(study, Results(tmp_path)), Results(tmp_path))
    assert sentence_of(left) == "Nothing is left."
