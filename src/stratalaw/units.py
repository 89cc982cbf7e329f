"""Numbers as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmgtp]?)(i?)b", re.IGNORECASE)
PREFIXES = ["", "k", "m", "g", "t", "p"]


def parse_bytes(text: str) -> int:
    """An amount of memory such as 12GB, 0.5 GB or 11.5GiB, in bytes.

    Raises:
        ValueError: anything else, a number without a unit among it.
    """
    match = AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text}: not an amount such as 12GB or 11.5GiB")
    number, prefix, is_binary = match.groups()
    return int(float(number) * (1024 if is_binary else 1000) ** PREFIXES.index(prefix.lower()))


def readable_bytes(n_bytes: float) -> str:
    """Bytes as text with three digits that count, in the unit that suits them."""
    rounded = float(f"{n_bytes:.3g}")  # first, since 999.6 GB are 1 TB
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if rounded >= size:
            amount = rounded / size
            return f"{amount:.0f} {unit}" if amount >= 100 else f"{amount:.3g} {unit}"
    return f"{rounded:.0f} B"


def readable_count(parameters: float) -> str:
    """A number of parameters as people write it, such as 0.23M or 14B."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if parameters >= size:
            return f"{parameters / size:.3g}{unit}"
    return str(int(parameters))


def counted(number: int, noun: str) -> str:
    """A number of things, such as 1 model or 1,200 models; ``noun``: one of them."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def readable_time(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, such as 0:01:30; of more than a day, the days too."""
    return str(timedelta(seconds=round(seconds)))


def points(share: float) -> str:
    """A change of accuracy in points, with its sign; what rounds to nothing has none of its own."""
    return f"{round(float(100 * share), 1) + 0.0:+.1f}"  # NumPy rounds -24.95 to -25.0
