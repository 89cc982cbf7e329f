"""Running a study of two variants on a real Slurm; see the script ``slurm`` for how it is started."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from stratalaw.jobs.failures import classify
from stratalaw.jobs.resume import JOB_NAME_PREFIX, jobs_left_in
from stratalaw.layout import Results
from tests.workflow.conftest import OBSERVATIONS, ROOT, snakemake, write_study

SCRIPT = Path(__file__).parent / "slurm"
STATE = Path("/var/tmp/stratalaw-slurm")
CONFIGURATION = Path("/etc/slurm/slurm.conf")
REDONE = "w4-g128-c4-s0"  # the variant that most tests of faults make again
SECONDS = 1200  # for a whole run, on cores that are busy with other tests
# The profile as it is; only the waits are shorter, since everything happens on one machine.
PACKS = [
    *("--profile", str(ROOT / "profiles" / "slurm")),
    *("--slurm-packs-init-seconds-before-status-checks", "3", "--latency-wait", "5"),
]
# Each job by itself, as those that are long or retried.
PROFILE = [
    *(*PACKS, "--executor", "slurm", "--slurm-logdir", str(Results().slurm_logs)),
    *("--slurm-jobname-prefix", JOB_NAME_PREFIX, "--slurm-status-command", "squeue"),
    *("--slurm-init-seconds-before-status-checks", "3"),
]
ARGUMENTS = [str(OBSERVATIONS), "--snakefile", str(ROOT / "Snakefile"), *PROFILE, "--configfile", "study.yaml"]
STUB_FOLDER = Path(__file__).parent / "stub"
OF_STUB = ["--snakefile", str(STUB_FOLDER / "Snakefile"), "--configfile", str(STUB_FOLDER / "config.yaml")]
STUB = [*OF_STUB, *PROFILE, "--config"]


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def wait_until(happened: Callable[[], object], what: str, seconds: float = 300) -> object:
    """Wait for something to be true; returns what it was."""
    give_up = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < give_up, f"not seen within {seconds} s: {what}"
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class Process:
    """A process of this machine: its number, command, working directory, and the job of Slurm that it belongs to."""

    number: int
    words: list[str]
    folder: Path
    slurm_job: str


def processes() -> Iterator[Process]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
            folder = (entry / "cwd").resolve(strict=True)
            environment = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # ended meanwhile
            continue
        jobs = [value.removeprefix("SLURM_JOB_ID=") for value in environment if value.startswith("SLURM_JOB_ID=")]
        yield Process(int(entry.name), words, folder, jobs[0] if jobs else "")


@pytest.fixture(scope="session", autouse=True)
def real_slurm() -> None:
    """The Slurm of the script beside this file, or no test."""
    if not (CONFIGURATION.exists() and "stratalaw" in CONFIGURATION.read_text()):
        pytest.skip("no Slurm for tests: `make test-cluster` starts one (as root, on Debian)")


def write_small_study(folder: Path) -> None:
    """A study of two variants and their original: on a cluster each job starts three processes of Python."""
    write_study(folder, (2, 4), ["q1"])


class Run:
    """A run of a workflow in a folder of its own, whose jobs Slurm does."""

    def __init__(self, folder: Path, *arguments: str, of: Sequence[str] = ARGUMENTS) -> None:
        self.folder = folder
        self.log = folder / "snakemake.log"
        with self.log.open("w") as log:
            self.head = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *of, *arguments], cwd=folder, stdout=log, stderr=log
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
            scripts = (process for process in processes() if "/.snakemake/scripts/" in "".join(process.words[1:2]))
            return next((process.number for process in scripts if process.slurm_job == job), 0)

        return wait_until(running, f"the script of job {job}; {self.log}")

    def workers(self) -> list[Process]:
        """All processes that work for the run's jobs: Slurm's script, snakemake, srun, and what it starts."""
        return [process for process in processes() if process.folder == self.folder and process.slurm_job]

    def cause_of(self, job: str) -> str:
        """Why a job failed, as `stratalaw status` reads it from Slurm's log."""
        (log,) = (self.folder / Results().slurm_logs).rglob(f"{job}.log")
        return classify(log.read_text()).cause.name

    def wait(self, seconds: float = SECONDS) -> str:
        """Wait for the end, which must be good; returns the log."""
        status = self.head.wait(seconds)
        text = self.log.read_text()
        assert status == 0, text
        return text


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts runs; whatever of them is left after the test is ended."""
    runs = []

    def start(folder: Path, *arguments: str, of: Sequence[str] = ARGUMENTS) -> Run:
        runs.append(Run(folder, *arguments, of=of))
        return runs[-1]

    yield start
    for run in runs:
        run.head.kill()
        run.head.wait()
        if jobs := jobs_left_in(run.folder):
            slurm("scancel", *jobs)
        # Without cgroups Slurm loses sight of processes whose parents were killed.
        for worker in run.workers():
            with suppress(ProcessLookupError):
                os.kill(worker.number, signal.SIGKILL)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, worker_id) -> Path:
    """The folder of a run on this machine alone, without Slurm; the processes of pytest-xdist share it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own if worker_id == "master" else own.parent) / "undisturbed"
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            write_small_study(folder)
            made = snakemake(folder, str(OBSERVATIONS))
            assert made.returncode == 0, made.stderr
    assert (folder / OBSERVATIONS).exists(), "the run without Slurm failed; see the other tests"
    return folder


def copy_without(undisturbed: Path, folder: Path, variants: str) -> Path:
    """Copy the folder of a run without some variants (a pattern) and what rests on them."""
    shutil.copytree(undisturbed, folder, symlinks=True)
    for path in folder.glob(f"results/*/*/{variants}"):
        shutil.rmtree(path)
    shutil.rmtree(folder / "results" / "studies")
    return folder


@pytest.fixture
def to_redo(undisturbed, tmp_path) -> Path:
    """A folder in which everything is done but one variant and what rests on it."""
    return copy_without(undisturbed, tmp_path / "run", REDONE)


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
    for process in processes():
        steps = tuple(f"slurmstepd: [{number}." for number in on_node)
        if process.slurm_job in on_node or " ".join(process.words).startswith(steps):
            doomed.append(process.number)
    for process in doomed:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return node
