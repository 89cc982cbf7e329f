"""Multiple-choice items: what a benchmark asks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHOICES = 4


@dataclass(frozen=True)
class Item:
    """One question with four choices, of which the one at ``label`` is right; ``subtask`` names its difficulty."""

    subtask: str
    context: str
    choices: tuple[str, ...]
    label: int


def with_distractors(rng: np.random.Generator, answer: int, candidates: np.ndarray) -> tuple[np.ndarray, int]:
    """The answer among three distinct wrong candidates, shuffled: (the four choices, the answer's place).

    Raises ValueError when fewer than three candidates differ from the answer.
    """
    wrong = np.unique(candidates[candidates != answer])
    if len(wrong) < CHOICES - 1:
        raise ValueError(f"{len(wrong)} candidates differ from the answer; {CHOICES - 1} are needed")
    choices = rng.permutation(np.append(rng.choice(wrong, CHOICES - 1, replace=False), answer))
    return choices, int(np.flatnonzero(choices == answer)[0])
