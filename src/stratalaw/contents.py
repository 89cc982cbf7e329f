"""Digests of what files outside of ``results/`` hold, at no cost once they were hashed.

The time of modification does not tell: ``rsync -a``, ``cp -p`` and ``tar`` give a changed file its former one. The time
of change (ctime) is set by the system alone, so a file is hashed again where its size, its times or its inode are
others than when it was hashed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from stratalaw.files import sha256_of
from stratalaw.seals import Seal, SealError, digest_of, read_record, write_record

KIND = "hashes"
# A file that changed so recently may change again within one tick of the system's clock, unseen.
SETTLED_SECONDS = 2


class Contents:
    """Hashes of files, kept in a file for the next look.

    Args:
        memory: the file; it may be missing, damaged or not writable, and files are then hashed anew.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory

    def digest(self, files: Sequence[Path]) -> str:
        """One digest of the names and the bytes of files; raises OSError where one cannot be read."""
        sums = self._sums(files)
        return digest_of(f"{sums[path]} {path.name}" for path in files)

    def _sums(self, files: Sequence[Path]) -> dict[Path, str]:
        known = self._remembered()
        states = {path: _state(path) for path in files}
        sums = {path: known[place][1] for path in files if known.get(place := _place(path), [""])[0] == states[path]}
        if new := [path for path in files if path not in sums]:
            asked = time.time()
            sums |= sha256_of(new)
            settled = [path for path in new if asked - path.stat().st_ctime > SETTLED_SECONDS]
            self._remember({_place(path): [states[path], sums[path]] for path in settled})
        return sums

    def _remembered(self) -> dict[str, list[str]]:
        try:
            return dict(read_record(self._memory, KIND))
        except (OSError, SealError):
            return {}

    def _remember(self, new: dict[str, list[str]]) -> None:
        if new:
            with suppress(OSError):  # a folder that may only be read
                write_record(self._remembered() | new, self._memory, Seal(KIND, {}, {}))


def _place(path: Path) -> str:
    return str(path.resolve())


def _state(path: Path) -> str:
    """What the system changes with every change of a file."""
    found = path.stat()
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
