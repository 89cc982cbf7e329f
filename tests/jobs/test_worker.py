"""Calls in forks of a warm worker do what they would do here."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from stratalaw.jobs.call import Call
from stratalaw.jobs.sockets import LONGEST_ADDRESS, address
from stratalaw.jobs.worker import ask_worker

NOBODY = 65534
needs_another_user = pytest.mark.skipif(os.geteuid() != 0, reason="taking the part of another user needs root")


@pytest.fixture(scope="module", autouse=True)
def own_worker(tmp_path_factory):
    """A worker of these tests alone, which ends with them."""
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("worker"))
    yield
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile, or not ours
            is_worker = b"stratalaw.jobs.worker" in (process / "cmdline").read_bytes()
            if is_worker and f"TMPDIR={tempfile.tempdir}\0".encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGTERM)
    tempfile.tempdir, former = before
    os.environ.pop("TMPDIR") if former is None else os.environ.update(TMPDIR=former)


@pytest.fixture
def tmp_path():
    """A folder whose path is short enough for a socket, as that of a process of pytest-xdist is not."""
    with tempfile.TemporaryDirectory(prefix="worker", dir="/tmp") as folder:
        yield Path(folder)


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


def without_libraries(idle_seconds: float) -> list[str]:
    """The command of a worker that starts at once."""
    code = f"from stratalaw.jobs import worker; worker.PRELOADED = (); worker.serve({idle_seconds})"
    return [sys.executable, "-c", code]


def test_an_idle_worker_ends_and_takes_its_socket_along(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run(without_libraries(0.1), env=environment, check=True, timeout=120)
    assert list(tmp_path.rglob("*.socket")) == []


def test_when_slurm_ends_a_job_with_its_worker_those_of_other_jobs_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    workers = []
    for job in ("1", "2"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        workers.append(subprocess.Popen(without_libraries(60), env=environment, start_new_session=True))
        assert wait_until(address().exists)
    log = tmp_path / "log"
    with ThreadPoolExecutor(1) as call:
        answer = call.submit(ask_worker, shell(log, f"echo begun; until [ -e {tmp_path}/ended ]; do sleep 0.1; done"))
        assert wait_until(lambda: log.exists() and "begun" in log.read_text())
        os.killpg(workers[0].pid, signal.SIGTERM)
        workers[0].wait()
        (tmp_path / "ended").touch()
        assert answer.result() is None
    workers[1].terminate()
    workers[1].wait()


def test_the_socket_and_its_folder_are_the_users_own(tmp_path):
    assert ask_worker(shell(tmp_path / "log", "true")) is None
    assert address().stat().st_mode & 0o777 == 0o600
    assert address().parent.stat().st_mode & 0o777 == 0o700


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """A temporary folder that others may write, and what somebody may have prepared in it: the worker's folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"stratalaw-{os.geteuid()}"


def link(folder):
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def writable_by_a_group(folder):
    folder.mkdir()
    folder.chmod(0o770)


def of_another_user(folder):
    folder.mkdir(mode=0o700)
    os.chown(folder, NOBODY, NOBODY)


def file(folder):
    folder.touch(mode=0o700)


@pytest.mark.parametrize(
    "prepare", [link, writable_by_a_group, file, pytest.param(of_another_user, marks=needs_another_user)]
)
def test_a_folder_that_somebody_prepared_is_not_entered(shared, tmp_path, prepare, capfd):
    prepare(shared)
    with pytest.raises(OSError, match=str(shared)):
        address()
    assert ask_worker(shell(tmp_path / "log", "echo $PPID")) is None
    assert int((tmp_path / "log").read_text().splitlines()[0]) == os.getpid(), "performed here"
    assert "without a warm worker" in capfd.readouterr().err
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".socket", ".lock")]


def test_links_in_the_folder_are_not_followed(shared, tmp_path):
    shared.mkdir(mode=0o700)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    address().with_suffix(".lock").symlink_to(precious)
    assert ask_worker(shell(tmp_path / "log", "true")) is None
    assert precious.read_text() == "mine"


def test_where_the_path_is_too_long_for_a_socket_the_call_is_performed_here_at_once(tmp_path, monkeypatch):
    folder = tmp_path / ("d" * LONGEST_ADDRESS)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(subprocess, "Popen", None)  # nothing is started
    assert ask_worker(Call("builtins:print", str(tmp_path / "log"))) is None


PRETENDER = """
import os, socket, sys
from multiprocessing.connection import Connection
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
os.setuid(65534)
server.listen()
print("listens", flush=True)
connection = Connection(server.accept()[0].detach())
connection.send("started")
connection.send("an answer of another user")
input()
"""
INTRUDER = """
import os, socket, sys
from multiprocessing.connection import Connection
os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
connection = Connection(client.detach())
try:
    connection.send(("a call", "/", {}))
    connection.recv()
except (EOFError, OSError):
    print("refused")
"""


@needs_another_user
def test_a_worker_of_another_user_is_not_asked(shared, tmp_path):
    shared.mkdir(mode=0o700)
    command = [sys.executable, "-c", PRETENDER, str(address())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as pretender:
        assert pretender.stdout.readline() == "listens\n"
        assert ask_worker(shell(tmp_path / "log", "echo $PPID")) is None
        pretender.kill()
    assert int((tmp_path / "log").read_text().splitlines()[0]) == os.getpid()


@needs_another_user
def test_a_caller_of_another_user_is_not_answered(tmp_path):
    assert ask_worker(shell(tmp_path / "log", "true")) is None
    # A copy of the name in a folder that all may enter, as if the modes had not been kept.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        door = Path(folder) / "door"
        door.hardlink_to(address())
        door.chmod(0o666)
        ran = subprocess.run([sys.executable, "-c", INTRUDER, str(door)], capture_output=True, text=True, check=False)
        door.chmod(0o600)
    assert ran.stdout == "refused\n", ran.stderr
    assert ask_worker(shell(tmp_path / "log", "true")) is None, "others are served as before"
