"""Processes that stay perform the jobs of a place one after another, each as a fresh process would."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from stratalaw.jobs.call import FINISHED, Call
from stratalaw.jobs.lease import VISIBLE_DEVICES, Gpus, give_back, lease
from stratalaw.jobs.places import ask_resident
from stratalaw.jobs.run import run
from stratalaw.jobs.sockets import LONGEST_ADDRESS, address
from tests.jobs.test_worker import wait_until


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder for sockets, locks and logs, whose path is short enough for a socket; its hosts end with it."""
    with tempfile.TemporaryDirectory(prefix="places", dir="/tmp") as name:
        monkeypatch.setattr(tempfile, "tempdir", name)
        monkeypatch.setenv(VISIBLE_DEVICES, "4,5")
        yield Path(name)
        kill(name)


def kill(word: str) -> None:
    """Kill all processes that have a word in their command line."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            if word.encode() in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def gpus(folder):
    return Gpus.visible(folder, 2)


def shell(log: Path, command: str, function: str = "subprocess:check_call") -> Call:
    return Call(function, str(log), {"args": ["bash", "-c", command]})


def said(gpus: Gpus | None, command: str, function: str = "subprocess:check_call") -> str:
    """What a command says that is run as a job."""
    log = Path(tempfile.mkdtemp()) / "job.log"
    assert ask_resident(shell(log, command, function), gpus) is None
    *lines, last = log.read_text().splitlines()
    assert last == FINISHED
    return "\n".join(lines)


def test_a_process_stays_for_the_jobs_of_its_function(gpus):
    first = said(gpus, "echo $PPID")
    assert said(gpus, "echo $PPID") == first != str(os.getpid())
    assert said(gpus, "echo $PPID", "subprocess:run") != first, "what another one has loaded does not reach it"
    assert said(None, "echo $PPID") != first, "a job without a GPU does not hold one"


def test_a_job_has_the_callers_folder_and_environment_as_they_are_now(gpus, folder, monkeypatch):
    look = f"pwd; echo $COLOUR ${VISIBLE_DEVICES}; echo $PPID"
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLOUR", "green")
    first = said(gpus, look).splitlines()
    monkeypatch.setenv("COLOUR", "red")
    second = said(gpus, look).splitlines()
    assert (first[:2], second[:2]) == ([str(folder), "green 4"], [str(folder), "red 4"])
    assert first[2] != second[2]


def test_no_job_meets_what_a_failed_one_left_behind(gpus, folder):
    before = said(gpus, "echo $PPID")
    assert "exit status 3" in ask_resident(shell(folder / "log", "exit 3"), gpus)
    assert said(gpus, "echo $PPID") != before


def test_a_killed_process_is_an_error_of_its_job_alone(gpus, folder):
    said_of_it = ask_resident(shell(folder / "log", "kill -9 $PPID"), gpus)
    assert said_of_it == f"the job's process was killed; out of memory? (details: {folder}/log)"
    assert said(gpus, "echo fine") == "fine"


def test_jobs_at_once_have_places_of_their_own(gpus):
    with ThreadPoolExecutor(2) as pool:
        commands = [f"echo ${VISIBLE_DEVICES}; sleep 1"] * 2
        assert sorted(pool.map(lambda command: said(gpus, command), commands)) == ["4", "5"]
    shared = Gpus(gpus.folder, {"6": "6"}, jobs_per_gpu=2)
    with ThreadPoolExecutor(2) as pool:
        commands = [f"echo ${VISIBLE_DEVICES} $PPID; sleep 1"] * 2
        first, second = pool.map(lambda command: said(shared, command).split(), commands)
    assert first[0] == second[0] == "6" and first[1] != second[1]


def test_a_job_dies_with_its_caller_and_its_place_is_free(folder):
    log = folder / "log"
    code = (
        "from pathlib import Path; from stratalaw.jobs.call import Call; from stratalaw.jobs.lease import Gpus; "
        "from stratalaw.jobs.places import ask_resident; "
        f"ask_resident({shell(log, 'echo $PPID; exec sleep 60')!r}, Gpus.visible(Path({str(folder)!r}), 1))"
    )
    caller = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(folder)})
    assert wait_until(lambda: log.exists() and log.read_text().strip())
    process = int(log.read_text())
    caller.kill()
    caller.wait()
    assert wait_until(lambda: not Path(f"/proc/{process}").exists())
    assert "terminated" in log.read_text()
    assert said(Gpus.visible(folder, 1), f"echo ${VISIBLE_DEVICES}") == "4"


def test_a_host_holds_its_gpu_until_it_is_idle(gpus, folder):
    assert said(gpus, "true") == ""
    assert lease(gpus, "4", 0) is None
    socket = address("place 0 of 1 on 4")
    kill(str(socket))
    assert wait_until(lambda: (locks := lease(gpus, "4", 0)) is not None and not give_back(locks))
    environment = os.environ | {"TMPDIR": str(folder)}
    code = f"from pathlib import Path; from stratalaw.jobs.resident import serve; serve(Path({str(socket)!r}), 0.1)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=60)
    assert not socket.exists()


def use_memory(megabytes: int) -> None:
    """Print the peak of this process, in megabytes, after so many were used."""
    used = b" " * (megabytes << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, len(used))


def test_peaks_of_memory_are_those_of_the_job(gpus, folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    def peak(megabytes: int) -> int:
        log = folder / "log"
        call = Call("tests.jobs.test_places:use_memory", str(log), {"megabytes": megabytes})
        assert ask_resident(call, gpus) is None
        return int(log.read_text().split()[0])

    assert peak(400) > 400 > peak(1)


def test_where_no_process_can_stay_the_job_is_performed_here(tmp_path, folder, monkeypatch, capfd):
    too_long = folder / ("d" * LONGEST_ADDRESS)
    too_long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(too_long))
    monkeypatch.setattr("stratalaw.jobs.lease.FOLDERS_OF_ALL", (folder,))
    folder.chmod(0o1777)
    config = {"gpus": 1, "jobs_per_gpu": 1, "warm_worker": True}
    job = SimpleNamespace(log=[tmp_path / "log"], config=config, resources={"gpu": 1})
    run(job, "subprocess:run", args=["bash", "-c", f"echo $PPID ${VISIBLE_DEVICES}"], check=True)
    assert (tmp_path / "log").read_text().splitlines()[0] == f"{os.getpid()} 4"
    assert "in its own process" in capfd.readouterr().err
