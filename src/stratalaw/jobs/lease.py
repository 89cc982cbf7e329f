"""A GPU for a job on a machine without a scheduler.

Every GPU has a file for each job that it may serve at once; a job locks one and sees that GPU alone. The system takes
the lock back when the job's process ends, however it ends, so no lease outlives a killed job.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from stratalaw.errors import StratalawError

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_TRIES = 0.5


class LeaseError(StratalawError):
    """Fewer GPUs are visible than were asked for; the message is one line that says what to do."""


@contextmanager
def leased_gpu(folder: Path, gpus: int, jobs_per_gpu: int = 1) -> Iterator[str]:
    """Wait for a free GPU, and have this process and its children see no other; yields its number or its UUID.

    GPUs without a job go first.

    Args:
        folder: where the locks are, the same for all jobs on the machine.
        gpus: number of GPUs to lease from: the first that CUDA_VISIBLE_DEVICES names, else the machine's first.
        jobs_per_gpu: number of jobs that may share a GPU.

    Raises:
        LeaseError: CUDA_VISIBLE_DEVICES names fewer GPUs.
    """
    devices = _devices(gpus)
    folder.mkdir(parents=True, exist_ok=True)
    while (leased := _try_to_lease(folder, devices, jobs_per_gpu)) is None:
        time.sleep(SECONDS_BETWEEN_TRIES)
    gpu, lock = leased
    former = os.environ.get(VISIBLE_DEVICES)
    os.environ[VISIBLE_DEVICES] = gpu
    try:
        yield gpu
    finally:
        os.close(lock)
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


def _try_to_lease(folder: Path, devices: Sequence[str], jobs_per_gpu: int) -> tuple[str, int] | None:
    """A GPU and the descriptor of its locked file, or None if all are taken."""
    for place in range(jobs_per_gpu):
        for gpu in devices:
            # Not inheritable (Python's default): a child that lives on must not hold the lease.
            lock = os.open(folder / f"gpu{quote(gpu, safe='')}-{place}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return gpu, lock
    return None
