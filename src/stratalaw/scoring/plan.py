"""How requests share their beginnings, decided before any model runs.

The inputs of all requests form a prefix tree: few-shot prompt, question, choices. A *row* holds a part of it, each
shared token once, in depth-first order; a token may attend to another when that one is its ancestor, which in this
order is an interval. Where more hangs on a beginning than one row can hold, the beginning becomes a *prefix*: it runs
once, and the rows that hang on it attend to its keys and values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

SHORTEST_PREFIX = 16  # tokens; a shorter one is cheaper to repeat than to keep
TREE_TOKENS = 1024  # a tree of more becomes several, on a prefix
ROW_TOKENS = 256  # that trees are packed into: attention is dense within a row
PREFIX = -1  # stands for a batch's number in a plan's file


@dataclass(frozen=True)
class Batch:
    """Rows that run together, padded on the right.

    Attributes:
        tokens: (rows, length) token ids.
        depth: (rows, length) position of each token in its sequence, prefix included.
        end: (rows, length) place after the last descendant of each token; padding has none but itself.
        position: (positions,) flat places in (rows, length) from whose hidden state something is predicted.
        place: (predictions,) which of these positions predicts a token, in ascending order.
        target: (predictions,) the token.
        request: (predictions,) the request that it belongs to.
    """

    tokens: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    position: np.ndarray
    place: np.ndarray
    target: np.ndarray
    request: np.ndarray


@dataclass(frozen=True)
class Group:
    """Batches that hang on one prefix, (prefix,) token ids; it may be empty."""

    prefix: np.ndarray
    batches: list[Batch]


@dataclass(frozen=True)
class Plan:
    """``groups``; ``n_requests``; ``plain_tokens``: what one row for each request would run, without padding;
    ``tokens``: what the groups run, without padding."""

    groups: list[Group]
    n_requests: int
    plain_tokens: int
    tokens: int


@dataclass(frozen=True)
class Sequences:
    """Distinct inputs in lexicographic order, and who asks for them.

    ``inputs``: token ids of each; ``shared`` (sequences,): tokens that a sequence shares with the one before;
    ``first_prediction`` (sequences,): smallest depth at which something is predicted; ``requests``: of each sequence.
    """

    inputs: list[np.ndarray]
    shared: np.ndarray
    first_prediction: np.ndarray
    requests: list[list[int]]


def make_plan(
    contexts: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[int]],
    *,
    tokens_a_batch: int,
    max_length: int,
) -> Plan:
    """Arrange requests so that each shared token runs once.

    Args:
        contexts, continuations: token ids; see ``plain.score``.
        tokens_a_batch: tokens of a batch, padding included, so that results do not depend on free memory.
        max_length: tokens the model can take; longer inputs lose tokens on the left, as in lm-eval.
    """
    if not len(contexts):
        return Plan([], 0, 0, 0)
    windows = [
        np.concatenate([context, continuation]).astype(np.int64)[-(max_length + 1) :]
        for context, continuation in zip(contexts, continuations, strict=True)
    ]
    lengths = np.array([len(continuation) for continuation in continuations])
    sequences = _distinct_sequences(windows, lengths)
    tree_tokens = min(TREE_TOKENS, tokens_a_batch)
    groups, tokens = [], 0
    for prefix, units in _prefixes(sequences, tree_tokens):
        # Every row attends to the whole prefix: the longer that is, the longer are the rows.
        bins = _bins(sequences, units, prefix, min(max(ROW_TOKENS, prefix), tree_tokens))
        rows = [_Row.of(sequences, windows, lengths, members, prefix) for members in bins]
        first = units[0][0]
        groups.append(Group(sequences.inputs[first][:prefix], list(_batches(rows, prefix, tokens_a_batch))))
        tokens += prefix + sum(len(row.tokens) for row in rows)
    return Plan(groups, len(windows), int(sum(len(window) - 1 for window in windows)), tokens)


def _distinct_sequences(windows: list[np.ndarray], lengths: np.ndarray) -> Sequences:
    by_input: dict[bytes, list[int]] = {}
    for request, window in enumerate(windows):
        # Big-endian bytes sort as the token ids do.
        by_input.setdefault(window[:-1].astype(">i8").tobytes(), []).append(request)
    keys = sorted(by_input)
    inputs = [np.frombuffer(key, dtype=">i8").astype(np.int64) for key in keys]
    shared = np.zeros(len(inputs), dtype=np.int64)
    for i in range(1, len(inputs)):
        length = min(len(inputs[i - 1]), len(inputs[i]))
        differs = np.flatnonzero(inputs[i - 1][:length] != inputs[i][:length])
        shared[i] = differs[0] if len(differs) else length
    requests = [by_input[key] for key in keys]
    first = [min(len(inputs[i]) - lengths[r] for r in members) for i, members in enumerate(requests)]
    return Sequences(inputs, shared, np.array(first), requests)


def _tree_tokens(sequences: Sequences, first: int, stop: int, prefix: int) -> int:
    """Tokens of the tree of some neighbouring sequences, without a prefix that they share."""
    own = sum(len(sequences.inputs[i]) for i in range(first, stop))
    return int(own - sequences.shared[first + 1 : stop].sum() - prefix)


def _prefixes(sequences: Sequences, tree_tokens: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """Prefixes (their lengths) with the units that hang on them: runs (first, stop) of sequences that stay together."""
    units: dict[tuple[int, int], list[tuple[int, int]]] = {}
    stack = [(0, len(sequences.inputs), 0, 0)]
    while stack:
        first, stop, prefix, prefix_of = stack.pop()
        if stop - first == 1 or _tree_tokens(sequences, first, stop, prefix) <= tree_tokens:
            units.setdefault((prefix_of, prefix), []).append((first, stop))
            continue
        common = int(sequences.shared[first + 1 : stop].min())
        # What is predicted must not lie within a prefix, whose hidden states are not kept.
        usable = min(common, int(sequences.first_prediction[first:stop].min()))
        if usable >= prefix + SHORTEST_PREFIX:
            prefix, prefix_of = usable, first
        cuts = [first, *(first + 1 + np.flatnonzero(sequences.shared[first + 1 : stop] == common)), stop]
        stack += [(int(a), int(b), prefix, prefix_of) for a, b in pairwise(cuts)][::-1]
    for (_, prefix), members in units.items():
        yield prefix, members


def _bins(
    sequences: Sequences, units: list[tuple[int, int]], prefix: int, row_tokens: int
) -> Iterator[list[tuple[int, int]]]:
    """Units that share a row, as many as fit."""
    row, used = [], 0
    for unit in units:
        size = _tree_tokens(sequences, *unit, prefix)
        if row and used + size > row_tokens:
            yield row
            row, used = [], 0
        row.append(unit)
        used += size
    yield row


@dataclass(frozen=True)
class _Row:
    tokens: np.ndarray
    depth: np.ndarray
    end: np.ndarray
    predicts: np.ndarray  # (predictions,) places in the row
    target: np.ndarray
    request: np.ndarray

    @classmethod
    def of(cls, sequences: Sequences, windows, lengths, units: list[tuple[int, int]], prefix: int) -> _Row:
        tokens, depth, starts, branches, predicts, target, request = [], [], [], [], [], [], []
        size = 0
        for first, stop in units:
            path = np.zeros(max(len(sequences.inputs[i]) for i in range(first, stop)), dtype=np.int64)
            for i in range(first, stop):
                branch = prefix if i == first else max(int(sequences.shared[i]), prefix)
                own = sequences.inputs[i][branch:]
                path[branch : branch + len(own)] = np.arange(size, size + len(own))
                tokens.append(own)
                depth.append(np.arange(branch, branch + len(own)))
                starts.append(size)
                branches.append(branch)
                size += len(own)
                for r in sequences.requests[i]:
                    n = lengths[r]
                    predicts.append(path[len(sequences.inputs[i]) - n : len(sequences.inputs[i])].copy())
                    target.append(windows[r][-n:])
                    request.append(np.full(n, r))
        end = np.empty(size, dtype=np.int64)
        depths = np.concatenate(depth)
        # A token is over when a later sequence branches off at its depth or before; looked at from the back.
        open_until: list[tuple[int, int]] = []  # (branch, start) of later sequences, branches increasing to the end
        for k in range(len(starts) - 1, -1, -1):
            own = slice(starts[k], starts[k] + len(tokens[k]))
            limits = np.array([branch for branch, _ in open_until], dtype=np.int64)
            places = np.array([start for _, start in open_until] + [size], dtype=np.int64)
            # The first later sequence whose branch is at most the token's depth ends it.
            end[own] = (
                places[len(limits) - np.searchsorted(limits[::-1], depths[own], side="right")] if len(limits) else size
            )
            while open_until and open_until[0][0] >= branches[k]:
                open_until.pop(0)
            open_until.insert(0, (branches[k], starts[k]))
        return cls(
            np.concatenate(tokens),
            depths,
            end,
            np.concatenate(predicts),
            np.concatenate(target),
            np.concatenate(request),
        )


def _batches(rows: list[_Row], prefix: int, tokens_a_batch: int) -> Iterator[Batch]:
    """Rows of like length together, longest first, as many as fit."""
    rows = sorted(rows, key=lambda row: -len(row.tokens))
    start = 0
    while start < len(rows):
        length = len(rows[start].tokens)
        count = max(1, tokens_a_batch // (length + prefix))
        yield _batch(rows[start : start + count], length)
        start += count


def _batch(rows: list[_Row], length: int) -> Batch:
    tokens = np.zeros((len(rows), length), dtype=np.int64)
    depth = np.zeros_like(tokens)
    end = np.broadcast_to(np.arange(1, length + 1), tokens.shape).copy()
    predicts = []
    for i, row in enumerate(rows):
        own = slice(0, len(row.tokens))
        tokens[i, own], depth[i, own], end[i, own] = row.tokens, row.depth, row.end
        predicts.append(i * length + row.predicts)
    position, place = np.unique(np.concatenate(predicts), return_inverse=True)
    by_place = np.argsort(place, kind="stable")
    target, request = (np.concatenate([getattr(row, name) for row in rows]) for name in ("target", "request"))
    return Batch(tokens, depth, end, position, place[by_place], target[by_place], request[by_place])


def save_plan(plan: Plan, path: Path) -> None:
    """Write a plan as a safetensors file; its header says how many tokens run."""
    tensors = {}
    for g, group in enumerate(plan.groups):
        tensors[f"{g}.prefix"] = group.prefix.astype(np.int32)
        for b, batch in enumerate(group.batches):
            tensors |= {f"{g}.{b}.{name}": part.astype(np.int32) for name, part in vars(batch).items()}
    numbers = {"n_requests": plan.n_requests, "plain_tokens": plan.plain_tokens, "tokens": plan.tokens}
    save_file(tensors, path, {name: str(number) for name, number in numbers.items()})


def load_plan(path: Path) -> Plan:
    """A plan as ``save_plan`` wrote it."""
    groups: dict[int, dict[int, dict[str, np.ndarray]]] = {}
    with safe_open(path, "np") as file:
        for name in file.keys():  # noqa: SIM118
            group, *batch, part = name.split(".")
            members = groups.setdefault(int(group), {})
            members.setdefault(int(batch[0]) if batch else PREFIX, {})[part] = file.get_tensor(name).astype(np.int64)
        numbers = {name: int(number) for name, number in (file.metadata() or {}).items()}
    return Plan(
        [
            Group(members.pop(PREFIX)["prefix"], [Batch(**members[b]) for b in sorted(members)])
            for _, members in sorted(groups.items())
        ],
        **numbers,
    )
