"""A warm worker: a process that has the heavy libraries loaded, and that forks for every call.

Loading torch and transformers takes longer than quantizing a tiny model. The first call starts the worker, which ends
by itself when nobody has called for a while; each fork has the caller's folder and environment, and dies with it.
This library's modules are loaded by the fork, so that they are never out of date.

Calls and answers are pickles, which can run anything. So both ends ask the system whose process the other end is, and
the socket, which only its user may open, lies in a folder that only its user may enter.
"""

from __future__ import annotations

import errno
import fcntl
import gc
import hashlib
import os
import pickle
import signal
import socket
import stat
import struct
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
from typing import TextIO

from stratalaw.jobs.call import Call, perform

# gptqmodel is not among them: it starts threads when it is loaded, and a fork has only the thread that forked.
PRELOADED = (
    *("pandas", "pyarrow.parquet", "pydantic", "torch", "transformers.models.auto.modeling_auto"),
    *("transformers.quantizers.auto", "datasets", "lm_eval.evaluator", "lm_eval.tasks"),
)
IDLE_SECONDS = 60
START_SECONDS = 30
LONGEST_ADDRESS = 107  # bytes; Linux: sizeof(sun_path) less the final zero
STARTED = "started"


def ask_worker(call: Call) -> str | None:
    """Perform a call in a fork of the warm worker, which is started if there is none.

    Returns what went wrong as one line, or None. Where no worker can be started, the call is performed here.
    """
    try:
        connection = Connection(_connect().detach())
        connection.send((call, str(Path.cwd()), dict(os.environ)))
        connection.recv()
    except (OSError, EOFError) as reason:  # the worker could not start, or ended just now
        print(f"the job runs without a warm worker: {reason or 'it ended'}", file=sys.stderr)
        return perform(call)
    try:
        error: str | None = connection.recv()
        return error
    except EOFError:
        return f"the job's process was killed; out of memory? (details: {call.log})"


def address() -> Path:
    """The worker's socket: one for each user and installation, in a folder that only the user can enter.

    Raises:
        OSError: what is in the folder's place is not such a folder, or its path is too long for a socket.
    """
    folder = Path(tempfile.gettempdir()) / f"stratalaw-{os.geteuid()}"
    installation = hashlib.sha256(f"{sys.executable} {__file__}".encode()).hexdigest()[:16]
    path = folder / f"{installation}.socket"
    if len(os.fsencode(path)) > LONGEST_ADDRESS:
        raise OSError(errno.ENAMETOOLONG, "too long for a socket", str(path))
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # a link is none
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PermissionError(errno.EPERM, "not a folder of this user alone", str(folder))
    return path


def _connect() -> socket.socket:
    path = address()
    with _only_one(path.with_suffix(".lock")):
        if (client := _try_to_connect(path)) is not None:
            return client
        command = [sys.executable, "-P", "-m", "stratalaw.jobs.worker"]
        with _open_own(path.with_suffix(".log")) as log:
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
    with _open_own(lock) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _open_own(path: Path) -> TextIO:
    """A file opened to be written anew; never through a link, which could lead to another file of the user's."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return open(path, "w", opener=lambda name, _: os.open(name, flags, 0o600))


def _try_to_connect(path: Path) -> socket.socket | None:
    """A connection to the worker, or None if there is none; raises PermissionError if it is another user's."""
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(path))
    except OSError:
        client.close()
        return None
    if user_at_other_end(client) != os.geteuid():
        client.close()
        raise PermissionError(errno.EPERM, "another user's worker", str(path))
    return client


def user_at_other_end(connected: socket.socket) -> int:
    """The user whose process connected or listens at the other end of a socket, as the system says."""
    credentials = struct.Struct("3i")  # process, user, group
    packed = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, credentials.size)
    return int(credentials.unpack(packed)[1])


def serve(idle_seconds: float = IDLE_SECONDS) -> None:
    """Fork for every caller until none has come for ``idle_seconds``."""
    path = address()
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)  # nobody else may ever open the socket
    server = socket.create_server(str(path), family=socket.AF_UNIX)
    os.umask(mask)
    with server:
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
                if user_at_other_end(client) != os.geteuid():
                    client.close()
                    continue
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
