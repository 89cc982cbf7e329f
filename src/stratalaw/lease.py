"""A GPU for a job on a machine without a scheduler.

Every GPU has a file for each job that it may serve at once; a job locks one and sees that GPU alone. The system takes
the lock back when the job's process ends, however it ends, so no lease outlives a killed job.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
SECONDS_BETWEEN_TRIES = 0.5


@contextmanager
def leased_gpu(folder: Path, gpus: int, jobs_a_gpu: int = 1) -> Iterator[int]:
    """Wait for a free GPU, and have this process and its children see no other; yields its number.

    GPUs without a job go first.

    Args:
        folder: of the locks, the same for all jobs on the machine.
        gpus: GPUs of the machine, numbered from 0.
        jobs_a_gpu: jobs that may share one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while (leased := _try_to_lease(folder, gpus, jobs_a_gpu)) is None:
        time.sleep(SECONDS_BETWEEN_TRIES)
    gpu, lock = leased
    former = os.environ.get(VISIBLE_DEVICES)
    os.environ[VISIBLE_DEVICES] = str(gpu)
    try:
        yield gpu
    finally:
        os.close(lock)
        if former is None:
            del os.environ[VISIBLE_DEVICES]
        else:
            os.environ[VISIBLE_DEVICES] = former


def _try_to_lease(folder: Path, gpus: int, jobs_a_gpu: int) -> tuple[int, int] | None:
    """A GPU and the descriptor of its locked file, or None if all are taken."""
    for place in range(jobs_a_gpu):
        for gpu in range(gpus):
            # Not inheritable (Python's default): a child that lives on must not hold the lease.
            lock = os.open(folder / f"gpu{gpu}-{place}.lock", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
            else:
                return gpu, lock
    return None
