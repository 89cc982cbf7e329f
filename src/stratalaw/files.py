"""Output that appears whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appears_whole(target: Path) -> Iterator[Path]:
    """Yields a path beside ``target`` to write a file or folder to; afterwards it is renamed to ``target``.

    On an error nothing is left behind and what ``target`` held before stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        unfinished = workplace / target.name
        yield unfinished
        _synchronize(unfinished)
        if target.is_dir():
            target.rename(workplace / "previous")
        unfinished.replace(target)
    finally:
        shutil.rmtree(workplace)


def _synchronize(path: Path) -> None:
    """Have the disk hold all of it before it gets its name."""
    for file in [path, *path.rglob("*")]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
