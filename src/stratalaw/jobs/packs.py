"""Packs: jobs of Slurm that each run many short jobs of the workflow, one after another.

The head puts the jobs of a model into a queue, a folder that head and nodes share; a pack takes one after another, and
its processes stay warm from one to the next (see ``jobs.resident``). Each job keeps its own command, log and exit
status. A pack that is killed loses the jobs it was at, and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from stratalaw.files import write_text

PACKED = "STRATALAW_PACKED"  # set for the jobs of a pack
# While one computes, the next starts: the GPU waits for neither snakemake nor the libraries.
JOBS_AT_ONCE = 2
MEGABYTES_OF_WAITING = 1_000  # of snakemake and the script of a job that waits for its turn
IDLE_SECONDS = 120  # for jobs that become ready only when the head has seen that others are done
SECONDS_BETWEEN_LOOKS = 1
CLOSED = "closed"


@dataclass(frozen=True)
class PackedJob:
    """A job in a queue.

    Attributes:
        name: of its files in the queue; names sort in the order in which jobs are taken.
        command: for a shell.
        log_folder: where its output goes, to a file named after the number of the pack in Slurm.
        expected_seconds: how long it takes, by the cost model.
        minutes: how long it may take.
        mem_mb: memory that it needs.
        threads: cores that it needs.
    """

    name: str
    command: str
    log_folder: str
    expected_seconds: int
    minutes: int
    mem_mb: int
    threads: int


@dataclass(frozen=True)
class Size:
    """What a pack has been given: minutes that are left, memory, and cores."""

    minutes: float
    mem_mb: int
    threads: int

    def holds(self, job: PackedJob) -> bool:
        """Whether a job fits."""
        return job.minutes <= self.minutes and job.mem_mb <= self.mem_mb and job.threads <= self.threads


@dataclass(frozen=True)
class Queue:
    """Jobs that packs take, in a folder; a job is a file that is renamed from ``waiting`` to ``taken``."""

    folder: Path

    def put(self, job: PackedJob) -> None:
        """Add a job."""
        write_text(json.dumps(asdict(job)), self.folder / "waiting" / job.name)

    def waiting(self) -> list[PackedJob]:
        """The jobs that no pack has taken, in order."""
        return list(self._jobs())

    def _jobs(self) -> Iterator[PackedJob]:
        folder = self.folder / "waiting"
        for path in sorted(folder.iterdir()) if folder.exists() else ():
            with suppress(FileNotFoundError):  # taken just now
                if not path.name.startswith("."):  # not written to its end
                    yield PackedJob(**json.loads(path.read_text()))

    def take(self, pack: str, size: Size) -> PackedJob | None:
        """Take the first job that fits, or None; ``pack``: its number in Slurm."""
        taken = self.folder / "taken"
        taken.mkdir(parents=True, exist_ok=True)
        for job in self._jobs():
            if size.holds(job):
                with suppress(FileNotFoundError):  # another pack was faster
                    (self.folder / "waiting" / job.name).rename(taken / f"{job.name}.{pack}")
                    return job
        return None

    def taken_by(self, name: str) -> str | None:
        """The number of the pack that has taken a job."""
        found = next(self.folder.glob(f"taken/{name}.*"), None)
        return None if found is None else found.suffix.removeprefix(".")

    def finish(self, job: PackedJob, status: int) -> None:
        """Record a job's exit status."""
        write_text(str(status), self.folder / "done" / job.name)

    def status_of(self, name: str) -> int | None:
        """The exit status of a job that has ended."""
        try:
            return int((self.folder / "done" / name).read_text())
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Have packs end once they have nothing to do."""
        write_text("", self.folder / CLOSED)

    @property
    def is_closed(self) -> bool:
        """Whether no more jobs will come."""
        return (self.folder / CLOSED).exists()


def work_through(queue: Queue, pack: str, size: Size, idle_seconds: float = IDLE_SECONDS) -> None:
    """Run jobs of a queue until no more come: as a pack, within its size.

    Args:
        queue: where jobs are taken.
        pack: the number of the pack in Slurm.
        size: what it has been given; its minutes count from now.
        idle_seconds: how long it waits for more.
    """
    started = since_work = time.monotonic()
    running: list[tuple[PackedJob, subprocess.Popen[bytes]]] = []
    with _ended_with_the_pack(running):
        while True:
            for job, process in list(running):
                if process.poll() is not None:
                    running.remove((job, process))
                    queue.finish(job, process.returncode)
                    since_work = time.monotonic()
            left = Size(size.minutes - (time.monotonic() - started) / 60, size.mem_mb, size.threads)
            if len(running) < JOBS_AT_ONCE and (taken := queue.take(pack, left)) is not None:
                running.append((taken, _started(taken, pack)))
                continue
            if not running and (queue.is_closed or time.monotonic() - since_work > idle_seconds):
                return
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _started(job: PackedJob, pack: str) -> subprocess.Popen[bytes]:
    folder = Path(job.log_folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{pack}.log").open("w") as log:
        return subprocess.Popen(
            ["sh", "-c", job.command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | {PACKED: "1"}
        )


@contextmanager
def _ended_with_the_pack(running: Sequence[tuple[PackedJob, subprocess.Popen[bytes]]]) -> Iterator[None]:
    """Have jobs end tidily when Slurm ends the pack."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()


if __name__ == "__main__":
    folder, minutes, mem_mb, threads = sys.argv[1:]
    work_through(Queue(Path(folder)), os.environ["SLURM_JOB_ID"], Size(float(minutes), int(mem_mb), int(threads)))
