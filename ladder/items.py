"""Items: what a benchmark asks, with choices or without."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHOICES = 5


@dataclass(frozen=True)
class Item:
    """One question with five choices, of which the one at ``label`` is right; ``subtask`` names its difficulty."""

    subtask: str
    context: str
    choices: tuple[str, ...]
    label: int

    @property
    def answer(self) -> str:
        """The right choice."""
        return self.choices[self.label]


@dataclass(frozen=True)
class Question:
    """One question that is answered by writing; ``subtask`` names its difficulty."""

    subtask: str
    context: str
    answer: str


def with_distractors(rng: np.random.Generator, answer: int, candidates: np.ndarray) -> tuple[np.ndarray, int]:
    """The answer among four distinct wrong candidates, shuffled: (the five choices, the answer's place).

    Raises ValueError when fewer than four candidates differ from the answer.
    """
    wrong = np.unique(candidates[candidates != answer])
    if len(wrong) < CHOICES - 1:
        raise ValueError(f"{len(wrong)} candidates differ from the answer; {CHOICES - 1} are needed")
    choices = rng.permutation(np.append(rng.choice(wrong, CHOICES - 1, replace=False), answer))
    return choices, int(np.flatnonzero(choices == answer)[0])


def stop_word(questions: list[Question]) -> str:
    """What ends a written answer where the text goes on: a comma, which ends one of several problems, if no answer
    holds commas itself."""
    return "." if any("," in question.answer for question in questions) else ","
