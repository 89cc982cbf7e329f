"""A warm worker: a process that has the heavy libraries loaded, and that forks for every call.

Loading torch and transformers takes longer than most of what is asked of it. The first call starts the worker, which
ends by itself when nobody has called for a while; each fork has the caller's folder and environment, and dies with it.
This library's modules are loaded by the fork, so that they are never out of date.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path

from stratalaw.jobs.call import Call, killed, perform
from stratalaw.jobs.sockets import address, callers, listen, locked, start, try_to_connect

# gptqmodel is not among them: it starts threads when it is loaded, and a fork has only the thread that forked.
PRELOADED = (
    *("pandas", "pyarrow.parquet", "pydantic", "torch", "transformers.models.auto.modeling_auto"),
    *("transformers.quantizers.auto", "datasets", "lm_eval.evaluator", "lm_eval.tasks"),
)
IDLE_SECONDS = 60
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
        return killed(call)


def _connect() -> socket.socket:
    path = address()
    with locked(path.with_suffix(".lock")):
        command = [sys.executable, "-P", "-m", "stratalaw.jobs.worker"]
        return try_to_connect(path) or start(command, path)


def serve(idle_seconds: float = IDLE_SECONDS) -> None:
    """Fork for every caller until none has come for ``idle_seconds``."""
    path = address()
    with listen(path) as server:
        # Callers that come meanwhile wait in the socket's queue. Looking for garbage among modules, which stay, would
        # take an eighth of the time.
        gc.disable()
        for name in PRELOADED:
            import_module(name)
        gc.freeze()
        gc.enable()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for client in callers(server, idle_seconds):
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
