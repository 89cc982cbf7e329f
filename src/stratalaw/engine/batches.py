"""How requests share their beginnings, decided before any model runs.

The inputs of all requests form a prefix tree: few-shot prompt, question, choices. A *batch* is a stretch of the tree in
depth-first order (lexicographic order of the inputs), each shared token once. A token may attend to another when that
one is its ancestor, and in this order the descendants of a token are an interval. Where a batch ends within a tree, the
next one begins with the path to its first token, which runs again: a few hundred tokens of a batch of tens of
thousands, for which no cache of keys and values has to be kept, and every batch is as large as the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

Integers = NDArray[np.integer[Any]]
TokenIds = Sequence[int] | Integers


@dataclass(frozen=True)
class Batch:
    """Tokens that run together, one after the other without padding.

    Attributes:
        tokens: (tokens,) token ids.
        depth: (tokens,) position of each in its sequence.
        end: (tokens,) place after the last descendant of each.
        position: (positions,) places from whose hidden state something is predicted, ascending.
        place: (predictions,) which of these positions predicts a token, ascending.
        target: (predictions,) the token.
        request: (predictions,) the request that it belongs to.
    """

    tokens: Integers
    depth: Integers
    end: Integers
    position: Integers
    place: Integers
    target: Integers
    request: Integers


@dataclass(frozen=True)
class Batching:
    """``batches``; ``n_requests``; ``plain_tokens``: what one row for each request would run, without padding."""

    batches: list[Batch]
    n_requests: int
    plain_tokens: int

    @property
    def tokens(self) -> int:
        """Number of tokens that the batches run."""
        return sum(len(batch.tokens) for batch in self.batches)


@dataclass(frozen=True)
class Sequences:
    """Distinct inputs in lexicographic order, and who asks for them.

    ``inputs``: token ids of each; ``shared`` (sequences,): tokens that a sequence shares with the one before;
    ``requests``: indices of the requests that need each.
    """

    inputs: Sequence[Integers]
    shared: Integers
    requests: list[list[int]]


def make_batching(
    contexts: Sequence[TokenIds],
    continuations: Sequence[TokenIds],
    *,
    tokens_per_batch: int,
    max_length: int,
) -> Batching:
    """Arrange requests so that each shared token runs once.

    Args:
        contexts, continuations: token ids; see ``plain.log_likelihoods``.
        tokens_per_batch: limit of a batch, so that results do not depend on free memory; one sequence may exceed it.
        max_length: tokens the model can take; longer inputs lose tokens on the left, as in lm-eval.
    """
    windows = [window[-(max_length + 1) :] for window in _joined(contexts, continuations)]
    lengths = [len(continuation) for continuation in continuations]
    sequences = _distinct_sequences(windows)
    batches = [
        _batch(sequences, windows, lengths, first, stop) for first, stop in _stretches(sequences, tokens_per_batch)
    ]
    return Batching(batches, len(windows), sum(len(window) - 1 for window in windows))


def _joined(contexts: Sequence[TokenIds], continuations: Sequence[TokenIds]) -> list[Integers]:
    """Context and continuation of each request, int64; all lists become arrays at once, which is faster."""
    lengths = [len(a) + len(b) for a, b in zip(contexts, continuations, strict=True)]
    parts: Iterator[TokenIds] = chain.from_iterable(zip(contexts, continuations, strict=True))
    tokens = np.fromiter(chain.from_iterable(parts), dtype=np.int64, count=sum(lengths))
    return np.split(tokens, np.cumsum(lengths)[:-1]) if lengths else []


def _distinct_sequences(windows: list[Integers]) -> Sequences:
    by_input: dict[bytes, list[int]] = {}
    for request, window in enumerate(windows):
        # Big-endian bytes sort as the token ids do.
        by_input.setdefault(window[:-1].astype(">i8").tobytes(), []).append(request)
    keys = sorted(by_input)
    inputs = [np.frombuffer(key, dtype=">i8").astype(np.int64) for key in keys]
    shared = np.zeros(len(inputs), dtype=np.int64)
    for i in range(1, len(inputs)):
        length = min(len(inputs[i - 1]), len(inputs[i]))
        differs = inputs[i - 1][:length] != inputs[i][:length]
        first = int(differs.argmax()) if length else 0
        shared[i] = first if length and differs[first] else length
    return Sequences(inputs, shared, [by_input[key] for key in keys])


def _stretches(sequences: Sequences, tokens_per_batch: int) -> Iterator[tuple[int, int]]:
    """Runs (first, stop) of sequences that are a batch each, as many as fit."""
    first = used = 0
    for i, tokens in enumerate(sequences.inputs):
        unshared = len(tokens) - int(sequences.shared[i])
        if i > first and used + unshared > tokens_per_batch:
            yield first, i
            first, used = i, 0
        used += unshared if i > first else len(tokens)
    if sequences.inputs:
        yield first, len(sequences.inputs)


def _batch(sequences: Sequences, windows: list[Integers], lengths: Sequence[int], first: int, stop: int) -> Batch:
    tokens: list[Integers] = []
    depth: list[Integers] = []
    position: list[Integers] = []
    target: list[Integers] = []
    request: list[Integers] = []
    path = np.empty(max(len(sequences.inputs[i]) for i in range(first, stop)), dtype=np.int64)  # place at each depth
    ends, size, previous = [], 0, 0
    for i in range(first, stop):
        sequence = sequences.inputs[i]
        branch = int(sequences.shared[i]) if i > first else 0
        ends.append((path[branch:previous].copy(), size))
        path[branch : len(sequence)] = np.arange(size, size + len(sequence) - branch)
        tokens.append(sequence[branch:])
        depth.append(np.arange(branch, len(sequence)))
        size, previous = size + len(sequence) - branch, len(sequence)
        for r in sequences.requests[i]:
            position.append(path[previous - lengths[r] : previous].copy())
            target.append(windows[r][-lengths[r] :])
            request.append(np.full(lengths[r], r))
    ends.append((path[:previous], size))
    end = np.empty(size, dtype=np.int64)
    for places, here in ends:
        end[places] = here
    predicting, place = np.unique(np.concatenate(position), return_inverse=True)
    ascending = np.argsort(place, kind="stable")
    return Batch(
        np.concatenate(tokens),
        np.concatenate(depth),
        end,
        predicting,
        place[ascending],
        np.concatenate(target)[ascending],
        np.concatenate(request)[ascending],
    )


def save_batching(batching: Batching, path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write a batching as a safetensors file; its header says how many tokens run, and what it is ``about``."""
    tensors = {
        f"{number}.{name}": part.astype(np.int32)
        for number, batch in enumerate(batching.batches)
        for name, part in vars(batch).items()
    }
    numbers = {"n_requests": batching.n_requests, "plain_tokens": batching.plain_tokens, "tokens": batching.tokens}
    save_file(tensors, path, {name: str(number) for name, number in numbers.items()} | dict(about or {}))


def load_batching(path: Path) -> Batching:
    """A batching as ``save_batching`` wrote it."""
    batches: dict[int, dict[str, Integers]] = {}
    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118
            number, _, part = name.partition(".")
            batches.setdefault(int(number), {})[part] = file.get_tensor(name).astype(np.int64)
        numbers = file.metadata()
    return Batching(
        [Batch(**batches[number]) for number in sorted(batches)],
        int(numbers["n_requests"]),
        int(numbers["plain_tokens"]),
    )
