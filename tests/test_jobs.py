"""A job's output goes to its log, and its error is one line."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

import stratalaw
from stratalaw.jobs import Call, export_library, perform, run


def shell(tmp_path, command: str) -> Call:
    """A call that runs a command; its output does not pass through Python."""
    return Call("subprocess:run", str(tmp_path / "logs" / "job.log"), {"args": ["bash", "-c", command], "check": True})


def test_output_goes_to_the_log(tmp_path, capfd):
    assert perform(shell(tmp_path, "echo out; echo err >&2")) is None
    assert (tmp_path / "logs" / "job.log").read_text() == "out\nerr\n"
    assert capfd.readouterr() == ("", "")


def test_an_error_is_one_line_and_its_traceback_is_in_the_log(tmp_path):
    message = perform(shell(tmp_path, "exit 3"))
    assert "returned non-zero exit status 3" in message and "\n" not in message
    assert message.endswith(f"(details: {tmp_path}/logs/job.log)")
    assert "Traceback" in (tmp_path / "logs" / "job.log").read_text()


def test_a_job_that_fails_exits_with_its_line(tmp_path):
    job = SimpleNamespace(log=[tmp_path / "job.log"], config={})
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
