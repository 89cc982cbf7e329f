"""The training text of a seed as two arrays on disk, written by many processes, which all rungs of that seed read."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ladder.documents import ANSWER_WEIGHT
from ladder.rungs import CONTEXT_LENGTH
from ladder.world import World

CHUNK_ROWS = 4096
# Weights are whole numbers of this part of an answer's.
WEIGHT_UNIT = 0.05


@dataclass(frozen=True)
class Recipe:
    """How every rung is trained. Tokens count padding too; shares are shares of the steps."""

    tokens: int = 400_000_000
    rows_per_step: int = 128
    opening: float = 0.15  # the start of training, with the opening mixture
    warm_up: float = 0.02
    decay: float = 0.25
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    gradient_clipping: float = 1.0

    @property
    def steps(self) -> int:
        return self.tokens // (self.rows_per_step * CONTEXT_LENGTH)

    @property
    def rows(self) -> int:
        return self.steps * self.rows_per_step

    @property
    def opening_rows(self) -> int:
        return round(self.opening * self.steps) * self.rows_per_step


@dataclass(frozen=True)
class Stream:
    """``tokens`` and ``weights`` (in units of ``WEIGHT_UNIT``), (rows, CONTEXT_LENGTH), in the order of training."""

    tokens: np.ndarray
    weights: np.ndarray

    @classmethod
    def read(cls, folder: Path) -> Stream:
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "weights")))


def chunk_rows(seed: int, chunk: int, opening: bool) -> tuple[np.ndarray, np.ndarray]:
    """``CHUNK_ROWS`` rows of training text: tokens as 16-bit numbers, and weights in units of ``WEIGHT_UNIT``."""
    # A twentieth more than needed: rows end with a whole document.
    tokens, weights = World().training_rows(
        seed, chunk, int(1.05 * CHUNK_ROWS * CONTEXT_LENGTH), CONTEXT_LENGTH, opening
    )
    return (
        tokens[:CHUNK_ROWS].astype(np.int16),
        np.rint(weights[:CHUNK_ROWS] * ANSWER_WEIGHT / WEIGHT_UNIT).astype(np.uint8),
    )


def _write_chunk(folder: Path, seed: int, recipe: Recipe, place: tuple[int, int, bool]) -> None:
    chunk, first, opening = place
    last = min(first + CHUNK_ROWS, recipe.opening_rows if opening else recipe.rows)
    for name, part in zip(("tokens", "weights"), chunk_rows(seed, chunk, opening), strict=True):
        np.load(folder / f"{name}.npy", mmap_mode="r+")[first:last] = part[: last - first]


def write_stream(folder: Path, seed: int, recipe: Recipe, processes: int | None = None) -> None:
    """Write the training text of a seed into ``folder``; the same whatever the number of processes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in (("tokens", np.int16), ("weights", np.uint8)):
        np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (recipe.rows, CONTEXT_LENGTH))
    opening = [(first, True) for first in range(0, recipe.opening_rows, CHUNK_ROWS)]
    rest = [(first, False) for first in range(recipe.opening_rows, recipe.rows, CHUNK_ROWS)]
    places = [(chunk, *place) for chunk, place in enumerate(opening + rest)]
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        list(pool.map(partial(_write_chunk, folder, seed, recipe), places))
