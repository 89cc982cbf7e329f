"""A GPU for a job on a machine without a scheduler.

Every GPU has a file, which a job locks to see that GPU alone. Jobs that may share it lock it together, and each locks
one of as many files as jobs may share it. The system takes the locks back when the job's process ends, however it ends,
so no lease outlives a killed job.

The files are where all users of the machine find them, whatever their ``TMPDIR``, and are named after what the GPU
itself reports, whatever number it has for a process.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from stratalaw.errors import StratalawError
from stratalaw.jobs.sockets import own_folder

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_TRIES = 0.5
SECONDS_TO_REPORT = 60
# Folders in which every user may make files and nobody may remove those of others; the first is not cleaned up.
FOLDERS_OF_ALL = (Path("/run/lock"), Path("/tmp"))


class LeaseError(StratalawError):
    """Fewer GPUs are visible than were asked for, or none can be leased; one line that says what to do."""


def lock_folder() -> Path:
    """The folder of the locks, the same for all jobs of all users on the machine.

    Raises:
        LeaseError: none of the folders may be written by all.
    """
    for folder in FOLDERS_OF_ALL:
        with suppress(FileNotFoundError):
            mode = folder.stat().st_mode
            if mode & stat.S_IWOTH and mode & stat.S_ISVTX:
                return folder
    raise LeaseError(
        f"GPUs cannot be leased: neither {' nor '.join(map(str, FOLDERS_OF_ALL))} may be written by all users"
    )


@dataclass(frozen=True)
class Gpus:
    """GPUs to lease from.

    Attributes:
        folder: where the locks are, the same for all jobs on the machine.
        names: by GPU, as CUDA_VISIBLE_DEVICES names it here, what all processes call it.
        jobs_per_gpu: number of jobs that may share a GPU; 1 shares it with no job, whatever others allow.
    """

    folder: Path
    names: Mapping[str, str]
    jobs_per_gpu: int = 1

    @classmethod
    def visible(cls, folder: Path, count: int, jobs_per_gpu: int = 1) -> Gpus:
        """The first ``count`` that CUDA_VISIBLE_DEVICES names, else the machine's first.

        Raises:
            LeaseError: CUDA_VISIBLE_DEVICES names fewer GPUs, or nvidia-smi hangs.
        """
        return cls(folder, _names(_devices(count)), jobs_per_gpu)

    @classmethod
    def of_slurm(cls, job: str) -> Gpus:
        """The GPU that Slurm gave to a job, and which nobody else leases; the jobs of a pack take turns at it."""
        gpu = os.environ.get(VISIBLE_DEVICES, "0").partition(",")[0]
        return cls(own_folder(), {gpu: f"{gpu} of job {job}"})

    def places(self) -> Iterator[tuple[str, int]]:
        """Each GPU with each number of a job on it, so that GPUs without a job come first."""
        for place in range(self.jobs_per_gpu):
            for gpu in self.names:
                yield gpu, place

    def waiting_for(self) -> str:
        """What is said while all are taken."""
        return f"waiting for a GPU: other jobs have {', '.join(self.names)} (locks in {self.folder})"


@contextmanager
def leased_gpus(gpus: Gpus, count: int = 1) -> Iterator[str]:
    """Wait for free GPUs, and have this process and its children see no other; yields their numbers or UUIDs, between
    commas.

    GPUs without a job go first; a job of several shares none of them.

    Raises:
        LeaseError: a lock cannot be opened, or there are fewer GPUs.
    """
    if count > len(gpus.names):
        raise LeaseError(
            f"a job of {count} GPUs, and jobs lease {len(gpus.names)}; change gpus of the workflow's config"
        )
    leased = _try_to_lease(gpus, count)
    if leased is None:
        print(gpus.waiting_for(), file=sys.stderr)
    while leased is None:
        time.sleep(SECONDS_BETWEEN_TRIES)
        leased = _try_to_lease(gpus, count)
    visible, locks = leased
    former = os.environ.get(VISIBLE_DEVICES)
    os.environ[VISIBLE_DEVICES] = visible
    try:
        yield visible
    finally:
        give_back(locks)
        if former is None:
            del os.environ[VISIBLE_DEVICES]
        else:
            os.environ[VISIBLE_DEVICES] = former


def _devices(gpus: int) -> list[str]:
    """The first GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get(VISIBLE_DEVICES)
    if visible is None:
        return [str(number) for number in range(gpus)]
    named = [device.strip() for device in visible.split(",") if device.strip()]
    if len(named) < gpus:
        raise LeaseError(
            f"{VISIBLE_DEVICES}={visible}: fewer GPUs than gpus={gpus} of the workflow's config; change one of the two"
        )
    return named[:gpus]


def _names(devices: Sequence[str]) -> dict[str, str]:
    """By GPU, what all processes call it: its UUID, or what this process calls it where no driver reports one."""
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        reported = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS_TO_REPORT).stdout
    except subprocess.TimeoutExpired:  # by another name, a GPU that another job has would look free
        raise LeaseError(
            f"nvidia-smi has not answered within {SECONDS_TO_REPORT} s: no GPU can be leased; see whether it hangs"
        ) from None
    except (OSError, subprocess.SubprocessError):
        reported = ""
    uuids = dict(line.split(", ", 1) for line in reported.splitlines() if ", " in line)

    def name_of(device: str) -> str:
        abbreviated = [uuid for uuid in uuids.values() if uuid.startswith(device)]  # CUDA takes the first digits, too
        return uuids.get(device) or (abbreviated[0] if len(abbreviated) == 1 else device)

    return {device: name_of(device) for device in devices}


def _try_to_lease(gpus: Gpus, count: int) -> tuple[str, list[int]] | None:
    """GPUs and the descriptors of their locked files, or None if too few are free."""
    gpus = gpus if count == 1 else replace(gpus, jobs_per_gpu=1)
    leased: list[str] = []
    locks: list[int] = []
    for gpu, place in gpus.places():
        if (of_place := lease(gpus, gpu, place)) is not None:
            leased.append(gpu)
            locks += of_place
            if len(leased) == count:
                return ",".join(leased), locks
    give_back(locks)  # another job may have the others, and wait for these
    return None


def lease(gpus: Gpus, gpu: str, place: int) -> list[int] | None:
    """The descriptors of the locked files of one place on a GPU, or None if it is taken.

    Raises:
        LeaseError: a lock cannot be opened.
    """
    whole = gpus.folder / f"stratalaw-gpu-{quote(gpus.names[gpu], safe='')}.lock"
    lock = _lock(whole, fcntl.LOCK_EX if gpus.jobs_per_gpu == 1 else fcntl.LOCK_SH)
    if lock is None or gpus.jobs_per_gpu == 1:
        return None if lock is None else [lock]
    if (lock_of_place := _lock(whole.with_suffix(f".{place}.lock"), fcntl.LOCK_EX)) is not None:
        return [lock, lock_of_place]
    give_back([lock])
    return None


def give_back(locks: Sequence[int]) -> None:
    """Close the descriptors of locked files; a lock is free once no process has it open."""
    for lock in locks:
        os.close(lock)


def _lock(path: Path, kind: int) -> int | None:
    """The descriptor of a file that is locked now, or None if another job has it."""
    try:
        lock = _open_for_all(path)
    except OSError as error:
        raise LeaseError(
            f"{error.filename or path}: {error.strerror}: no GPU can be leased; have its owner remove it"
        ) from None
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), path.stat()):
            with suppress(OSError):
                os.utime(lock)  # old files may be cleaned away
            return lock
    except (BlockingIOError, FileNotFoundError):  # another job has it, or it was cleaned away just now
        pass
    os.close(lock)
    return None


def _open_for_all(path: Path) -> int:
    """A file opened to be locked; made, if need be, so that every user may do the same."""
    # Not inheritable (Python's default): a child that lives on must not hold the lease. To read is enough for a lock,
    # and where others may write, systems refuse to open their files with O_CREAT.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        os.fchmod(descriptor, 0o666)
        with suppress(FileExistsError):
            Path(path).hardlink_to(made)  # with its mode at once
    finally:
        os.close(descriptor)
        Path(made).unlink()
    return os.open(path, flags)
