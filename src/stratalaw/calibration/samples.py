"""Calibration sets: prefixes of one seeded permutation of a corpus, each sample of exactly as many tokens as asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from stratalaw.errors import StratalawError


class CorpusError(StratalawError):
    """A corpus that samples cannot be drawn from; the message is one line."""


def read_corpus(path: Path) -> list[str]:
    """The texts of a JSON Lines file with a ``text`` in each line; one whose name ends in .gz is unpacked.

    Raises:
        CorpusError: a line is not such an object (the message names the line), or the file is not gzip, or cut short.
    """
    texts = []
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = json.loads(line)["text"]
                except (json.JSONDecodeError, KeyError, TypeError):
                    raise CorpusError(f'{path}: line {number} is not a JSON object with the key "text"') from None
                texts.append(text)
    except (gzip.BadGzipFile, EOFError) as error:
        raise CorpusError(f"{path}: not a gzip file, or cut short ({error})") from None
    return texts


def sample(
    texts: list[str],
    tokenize: Callable[[str], list[int]],
    *,
    samples: int,
    tokens: int,
    seed: int,
    is_allowed: Callable[[str], bool] = lambda text: True,
) -> pd.DataFrame:
    """Draw a calibration set; of two sets with the same seed the smaller is a prefix of the larger.

    Texts are visited in a random order; those shorter than ``tokens`` and those not allowed are skipped, longer
    ones are cut.

    Returns:
        One row for each sample: ``text`` (its place in the corpus) and ``tokens`` (token ids, all of the same length).

    Raises:
        CorpusError: too few texts are long enough and allowed.
    """
    rows = []
    for place, ids in _long_enough(texts, tokenize, tokens, seed):
        if not is_allowed(texts[place]):
            continue
        rows.append({"text": place, "tokens": ids[:tokens]})
        if len(rows) == samples:
            return pd.DataFrame(rows)
    raise CorpusError(
        f"only {len(rows)} of {len(texts)} texts have {tokens} tokens and may be used; {samples} samples are needed"
    )


def _long_enough(
    texts: list[str], tokenize: Callable[[str], list[int]], tokens: int, seed: int
) -> Iterator[tuple[int, list[int]]]:
    """The place and the token ids of each text that has as many tokens as asked, in a random order."""
    for place in np.random.default_rng(seed).permutation(len(texts)):
        ids = tokenize(texts[place])
        if len(ids) >= tokens:
            yield int(place), ids
