"""Calibration sets: prefixes of one seeded permutation of a corpus, each sample of exactly as many tokens as asked."""

from __future__ import annotations

import gzip
import json
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, overload

import numpy as np
import pandas as pd

from stratalaw.errors import StratalawError
from stratalaw.files import sha256
from stratalaw.seals import Seal, digest_of, read_record, write_record

MAX_LINE_BYTES = 2**26
MAX_EXPANSION = 100  # text unpacks to 3 to 10 times its size
ALWAYS_UNPACKED = 10**8
CHUNK_BYTES = 2**20


class CorpusError(StratalawError):
    """A corpus that samples cannot be drawn from; the message is one line."""


class Corpus(Sequence[str]):
    """The texts of a corpus, each read from the disk when it is asked for: a corpus may be larger than memory.

    Args:
        file: JSON Lines with a ``text`` in each line, open for reading bytes; it stays open.
        path: its name, for messages.

    Raises:
        CorpusError: a line is not such an object, or longer than ``MAX_LINE_BYTES``; the message names the line.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._starts = array("Q")
        start = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number = len(self._starts) + 1
            if len(line) > MAX_LINE_BYTES:
                raise CorpusError(f"{path}: line {number} is longer than {MAX_LINE_BYTES >> 20} MiB")
            if _text_of(line) is None:
                raise CorpusError(f'{path}: line {number} is not a JSON object with the key "text"')
            self._starts.append(start)
            start += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        self._file.seek(self._starts[place])
        text = _text_of(self._file.readline())
        assert text is not None  # every line was looked at
        return text


def _text_of(line: bytes) -> str | None:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return text if isinstance(text, str) else None


def read_corpus(path: Path) -> Corpus:
    """The texts of a JSON Lines file with a ``text`` in each line; one whose name ends in .gz is unpacked to the disk.

    Raises:
        CorpusError: a line is not such an object (the message names the line), or the file is not gzip, cut short, or
            unpacks to many times what text does.
    """
    return Corpus(_unpacked(path) if path.suffix == ".gz" else path.open("rb"), path)


def _unpacked(path: Path) -> IO[bytes]:
    """The content of a gzip file, in a file without a name that is gone when it is closed."""
    most = max(MAX_EXPANSION * path.stat().st_size, ALWAYS_UNPACKED)
    unpacked, size = TemporaryFile(), 0  # noqa: SIM115 (the corpus reads it)
    try:
        with gzip.open(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                if size > most:
                    raise CorpusError(f"{path}: unpacks to over {MAX_EXPANSION} times its size, unlike text")
                unpacked.write(chunk)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: not a gzip file, or cut short ({error})") from None
    unpacked.seek(0)
    return unpacked


def sample(
    texts: Sequence[str],
    tokenize: Callable[[str], list[int]],
    *,
    samples: int,
    tokens: int,
    seed: int,
    is_allowed: Callable[[str], bool] = lambda text: True,
) -> pd.DataFrame:
    """Draw a calibration set; of two sets with the same seed the smaller is a prefix of the larger. It may be empty.

    Texts are visited in a random order; those shorter than ``tokens`` and those not allowed are skipped, longer
    ones are cut.

    Returns:
        One row for each sample: ``text`` (its place in the corpus) and ``tokens`` (token ids, all of the same length).

    Raises:
        CorpusError: too few texts are long enough and allowed.
    """
    rows: list[dict[str, object]] = []
    if samples == 0:
        return pd.DataFrame(rows, columns=["text", "tokens"])
    for place, text, ids in _long_enough(texts, tokenize, tokens, seed):
        if not is_allowed(text):
            continue
        rows.append({"text": place, "tokens": ids[:tokens]})
        if len(rows) == samples:
            return pd.DataFrame(rows)
    raise CorpusError(
        f"only {len(rows)} of {len(texts)} texts have {tokens} tokens and may be used; {samples} samples are needed"
    )


def turns(parts: Sequence[float], samples: int) -> list[int]:
    """Which corpus each sample of a mixture is from, by its place in ``parts``.

    The first samples have the shares of all of them to about one sample, so that smaller sets are prefixes of larger
    ones.
    """
    total = sum(map(Fraction, parts))
    shares, taken = [Fraction(part) / total for part in parts], [0] * len(parts)
    found: list[int] = []
    for count in range(1, samples + 1):
        missing = [share * count - had for share, had in zip(shares, taken, strict=True)]
        found.append(missing.index(max(missing)))
        taken[found[-1]] += 1
    return found


def counts_of(parts: Sequence[float], samples: int) -> list[int]:
    """How many samples of a mixture are from each corpus."""
    drawn = turns(parts, samples)
    return [drawn.count(place) for place in range(len(parts))]


def interleaved(draws: Sequence[pd.DataFrame], parts: Sequence[float]) -> pd.DataFrame:
    """The calibration set of a mixture from the draws of its corpora.

    Args:
        draws: of each corpus a set as ``sample`` gives it, of as many samples as ``counts_of`` says.
        parts: of each corpus.

    Returns:
        The rows of the draws in the order of ``turns``, with ``corpus``: the place of the corpus.
    """
    rests = [iter(drawn.assign(corpus=place).to_dict("records")) for place, drawn in enumerate(draws)]
    return pd.DataFrame([next(rests[place]) for place in turns(parts, sum(map(len, draws)))])


def _long_enough(
    texts: Sequence[str], tokenize: Callable[[str], list[int]], tokens: int, seed: int
) -> Iterator[tuple[int, str, list[int]]]:
    """The place, the text and the token ids of each text that has as many tokens as asked, in a random order."""
    for place in map(int, np.random.default_rng(seed).permutation(len(texts))):
        text = texts[place]
        ids = tokenize(text)
        if len(ids) >= tokens:
            yield place, text, ids


def texts_long_enough(path: Path, tokenize: Callable[[str], Sequence[int]] | None, tokens: int, wanted: int) -> int:
    """How many texts of a corpus have as many tokens as asked; no more of it is read once there are ``wanted``.

    Args:
        path: JSON Lines with a ``text`` in each line, gzipped or not.
        tokenize: token ids of a text; None where that is not known: then every text counts.
        tokens: per sample.
        wanted: the number of samples.

    Raises:
        CorpusError: a line is no object with a ``text``, or the file is not gzip or cut short.
    """
    count = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            number = 0
            while count < wanted and (line := file.readline(MAX_LINE_BYTES + 1)):
                number += 1
                if (text := _text_of(line)) is None:
                    raise CorpusError(f'{path}: line {number} is not a JSON object with the key "text"')
                count += tokenize is None or len(tokenize(text)) >= tokens
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: not a gzip file, or cut short ({error})") from None
    return count


def about_draw(seed: int, mixture: str) -> dict[str, str]:
    """What the seal of a draw says that it holds; ``mixture``: empty for one from the study's corpus."""
    return {"seed": str(seed)} | ({"mixture": mixture} if mixture else {})


def digest_of_mixture(parts: Mapping[str, float]) -> str:
    """A digest of the parts that corpora have in a mixture, for seals."""
    return digest_of(f"{name} {part!r}" for name, part in parts.items())


def record_corpus(corpus: Path, record: Path) -> None:
    """Write down the hash of a corpus that was fetched."""
    write_record({"sha256": sha256(corpus)}, record, Seal("corpus", {}, {}))


def check_recorded(corpus: Path, record: Path) -> None:
    """Raise CorpusError unless a corpus is what was fetched, and SealError where its record is damaged."""
    if read_record(record, "corpus")["sha256"] != sha256(corpus):
        raise CorpusError(f"{corpus}: changed since it was fetched; delete it and run again")
