"""Running a study of eight variants on a real Slurm; see the script ``slurm`` for how it is started."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stratalaw.failures import classify
from stratalaw.resume import jobs_left_in
from stratalaw.status import SLURM_LOGS
from tests.workflow.conftest import OBSERVATIONS, ROOT, snakemake, write_study

SCRIPT = Path(__file__).parent / "slurm"
STATE = Path("/var/tmp/stratalaw-slurm")
CONFIGURATION = Path("/etc/slurm/slurm.conf")
BITS = (2, 3, 4, 8)
REDONE = "w4-g128-c4-s0"  # the variant that tests of faults make again
SECONDS = 600
# The profile as it is; only the waits are shorter, since everything happens on one machine.
ARGUMENTS = [
    *(str(OBSERVATIONS), "--snakefile", str(ROOT / "Snakefile"), "--profile", str(ROOT / "profiles" / "slurm")),
    *("--config", "study=study.yaml", "warm_worker=true"),
    *("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "5"),
]


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_until(happened: Callable[[], object], what: str, seconds: float = 120) -> object:
    """Wait for something to be true; returns what it was."""
    give_up = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < give_up, f"not seen within {seconds} s: {what}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="session", autouse=True)
def real_slurm() -> None:
    """The Slurm of the script beside this file, or no test."""
    if not (CONFIGURATION.exists() and "stratalaw" in CONFIGURATION.read_text()):
        pytest.skip("no Slurm for tests: `make test-cluster` starts one (as root, on Debian)")


class Run:
    """A run of the workflow in a folder of its own, whose jobs Slurm does."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder = folder
        self.log = folder / "snakemake.log"
        with self.log.open("w") as log:
            self.head = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *ARGUMENTS, *arguments], cwd=folder, stdout=log, stderr=log
            )

    def job(self, rule: str, wildcards: str = "") -> str:
        """Slurm's number of a running job of a rule, whose wildcards begin so."""
        comment = f"rule_{rule}_wildcards_{wildcards}"

        def running() -> str:
            for line in slurm("squeue", "--me", "--states=running", "--noheader", "--format=%i|%k|%Z").splitlines():
                job, what, place = line.split("|")
                if what.startswith(comment) and Path(place) == self.folder:
                    return job
            return ""

        return wait_until(running, f"a running job {comment}; {self.log}")

    def script_of(self, job: str) -> int:
        """The process of a job's script, once it runs."""

        def running() -> int:
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    of_job = f"SLURM_JOB_ID={job}".encode() in (process / "environ").read_bytes().split(b"\0")
                    words = (process / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if of_job and len(words) > 1 and b"/.snakemake/scripts/" in words[1]:
                    return int(process.name)
            return 0

        return wait_until(running, f"the script of job {job}; {self.log}")

    def cause_of(self, job: str) -> str:
        """Why a job failed, as `stratalaw status` reads it from Slurm's log."""
        (log,) = (self.folder / SLURM_LOGS).rglob(f"{job}.log")
        return classify(log.read_text()).cause.name

    def wait(self) -> str:
        """Wait for the end, which must be good; returns the log."""
        status = self.head.wait(SECONDS)
        text = self.log.read_text()
        assert status == 0, text
        return text


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts runs; whatever of them is left after the test is ended."""
    runs = []

    def start(folder: Path, *arguments: str) -> Run:
        runs.append(Run(folder, *arguments))
        return runs[-1]

    yield start
    for run in runs:
        run.head.kill()
        run.head.wait()
        if jobs := jobs_left_in(run.folder):
            slurm("scancel", *jobs)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, worker_id) -> Path:
    """The folder of a run on this machine alone, without Slurm; the processes of pytest-xdist share it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "undisturbed"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            write_study(folder, BITS)
            made = snakemake(folder, str(OBSERVATIONS))
            assert made.returncode == 0, made.stderr
    assert (folder / OBSERVATIONS).exists(), "the run without Slurm failed; see the other tests"
    return folder


@pytest.fixture
def to_redo(undisturbed, tmp_path) -> Path:
    """A folder in which everything is done but one variant of each model and what rests on it."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder, symlinks=True)
    for path in folder.glob(f"results/*/*/{REDONE}"):
        shutil.rmtree(path)
    shutil.rmtree(folder / "results" / "studies")
    return folder


def assert_nothing_is_lost(folder: Path, undisturbed: Path) -> None:
    """The observations are those of the undisturbed run, to the byte, and no half-written file is left."""
    assert (folder / OBSERVATIONS).read_bytes() == (undisturbed / OBSERVATIONS).read_bytes()
    assert [path for path in (folder / "results").rglob(".*") if path.name != ".snakemake_timestamp"] == []


def is_alive(process: int) -> bool:
    """Whether a process exists and has not ended; its parent may not have noticed yet."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def kill_node(job: str) -> str:
    """Kill everything on the node of a job, as a power cut would; returns the node."""
    node = slurm("squeue", "--noheader", f"--jobs={job}", "--format=%N")
    on_node = slurm("squeue", "--noheader", f"--nodelist={node}", "--states=running", "--format=%i").splitlines()
    doomed = [int((STATE / f"slurmd-{node}.pid").read_text())]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            environment = (process / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        of_job = any(f"SLURM_JOB_ID={number}".encode() in environment for number in on_node)
        if of_job or any(command.startswith(f"slurmstepd: [{number}.") for number in on_node):
            doomed.append(int(process.name))
    for process in doomed:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return node
