"""A job's output goes to its log, and its error is one line."""

import fcntl
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

import stratalaw
from stratalaw.jobs.call import FINISHED, STOPPED, Call, is_written, perform
from stratalaw.jobs.run import export_library, run


def shell(tmp_path, command: str) -> Call:
    """A call that runs a command; its output does not pass through Python."""
    return Call("subprocess:run", str(tmp_path / "logs" / "job.log"), {"args": ["bash", "-c", command], "check": True})


def test_output_goes_to_the_log(tmp_path, capfd):
    assert perform(shell(tmp_path, "echo out; echo err >&2")) is None
    assert (tmp_path / "logs" / "job.log").read_text() == f"out\nerr\n{FINISHED}\n"
    assert capfd.readouterr() == ("", "")


def test_an_error_is_one_line_and_its_traceback_is_in_the_log(tmp_path):
    message = perform(shell(tmp_path, "exit 3"))
    assert "returned non-zero exit status 3" in message and "\n" not in message
    assert message.endswith(f"(details: {tmp_path}/logs/job.log)")
    assert "Traceback" in (tmp_path / "logs" / "job.log").read_text()


def test_a_job_that_fails_exits_with_its_line(tmp_path):
    job = SimpleNamespace(log=[tmp_path / "job.log"], config={"gpus": None, "warm_worker": False})
    with pytest.raises(SystemExit) as stopped:
        run(job, "pathlib:Path.cwd.nothing")
    assert "Path.cwd.nothing" in stopped.value.code


def test_jobs_of_another_environment_find_the_library(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    export_library()
    # Isolated from installed packages, as an environment that does not hold the library is.
    command = [sys.executable, "-S", "-c", "import stratalaw; print(stratalaw.__file__)"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    assert result.stdout.strip() == stratalaw.__file__


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGSEGV, "Fatal Python error: Segmentation fault"),
        (signal.SIGABRT, "Fatal Python error: Aborted"),
        (signal.SIGTERM, STOPPED),
    ],
)
def test_how_a_job_ended_is_in_its_log(tmp_path, number, said):
    call = shell(tmp_path, f"kill -{int(number)} $PPID")
    code = f"from stratalaw.jobs.call import *; perform({call!r})"
    assert subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL, check=False).returncode
    log = Path(call.log).read_text()
    assert said in log and FINISHED not in log


def test_a_log_that_cannot_be_written_is_one_line(tmp_path):
    log = tmp_path / "job.log"
    log.mkdir()
    assert perform(Call("pathlib:Path.cwd", str(log))) == f"{log}: the job's log cannot be written: Is a directory"


@contextmanager
def waiting_job(log: Path, flock: str = "fcntl.flock") -> Iterator[None]:
    """A job in a process of its own, whose log is locked by the function that ``flock`` names."""
    code = f"import fcntl; fcntl.flock = {flock}; from stratalaw.jobs.call import *; "
    code += f"perform(Call('code:interact', {str(log)!r}, {{'banner': 'started'}}))"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        try:
            give_up = time.monotonic() + 60
            while not log.exists() or not log.read_text():
                assert time.monotonic() < give_up
                time.sleep(0.02)
            yield
        finally:
            process.kill()


def test_a_log_is_written_as_long_as_its_job_lives(tmp_path):
    log = tmp_path / "job.log"
    assert not is_written(log), "there is none"
    with waiting_job(log):
        assert is_written(log)
        assert log.read_text().startswith("started"), "looking does not change it"
    assert not is_written(log)


def test_a_running_job_is_seen_on_nfs(tmp_path, monkeypatch):
    # NFS makes flock a lock of POSIX, which wants files that are opened for what the lock is for.
    monkeypatch.setattr(fcntl, "flock", fcntl.lockf)
    with waiting_job(tmp_path / "job.log", "fcntl.lockf"):
        assert is_written(tmp_path / "job.log")
    assert not is_written(tmp_path / "job.log")


def test_a_running_job_is_seen_by_those_who_may_only_read_its_log(tmp_path):
    class ReadOnly(type(tmp_path)):
        def open(self, mode="r", **options):
            if mode != "r":
                raise PermissionError
            return super().open(mode, **options)

    with waiting_job(tmp_path / "job.log"):
        assert is_written(ReadOnly(tmp_path / "job.log"))
