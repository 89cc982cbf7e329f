"""Output that appears whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # pandas takes half a second to load
    import pandas as pd

# What the system says of a disk that cannot be written.
FAULTS_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE)
STARTS_OF_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
OWNER_END = "~"  # occurs in no random suffix and no name of a study: a workplace has one owner


@contextmanager
def appears_whole(target: Path) -> Iterator[Path]:
    """Yields a path beside ``target`` to write a file or folder to; afterwards it is renamed to ``target``.

    On an error nothing is left behind and what ``target`` held before stays. What a killed process left behind is
    cleared away by the next one that writes ``target``.

    Raises:
        OSError: the disk is full or failed; names ``target``.
    """
    with _workplace(target) as workplace:
        unfinished = workplace / target.name
        yield unfinished
        _put_in_place(unfinished, target, workplace)


def move_whole(finished: Path, target: Path) -> None:
    """Move a file or folder to ``target``; at any moment it is whole, in one place or the other.

    Raises:
        OSError: the disk is full or failed; names ``target``.
    """
    with _workplace(target) as workplace:
        if finished.stat().st_dev != workplace.stat().st_dev:  # another disk: copied, then removed
            finished = Path(shutil.move(finished, workplace / target.name))
        _put_in_place(finished, target, workplace)


@contextmanager
def _workplace(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` that is gone afterwards; clears away what killed processes left of theirs."""
    target.parent.mkdir(parents=True, exist_ok=True)
    owner = f".{target.name}"
    for abandoned in target.parent.glob(f".*{OWNER_END}*"):
        if abandoned.name.rpartition(OWNER_END)[0] == owner:
            _remove_unless_in_use(abandoned)
    workplace = Path(tempfile.mkdtemp(prefix=f"{owner}{OWNER_END}", dir=target.parent))
    in_use = os.open(workplace, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks, where the next process leaves a workplace alone
            fcntl.flock(in_use, fcntl.LOCK_EX)
        yield workplace
    except Exception as error:
        # Libraries report a full disk in ways of their own, and do not say where.
        for fault in FAULTS_OF_DISKS:
            if os.strerror(fault) in str(error):
                raise OSError(fault, os.strerror(fault), str(target)) from error
        raise
    finally:
        os.close(in_use)
        shutil.rmtree(workplace, ignore_errors=True)


def _put_in_place(finished: Path, target: Path, workplace: Path) -> None:
    """Rename a file or folder to ``target`` once it is on the disk; what ``target`` held goes to the workplace."""
    synchronize(finished)
    if target.is_dir():
        target.rename(workplace / "previous")
    finished.replace(target)


def _remove_unless_in_use(workplace: Path) -> None:
    """Remove a workplace whose process is gone: the system releases a dead process's lock."""
    try:
        descriptor = os.open(workplace, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(workplace, ignore_errors=True)
    except OSError:
        pass  # in use, or on a file system without locks
    finally:
        os.close(descriptor)


def synchronize(path: Path) -> None:
    """Flush a file or folder to the disk before it gets its name."""
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


def sha256_sums(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of files by their names."""
    return {path.name: digits for path, digits in sha256_of(paths).items()}


def sha256_of(paths: Sequence[Path]) -> dict[Path, str]:
    """SHA-256 of files, computed in parallel: one core takes half a minute for a large model's files."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(paths, pool.map(sha256, paths), strict=True))


def write_csv(table: pd.DataFrame, path: Path, float_format: str | None = None) -> None:
    with appears_whole(path) as unfinished:
        without_formulas(table).to_csv(unfinished, index=False, float_format=float_format)


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """A table in which a spreadsheet takes no text for a formula: what would be one begins with an apostrophe."""
    table = table.rename(columns=lambda name: f"'{name}" if _is_formula(name) else name)
    for name, column in table.items():
        if column.dtype.kind == "O" and (formulas := column.map(_is_formula).astype(bool)).any():
            text = column.astype(object)
            table = table.assign(**{str(name): text.mask(formulas, "'" + text[formulas].astype(str))})
    return table


def _is_formula(value: object) -> bool:
    if not isinstance(value, str) or not value.startswith(STARTS_OF_FORMULAS):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False  # a negative number


def write_json(content: object, path: Path) -> None:
    write_text(json.dumps(content, indent=1) + "\n", path)


def write_text(text: str, path: Path) -> None:
    with appears_whole(path) as unfinished:
        unfinished.write_text(text)
