"""A call of one function, whose output goes to a log and whose error is one line."""

from __future__ import annotations

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
    with _output_to(Path(call.log)):
        try:
            module, _, name = call.function.partition(":")
            getattr(import_module(module), name)(**call.arguments)
        except Exception as error:
            os.write(STANDARD_STREAMS[1], traceback.format_exc().encode())
            message = " ".join(str(error).split()) or type(error).__name__
            return f"{message} (details: {call.log})"
    return None


def is_written(log: Path) -> bool:
    """Whether the job of a log is running, on whichever machine; False where the file system has no locks."""
    try:
        with _open_to_lock(log) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
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

    The file is locked as long as its job lives, which is how ``is_written`` knows.
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
        try:
            for descriptor in STANDARD_STREAMS:
                os.dup2(log.fileno(), descriptor)
            library.addHandler(handler)
            yield
        finally:
            library.removeHandler(handler)
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, saved in former.items():
                os.dup2(saved, descriptor)
                os.close(saved)
