"""Calibration texts that share words with benchmark items, which would leak the test into calibration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

WORD = re.compile(r"\w+")


class Overlap:
    """Whether texts share ``words`` consecutive words with any benchmark item; counts those that do.

    Case and punctuation do not matter. Shorter texts share nothing.

    Attributes:
        overlapping: number of texts seen so far that share words with an item.
    """

    def __init__(self, items: Iterable[str], words: int) -> None:
        self._words = words
        self._runs = {run for item in items for run in self._runs_of(item)}
        self.overlapping = 0

    def is_free(self, text: str) -> bool:
        """Whether a text shares no run of words with an item; counts it if it does."""
        shares = any(run in self._runs for run in self._runs_of(text))
        self.overlapping += shares
        return not shares

    def _runs_of(self, text: str) -> Iterator[int]:
        """A hash of each run of words."""
        words = WORD.findall(text.lower())
        for start in range(len(words) - self._words + 1):
            yield hash(" ".join(words[start : start + self._words]))


def item_texts(arguments: Iterable[str]) -> set[str]:
    """What is asked, examples and answers included, from the arguments of recorded requests."""
    return {"".join(part for part in json.loads(argument) if isinstance(part, str)) for argument in set(arguments)}
