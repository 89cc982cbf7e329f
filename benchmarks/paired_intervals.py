"""How often 95 % intervals of a paired difference cover it, and how wide they are: computed exactly, not simulated.

    python benchmarks/paired_intervals.py

Items are right or wrong; lost ones occur with one chance, gained ones with another, and every pair of chances counts
alike. Printed is a table in Markdown: for each number of items and method the worst and the mean coverage, and the mean
width in points.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from scipy import stats

from stratalaw.damage.paired import QUANTILE, Floats, paired_interval

ITEMS = (10, 20, 50, 200, 1000)
CHANCES = (0.002, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1)
MOST = 160  # flips of a kind, beyond which there are none
BISECTIONS = 50

Intervals = Callable[[Floats, Floats, int], tuple[Floats, Floats]]


def bonett_price(lost: Floats, gained: Floats, n: int) -> tuple[Floats, Floats]:
    """As the library computes it."""
    flips = (np.repeat([-1.0, 1.0, 0.0], [int(b), int(c), int(n - b - c)]) for b, c in zip(lost, gained, strict=True))
    low, high = np.transpose([paired_interval(differences) for differences in flips])
    return low, high


def wald(lost: Floats, gained: Floats, n: int) -> tuple[Floats, Floats]:
    mean = (gained - lost) / n
    half = QUANTILE * np.sqrt(np.maximum((gained + lost) / n - mean**2, 0) / n)
    return mean - half, mean + half


def tango(lost: Floats, gained: Floats, n: int) -> tuple[Floats, Floats]:
    """The differences that a score test does not reject (Tango, Statistics in Medicine 17, 1998)."""
    high = _highest(gained, lost, n)
    return -_highest(lost, gained, n), high


def _highest(gained: Floats, lost: Floats, n: int) -> Floats:
    low, high = (gained - lost) / n, np.ones(len(gained))
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        b = (2 * n - gained + lost) * middle - gained - lost
        rare = (np.sqrt(np.maximum(b**2 + 8 * n * lost * middle * (1 - middle), 0)) - b) / (4 * n)
        variance = n * (2 * rare + middle * (1 - middle))
        is_rejected = gained - lost - n * middle < -QUANTILE * np.sqrt(np.maximum(variance, 1e-300))
        low, high = np.where(is_rejected, low, middle), np.where(is_rejected, middle, high)
    return low


def main() -> None:
    print("| items | method | worst coverage, % | mean coverage, % | mean width, points |\n|---|---|---|---|---|")
    for n in ITEMS:
        lost, gained = (counts.ravel().astype(float) for counts in np.indices([min(n, MOST) + 1] * 2))
        lost, gained = lost[lost + gained <= n], gained[lost + gained <= n]
        methods: dict[str, Intervals] = {"Bonett and Price": bonett_price, "Wald": wald, "Tango": tango}
        for name, method in methods.items():
            low, high = method(lost, gained, n)
            covered, width = [], []
            for p, q in product(CHANCES, repeat=2):
                chance = stats.binom.pmf(lost + gained, n, p + q) * stats.binom.pmf(lost, lost + gained, p / (p + q))
                covered.append(chance[(low - 1e-12 <= q - p) & (q - p <= high + 1e-12)].sum())
                width.append(chance @ (high - low))
            numbers = (100 * min(covered), 100 * float(np.mean(covered)), 100 * float(np.mean(width)))
            print(f"| {n} | {name} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |", flush=True)


if __name__ == "__main__":
    main()
