"""A warm worker: a process that has the heavy libraries loaded, and and that forks for every call.

Loading torch and transformers takes longer than quantizing a tiny model. The first call starts the worker, which ends
by itself when nobody has called for a while; each fork has the caller's folder and environment, and dies with it.
This library's modules are loaded by the fork, so that they are never out of date.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from stratalaw.jobs.call import Call, perform

# gptqmodel is not among them: it starts threads when it is loaded, and a fork has only the thread that forked.
PRELOADED = (
    *("pandas", "pyarrow.parquet", "pydantic", "torch", "transformers.models.auto.modeling_auto"),
    *("transformers.quantizers.auto", "datasets", "lm_eval.evaluator", "lm_eval.tasks"),
)
IDLE_SECONDS = 60
START_SECONDS = 30
STARTED = "started"


def ask_worker(call: Call) -> str | None:
    """Perform a call in a fork of the warm worker, which is started if there is none.

    Returns what went wrong as one line, or None. Where no worker can be started, the call is performed here.
    """
    try:
        connection = Connection(_connect().detach())
        connection.send((call, str(Path.cwd()), dict(os.environ)))
        connection.recv()
    except (OSError, EOFError):  # the worker could not start, or ended just now
        return perform(call)
    try:
        error: str | None = connection.recv()
        return error
    except EOFError:
        return f"the job's process was killed; out of memory? (details: {call.log})"


def address() -> Path:
    """The worker's socket: one for each user and installation, in a folder that only the user can enter."""
    folder = Path(tempfile.gettempdir()) / f"stratalaw-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    installation = hashlib.sha256(f"{sys.executable} {__file__}".encode()).hexdigest()[:16]
    return folder / f"{installation}.socket"


def _connect() -> socket.socket:
    path = address()
    with _only_one(path.with_suffix(".lock")):
        if (client := _try_to_connect(path)) is not None:
            return client
        command = [sys.executable, "-P", "-m", "stratalaw.jobs.worker"]
        with path.with_suffix(".log").open("w") as log:
            worker = subprocess.Popen(
                command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        give_up = time.monotonic() + START_SECONDS
        while worker.poll() is None and time.monotonic() < give_up:
            if (client := _try_to_connect(path)) is not None:
                return client
            time.sleep(0.02)
    raise ConnectionError("the warm worker did not start")


@contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _try_to_connect(path: Path) -> socket.socket | None:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        return None
    return client


def serve(idle_seconds: float = IDLE_SECONDS) -> None:
    """Fork for every caller until none has come for ``idle_seconds``."""
    path = address()
    path.unlink(missing_ok=True)
    with socket.create_server(str(path), family=socket.AF_UNIX) as server:
        # Callers that come meanwhile wait in the socket's queue.
        for name in PRELOADED:
            import_module(name)
        gc.freeze()
        server.settimeout(idle_seconds)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with suppress(TimeoutError):
            while True:
                client, _ = server.accept()
                client.setblocking(True)
                if os.fork() == 0:
                    server.close()
                    _perform_for(Connection(client.detach()))
                client.close()
        path.unlink(missing_ok=True)


def _perform_for(connection: Connection) -> None:
    """In a fork: perform the call that comes over a connection, answer, and exit."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        call, folder, environment = connection.recv()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        connection.send(STARTED)
        threading.Thread(target=_die_with, args=(connection,), daemon=True).start()
        connection.send(perform(call))
        status = 0
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
    except (OSError, EOFError, pickle.PickleError):
        traceback.print_exc()
    finally:
        # Threads of libraries must not hold the fork up.
        os._exit(status)


def _die_with(connection: Connection) -> None:
    """Wait until the caller is gone, then end this process as a termination signal would."""
    with suppress(EOFError, OSError):
        connection.recv()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve()
