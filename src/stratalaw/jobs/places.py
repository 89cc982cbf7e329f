"""Where a job is performed by a process that stays: on a GPU that is leased for it, or at one of the cores.

A place is one job at a time: on each GPU as many as jobs may share it, without GPUs as many as there are jobs. The host
of a place (see ``jobs.resident``) holds the lease of its GPU as long as it lives.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from stratalaw.jobs.call import Call, killed
from stratalaw.jobs.lease import VISIBLE_DEVICES, Gpus, give_back, lease
from stratalaw.jobs.resident import Setting
from stratalaw.jobs.sockets import address, locked, start, try_to_connect

SECONDS_BETWEEN_TRIES = 0.5


@dataclass(frozen=True)
class Place:
    """A place: its socket, and the GPU that its host leases, with the number of the place on it."""

    socket: Path
    gpu: str | None = None
    number: int = 0


def ask_resident(call: Call, gpus: Gpus | None) -> str | None:
    """Perform a call in a process that stays, at the first place that is free; wait for one, if need be.

    Args:
        call: what is performed.
        gpus: those to lease from; None for a call that needs none.

    Returns:
        What went wrong as one line, or None.

    Raises:
        OSError: no such process can be started.
        LeaseError: a GPU cannot be leased.
    """
    waits = False
    while True:
        for place in _places(gpus):
            with _host_of(place, gpus) as connection:
                if connection is None:
                    continue
                changes = {} if place.gpu is None else {VISIBLE_DEVICES: place.gpu}
                try:
                    connection.send((call, str(Path.cwd()), Setting.here(changes)))
                    connection.recv()
                except (OSError, EOFError):  # it ended just now, being idle
                    continue
                try:
                    error: str | None = connection.recv()
                    return error
                except EOFError:
                    return killed(call)
        if not waits and gpus is not None:
            print(gpus.waiting_for(), file=sys.stderr)
        waits = True
        time.sleep(SECONDS_BETWEEN_TRIES)


def _places(gpus: Gpus | None) -> Iterator[Place]:
    """All places, those of GPUs without a job first."""
    if gpus is None:
        for number in itertools.count():
            yield Place(address(f"place {number}"))
    else:
        for gpu, number in gpus.places():
            yield Place(address(f"place {number} of {gpus.jobs_per_gpu} on {gpus.names[gpu]}"), gpu, number)


@contextmanager
def _host_of(place: Place, gpus: Gpus | None) -> Iterator[Connection | None]:
    """A connection to the host of a place, which is started if there is none; None if the place is taken."""
    with locked(place.socket.with_suffix(".lock"), block=False) as is_free:
        if not is_free:
            yield None
            return
        client = try_to_connect(place.socket)
        if client is None:
            locks: list[int] | None = []
            if gpus is not None and place.gpu is not None:
                locks = lease(gpus, place.gpu, place.number)
            if locks is None:
                yield None
                return
            command = [sys.executable, "-P", "-m", "stratalaw.jobs.resident", "host", str(place.socket)]
            try:
                client = start(command, place.socket, keep_open=locks)
            finally:
                give_back(locks)
        with Connection(client.detach()) as connection:
            yield connection
