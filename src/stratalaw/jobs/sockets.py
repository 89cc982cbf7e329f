"""Sockets by which a user's jobs ask his workers, and nobody else can.

Calls and answers are pickles, which can run anything. So both ends ask the system whose process the other end is, and
the socket, which only its user may open, lies in a folder that only its user may enter.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

START_SECONDS = 30
LONGEST_ADDRESS = 107  # bytes; Linux: sizeof(sun_path) less the final zero


def address(name: str = "") -> Path:
    """The socket of a worker: of this user, installation and job of Slurm, in a folder that only the user can enter.

    Raises:
        OSError: what is in the folder's place is not such a folder, or its path is too long for a socket.
    """
    # What one job of Slurm has started ends with it, and must not take what another job is at along.
    owner = os.environ.get("SLURM_JOB_ID", "this machine")
    hashed = hashlib.sha256(f"{sys.executable} {__file__} {owner} {name}".encode()).hexdigest()[:16]
    path = own_folder() / f"{hashed}.socket"
    if len(os.fsencode(path)) > LONGEST_ADDRESS:
        raise OSError(errno.ENAMETOOLONG, "too long for a socket", str(path))
    return path


def own_folder() -> Path:
    """A folder for temporary files that only this user can enter.

    Raises:
        OSError: what is in its place is not such a folder.
    """
    folder = Path(tempfile.gettempdir()) / f"stratalaw-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()  # a link is none
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) != 0o700:
        raise PermissionError(errno.EPERM, "not a folder of this user alone", str(folder))
    return folder


@contextmanager
def locked(path: Path, block: bool = True) -> Iterator[bool]:
    """Hold a lock file; yields whether it is held, which is always so if ``block``."""
    with open_own(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if block else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def open_own(path: Path) -> TextIO:
    """A file opened to be written anew; never through a link, which could lead to another file of the user's."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return open(path, "w", opener=lambda name, _: os.open(name, flags, 0o600))


def start(command: Sequence[str], path: Path, keep_open: Sequence[int] = ()) -> socket.socket:
    """A connection to a worker that is started now and listens at ``path``; it lives on when this process ends.

    Raises:
        ConnectionError: it did not start.
    """
    with open_own(path.with_suffix(".log")) as log:
        worker = subprocess.Popen(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=keep_open,
        )
    give_up = time.monotonic() + START_SECONDS
    while worker.poll() is None and time.monotonic() < give_up:
        if (client := try_to_connect(path)) is not None:
            return client
        time.sleep(0.02)
    raise ConnectionError("the warm worker did not start")


def try_to_connect(path: Path) -> socket.socket | None:
    """A connection to a worker, or None if there is none; raises PermissionError if it is another user's."""
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


def listen(path: Path) -> socket.socket:
    """A socket that nobody else may ever open."""
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        return socket.create_server(str(path), family=socket.AF_UNIX)
    finally:
        os.umask(mask)


def callers(server: socket.socket, idle_seconds: float) -> Iterator[socket.socket]:
    """The connections of this user's processes, one after another, until none has come for ``idle_seconds``."""
    server.settimeout(idle_seconds)
    while True:
        try:
            client, _ = server.accept()
        except TimeoutError:
            return
        client.setblocking(True)
        if user_at_other_end(client) == os.geteuid():
            yield client
        else:
            client.close()
