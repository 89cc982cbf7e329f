"""Processes that stay: each performs one job after another, and keeps what it has loaded and compiled.

To start a process (libraries, and on a GPU CUDA and kernels) takes longer than to quantize a small model, and one on a
GPU cannot be forked. So each *place* has a host: a small process that holds the place's lease of a GPU, if it has one,
and passes calls on to a process for each function, since what one library changes in another (gptqmodel patches
transformers) must not reach the answers. A process that failed, or whose caller is gone, is ended: no job ever meets
what a broken one left behind. So are processes that wait for a job where memory is short.
"""

from __future__ import annotations

import gc
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import psutil

from stratalaw.jobs.call import Call, killed, perform
from stratalaw.jobs.sockets import callers, listen

IDLE_SECONDS = 30
LITTLE_MEMORY = 4 * 2**30  # bytes; with less, no process waits for its next job
SECONDS_TO_TIDY = 60  # for a job whose caller is gone, to clear away what is unfinished
STARTED = "started"
SOURCES = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """In what calls are performed; another setting takes another process."""

    environment: frozenset[tuple[str, str]]
    sources: int

    @classmethod
    def here(cls, changes: Mapping[str, str]) -> Setting:
        """That of this process, with changes to the environment; this library as its files are now."""
        newest = max(path.stat().st_mtime_ns for path in SOURCES.rglob("*.py"))
        return cls(frozenset({**os.environ, **changes}.items()), newest)


class Resident:
    """A process that performs calls, one after another."""

    def __init__(self, setting: Setting) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-m", "stratalaw.jobs.resident", "resident", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command,
                cwd="/",
                env=dict(setting.environment),
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.setting = setting
        self.connection = Connection(ours.detach())

    def end(self) -> None:
        """End the process, and what it is at; unfinished files are cleared away."""
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_TIDY)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.connection.close()


def serve(path: Path, idle_seconds: float = IDLE_SECONDS) -> None:
    """Host a place: pass on the calls that come, until none has come for ``idle_seconds``."""
    residents: dict[str, Resident] = {}
    with listen(path) as server:
        for client in callers(server, idle_seconds):
            with Connection(client.detach()) as caller, suppress(EOFError, OSError):
                call, folder, setting = caller.recv()
                caller.send(STARTED)
                caller.send(_passed_on(call, folder, setting, residents, caller))
        path.unlink(missing_ok=True)
    for resident in residents.values():
        resident.end()


def _passed_on(
    call: Call, folder: str, setting: Setting, residents: dict[str, Resident], caller: Connection
) -> str | None:
    """What the process for a call's function answers; it is ended unless all went well."""
    resident = residents.pop(call.function, None)
    if resident is not None and resident.setting != setting:
        resident.end()
        resident = None
    make_room(residents)
    if resident is None:
        resident = Resident(setting)
    error: str | None = killed(call)
    with suppress(EOFError, OSError):
        resident.connection.send((call, folder))
        if resident.connection in wait([resident.connection, caller]):
            error = resident.connection.recv()
    if error is None:
        residents[call.function] = resident
    else:
        resident.end()
    return error


def make_room(residents: dict[str, Resident]) -> None:
    """End processes that wait for a job, the one that has waited longest first, while memory is short."""
    while residents and psutil.virtual_memory().available < LITTLE_MEMORY:
        residents.pop(next(iter(residents))).end()


def reside(connection: Connection) -> None:
    """Perform the calls that come over a connection, until its other end is closed."""
    calls: queue.Queue[tuple[Call, str]] = queue.Queue()
    threading.Thread(target=_take, args=(connection, calls), daemon=True).start()
    try:
        while True:
            call, folder = calls.get()
            os.chdir(folder)
            forget_peaks()
            error = perform(call)
            clear_up()
            connection.send(error)
    finally:
        os._exit(0)  # threads of libraries must not hold it up


def _take(connection: Connection, calls: queue.Queue[tuple[Call, str]]) -> None:
    """Put the calls that come into a queue; once the host is gone, end this process as a termination signal would."""
    with suppress(EOFError, OSError):
        while True:
            calls.put(connection.recv())
    os.kill(os.getpid(), signal.SIGTERM)


def forget_peaks() -> None:
    """Have the peaks of memory that a job reports be its own."""
    with suppress(OSError):  # Linux; elsewhere they are those of all jobs of the process
        Path("/proc/self/clear_refs").write_text("5")
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def clear_up() -> None:
    """Free what a job has left, the memory of the GPU first: others may share it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["host", path]:
            serve(Path(path))
        case ["resident", descriptor]:
            reside(Connection(int(descriptor)))
