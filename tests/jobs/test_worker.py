"""Calls in forks of a warm worker do what they would do here."""

import os
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from stratalaw.jobs.call import Call
from stratalaw.jobs.worker import address, ask_worker


@pytest.fixture(scope="module", autouse=True)
def own_worker(tmp_path_factory):
    """A worker of these tests alone, which ends with them."""
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("worker"))
    yield
    subprocess.run(["pkill", "--full", "--exact", f"{sys.executable} -P -m stratalaw.jobs.worker"], check=False)
    tempfile.tempdir, former = before
    os.environ.pop("TMPDIR") if former is None else os.environ.update(TMPDIR=former)


def shell(log, command: str) -> Call:
    return Call("subprocess:run", str(log), {"args": ["bash", "-c", command], "check": True})


def wait_until(condition, seconds: float = 20) -> bool:
    give_up = time.monotonic() + seconds
    while not condition() and time.monotonic() < give_up:
        time.sleep(0.05)
    return condition()


def test_a_call_has_the_callers_folder_and_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "green")
    assert ask_worker(shell("job.log", "pwd; echo $COLOUR; echo $PPID")) is None
    folder, colour, process = (tmp_path / "job.log").read_text().splitlines()[:3]
    assert (folder, colour) == (str(tmp_path), "green")
    assert int(process) != os.getpid()


def test_an_error_comes_back_as_one_line(tmp_path):
    assert "exit status 3" in ask_worker(shell(tmp_path / "log", "exit 3"))


def test_a_killed_fork_is_an_error(tmp_path):
    message = ask_worker(shell(tmp_path / "log", "kill -9 $PPID"))
    assert message == f"the job's process was killed; out of memory? (details: {tmp_path}/log)"


def test_a_fork_dies_with_its_caller(tmp_path):
    code = (
        "from stratalaw.jobs.call import Call; from stratalaw.jobs.worker import ask_worker; "
        f"ask_worker(Call('subprocess:run', {str(tmp_path / 'log')!r}, "
        "{'args': ['bash', '-c', 'echo $PPID; sleep 60'], 'check': True}))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code])
    log = tmp_path / "log"
    assert wait_until(lambda: log.exists() and log.read_text().strip())
    fork = int(log.read_text())
    os.kill(fork, 0)
    caller.send_signal(signal.SIGKILL)
    caller.wait()
    assert wait_until(lambda: not os.path.exists(f"/proc/{fork}"))  # noqa: PTH110


def test_without_a_worker_the_call_is_performed_here(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert ask_worker(shell(tmp_path / "log", "echo $PPID")) is None
    assert int((tmp_path / "log").read_text().splitlines()[0]) == os.getpid()


def test_an_idle_worker_ends_and_takes_its_socket_along(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", "from stratalaw.jobs.worker import serve; serve(idle_seconds=0.1)"]
    subprocess.run(command, env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*.socket")) == []


def test_the_sockets_folder_is_the_users_own():
    assert address().parent.stat().st_mode & 0o777 == 0o700
