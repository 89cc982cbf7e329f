"""A call of one function, whose output goes to a log and whose error is one line."""

from __future__ import annotations

import faulthandler
import fcntl
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

STANDARD_STREAMS = (1, 2)  # output and error
# What a log ends with; a log that ends with neither, nor with an error, is that of a job that was killed.
FINISHED = "The job has finished."
STOPPED = "The job was stopped"


@dataclass(frozen=True)
class Call:
    """``function``, named ``module:name``, is called with ``arguments``; what it prints is written to ``log``."""

    function: str
    log: str
    arguments: dict[str, Any] = field(default_factory=dict)


def perform(call: Call) -> str | None:
    """Perform a call; returns what went wrong as one line, or None. A termination signal ends it tidily."""
    # A signal becomes an exception, so that unfinished files are cleared away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with _output_to(Path(call.log)):
            return _perform(call)
    except OSError as error:  # of the log itself
        return f"{error.filename or call.log}: the job's log cannot be written: {error.strerror or error}"


def killed(call: Call) -> str:
    """What is said of a call whose process ended without an answer."""
    return f"the job's process was killed; out of memory? (details: {call.log})"


def _perform(call: Call) -> str | None:
    try:
        module, _, name = call.function.partition(":")
        getattr(import_module(module), name)(**call.arguments)
    except Exception as error:
        _write(traceback.format_exc())
        message = " ".join(str(error).split()) or type(error).__name__
        return f"{message} (details: {call.log})"
    except KeyboardInterrupt:
        _write(f"{STOPPED}: interrupted.\n")
        raise
    except SystemExit as exit_:
        by_signal = exit_.code == 128 + signal.SIGTERM
        _write(f"{STOPPED}: terminated.\n" if by_signal else f"The job exited by itself: {exit_.code}\n")
        raise
    _write(f"{FINISHED}\n")
    return None


def _write(text: str) -> None:
    """Write to the log, after what was printed before."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.write(STANDARD_STREAMS[1], text.encode())


def is_written(log: Path) -> bool | None:
    """Whether the job of a log is running, on whichever machine; None where nobody can say.

    That is: the file system has no locks, or the log is another user's.
    """
    try:
        with _open_to_lock(log) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


def _open_to_lock(log: Path) -> TextIO:
    """A log opened so that it can be locked in either way, also on NFS; it is not changed."""
    try:
        return log.open("r+")  # for an exclusive lock, NFS wants a file that may be written
    except OSError:
        return log.open()  # another user's, or on a disk that may only be read


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    """Send standard output and error, those of libraries written in C included, to a file.

    The file is locked as long as its job lives, which is how ``is_written`` knows. Where a crash happened is written
    to it too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    former = {descriptor: os.dup(descriptor) for descriptor in STANDARD_STREAMS}
    with path.open("w+") as log:  # for a shared lock, NFS wants a file that may be read
        with suppress(OSError):  # a file system without locks
            fcntl.flock(log, fcntl.LOCK_SH)
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        library = logging.getLogger("stratalaw")
        library.setLevel(logging.INFO)
        reports_crashes = not faulthandler.is_enabled()
        try:
            for descriptor in STANDARD_STREAMS:
                os.dup2(log.fileno(), descriptor)
            library.addHandler(handler)
            if reports_crashes:
                faulthandler.enable(STANDARD_STREAMS[1])
            yield
        finally:
            library.removeHandler(handler)
            if reports_crashes:
                faulthandler.disable()
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, saved in former.items():
                os.dup2(saved, descriptor)
                os.close(saved)
