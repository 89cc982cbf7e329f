"""Files that say what they are, what they were made from, and that they are whole.

Each file that a later stage reads carries a seal: one line of text in the metadata of a parquet or safetensors file, or
under the key ``seal`` of a JSON object, such as

    stratalaw-sha256:3f0c… kind=answers model=q1 variant=w4-g128-c32-s0 stratum=reasoning from.requests=9b1d…;

The digits are the SHA-256 of all bytes of the file, with zeros in their own place, so that no bit can change unseen, in
data, schema or seal. ``from.NAME`` are the digits of what the file was made from. The same content has the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from stratalaw.errors import StratalawError
from stratalaw.files import appears_whole

if TYPE_CHECKING:  # pandas takes half a second to load
    import pandas as pd

MARK = "stratalaw-sha256:"
DIGITS = 64
SEAL = re.compile(rf"{MARK}([0-9a-f]{{{DIGITS}}}) ([^;\"]*);".encode())
KEY = "seal"  # in the metadata of a file
FROM = "from."
OF_FOLDERS = ("model", "checkpoint", "unquantizable")  # kinds whose file stands for all of its folder


class SealError(StratalawError):
    """A file that is damaged, edited, of an older version, or about something else; the message names it."""


@dataclass(frozen=True)
class Seal:
    """What a file says of itself.

    Attributes:
        kind: such as ``answers``.
        about: such as ``{"model": "q1", "variant": "bf16", "stratum": "reasoning"}``.
        made_from: the digests of what it was made from, by name.
        digest: of its bytes.
    """

    kind: str
    about: Mapping[str, str]
    made_from: Mapping[str, str]
    digest: str = "0" * DIGITS

    def __str__(self) -> str:
        pairs = {"kind": self.kind, **self.about, **{FROM + name: digest for name, digest in self.made_from.items()}}
        return f"{MARK}{self.digest} {' '.join(f'{name}={quote(value)}' for name, value in pairs.items())};"

    @property
    def what(self) -> str:
        """What the file holds, in words."""
        return " ".join([self.kind, *(f"{name} {value}" for name, value in self.about.items())])


def digest_of(texts: Iterable[str]) -> str:
    """One digest of several, in their order."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def read_sealed(
    path: Path,
    kind: str | None = None,
    about: Mapping[str, str] | None = None,
    made_from: Mapping[str, str] | None = None,
) -> tuple[bytes, Seal]:
    """The bytes of a file and its seal, once both were found to agree.

    Args:
        path: the file.
        kind: what it must be; not checked if not given.
        about: what it must be about, as far as given.
        made_from: the digests of what it must have been made from, as far as given.

    Raises:
        SealError: the file has no seal, is not what the seal says, or is about or made from something else.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    return content, _checked(content, path, kind, about, made_from)


def _checked(
    content: bytes,
    path: Path,
    kind: str | None,
    about: Mapping[str, str] | None,
    made_from: Mapping[str, str] | None = None,
) -> Seal:
    seal = _seal_of(content, path, kind)
    wanted = Seal(kind or seal.kind, about or {}, {})
    if wanted.kind != seal.kind or any(seal.about.get(name) != value for name, value in wanted.about.items()):
        raise SealError(f"{path}: holds {seal.what}, not {wanted.what}; {_how_to_mend(path, kind)}")
    for name, digest in (made_from or {}).items():
        if seal.made_from.get(name) != digest:
            mend = _how_to_mend(path, kind)
            raise SealError(f"{path}: was made from other {name} than those that are there now; {mend}")
    return seal


def seal_of(
    path: Path,
    kind: str | None = None,
    about: Mapping[str, str] | None = None,
    made_from: Mapping[str, str] | None = None,
) -> Seal:
    """The seal of a whole file; raises as ``read_sealed`` does."""
    return read_sealed(path, kind, about, made_from)[1]


def _how_to_mend(path: Path, kind: str | None) -> str:
    return f"delete {path.parent if kind in OF_FOLDERS else 'it'} and run again"


def _seal_of(content: bytes, path: Path, kind: str | None) -> Seal:
    place = content.rfind(MARK.encode())
    found = SEAL.match(content, place) if place >= 0 else None
    if found is None:
        raise SealError(f"{path}: has no seal: damaged, edited, or of another version; {_how_to_mend(path, kind)}")
    digest = found[1].decode()
    if _digest(content, found.start(1)) != digest:
        mend = _how_to_mend(path, kind)
        raise SealError(f"{path}: damaged or edited: it is not what its seal says; {mend}")
    pairs = dict(pair.split("=", 1) for pair in found[2].decode().split(" "))
    values = {name: unquote(value) for name, value in pairs.items()}
    kind = values.pop("kind")
    made_from = {name.removeprefix(FROM): value for name, value in values.items() if name.startswith(FROM)}
    return Seal(kind, {name: value for name, value in values.items() if not name.startswith(FROM)}, made_from, digest)


def _digest(content: bytes, start: int) -> str:
    """Of all bytes, with zeros in the place of the digest."""
    view, found = memoryview(content), hashlib.sha256()
    found.update(view[:start])
    found.update(b"0" * DIGITS)
    found.update(view[start + DIGITS :])
    return found.hexdigest()


def seal_file(path: Path) -> str:
    """Fill in the digest of a file that was written with a blank seal (a ``Seal`` without a digest); returns it."""
    content = path.read_bytes()
    start = content.rfind(MARK.encode()) + len(MARK)
    digest = _digest(content, start)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(digest.encode())
    return digest


def write_table(table: pd.DataFrame, path: Path, seal: Seal) -> str:
    """Write a table as a sealed parquet file; returns its digest."""
    import pyarrow as pa
    from pyarrow import parquet

    arrow = pa.Table.from_pandas(table)
    metadata = {**(arrow.schema.metadata or {}), b"PANDAS_ATTRS": json.dumps(table.attrs), KEY: str(seal)}
    with appears_whole(path) as unfinished:
        parquet.write_table(arrow.replace_schema_metadata(metadata), unfinished)
        digest = seal_file(unfinished)
    return digest


def read_table(
    path: Path,
    kind: str,
    about: Mapping[str, str] | None = None,
    made_from: Mapping[str, str] | None = None,
    columns: Sequence[str] | None = None,
) -> tuple[pd.DataFrame, Seal]:
    """A table as ``write_table`` wrote it, and its seal, from one read; raises as ``read_sealed`` does."""
    import pandas as pd

    content, seal = read_sealed(path, kind, about, made_from)
    return pd.read_parquet(io.BytesIO(content), columns=None if columns is None else list(columns)), seal


def read_parquet(path: Path, kind: str | None = None, about: Mapping[str, str] | None = None) -> pd.DataFrame:
    """A table from anywhere; where it has a seal, it must be what the seal says, of ``kind`` and ``about`` what is
    given (SealError)."""
    import pandas as pd

    content = path.read_bytes()
    if MARK.encode() in content:
        _checked(content, path, kind, about)
    return pd.read_parquet(io.BytesIO(content))


def write_record(content: Mapping[str, Any], path: Path, seal: Seal) -> None:
    """Write an object as sealed JSON."""
    with appears_whole(path) as unfinished:
        put_record(content, unfinished, seal)


def put_record(content: Mapping[str, Any], path: Path, seal: Seal) -> None:
    """Write an object as sealed JSON into a folder that is not finished yet."""
    path.write_text(json.dumps({KEY: str(seal), **content}, indent=1) + "\n")
    seal_file(path)


def read_record(
    path: Path, kind: str, about: Mapping[str, str] | None = None, made_from: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """An object as ``write_record`` wrote it, without its seal; raises as ``read_sealed`` does."""
    content: dict[str, Any] = json.loads(read_sealed(path, kind, about, made_from)[0])
    content.pop(KEY)
    return content
