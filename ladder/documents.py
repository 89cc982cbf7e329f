"""Documents as ragged arrays of tokens, and their packing into training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONTEXT_WEIGHT, ANSWER_WEIGHT = 0.05, 1.0


@dataclass(frozen=True)
class Documents:
    """Many documents end to end.

    ``tokens`` (total,) token ids; ``weights`` (total,) weight of predicting each token in the training loss;
    ``lengths`` (documents,) tokens in each document.
    """

    tokens: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self):
        return iter(np.split(self.tokens, np.cumsum(self.lengths)[:-1]))

    @classmethod
    def from_grid(cls, tokens: np.ndarray, is_answer: np.ndarray, keep: np.ndarray | None = None) -> Documents:
        """Documents from a rectangle: a row is a document; cells that ``keep`` marks False are left out.

        Shapes: ``tokens`` (documents, longest); ``is_answer`` and ``keep`` broadcast to it.
        """
        keep = np.ones(tokens.shape, bool) if keep is None else np.broadcast_to(keep, tokens.shape)
        weights = np.where(np.broadcast_to(is_answer, tokens.shape), ANSWER_WEIGHT, CONTEXT_WEIGHT)
        return cls(tokens[keep].astype(np.int64), weights[keep].astype(np.float32), keep.sum(1))

    @classmethod
    def concatenate(cls, parts: Sequence[Documents]) -> Documents:
        return cls(
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate([part.lengths for part in parts]),
        )

    def shuffled(self, rng: np.random.Generator) -> Documents:
        order = rng.permutation(len(self))
        starts = np.cumsum(self.lengths) - self.lengths
        lengths = self.lengths[order]
        offsets = np.repeat(starts[order] - (np.cumsum(lengths) - lengths), lengths)
        index = np.arange(len(self.tokens)) + offsets
        return Documents(self.tokens[index], self.weights[index], lengths)


def pack(documents: Documents, row_length: int, padding: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole documents in rows, none cut: (rows, row_length) token ids, and the weight of predicting each.

    Raises ValueError when a document is longer than a row.
    """
    if documents.lengths.max() > row_length:
        raise ValueError(f"a document of {documents.lengths.max()} tokens does not fit rows of {row_length}")
    ends = np.cumsum(documents.lengths)
    row_starts = [0]
    while (used := row_starts[-1]) < ends[-1]:
        row_starts.append(int(ends[np.searchsorted(ends, used + row_length, side="right") - 1]))
    row_starts = np.array(row_starts)
    row = np.repeat(np.arange(len(row_starts) - 1), np.diff(row_starts))
    column = np.arange(ends[-1]) - row_starts[row]
    tokens = np.full((len(row_starts) - 1, row_length), padding, dtype=np.int64)
    weights = np.zeros(tokens.shape, dtype=np.float32)
    tokens[row, column] = documents.tokens
    weights[row, column] = documents.weights
    return tokens, weights
