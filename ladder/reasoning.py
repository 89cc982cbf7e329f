"""Reasoning: answers that must be derived in steps from what the prompt gives.

*Arithmetic*: a running value modulo 5 is changed step by step; *paths*: edges of one closed cycle are given in
shuffled order, and a path follows them. Both show the running result after some steps and hide it after others;
k, the difficulty, is the number of steps since a result was last shown. In training some documents show nearly
every result and some nearly none, so that worked examples teach the single step on which the longer ones build.
"""

from __future__ import annotations

import numpy as np

from ladder.documents import Documents
from ladder.holdout import Split, hash_columns, in_split
from ladder.items import Item, with_distractors
from ladder.vocabulary import NUMBER_WORDS, Vocabulary

SHOW_PROBABILITIES = (0.25, 1.0)
STEPS = 8


def draw_shown(rng: np.random.Generator, count: int) -> np.ndarray:
    """Which steps show their result, shape (count, STEPS); the last always does."""
    shown = rng.random((count, STEPS)) < rng.uniform(*SHOW_PROBABILITIES, size=(count, 1))
    shown[:, -1] = True
    return shown


def hidden_steps(shown: np.ndarray) -> np.ndarray:
    """Steps since a result was last shown, counting the present one; ``shown`` is (documents, steps) booleans."""
    count = np.zeros(len(shown), dtype=np.int64)
    k = np.empty(shown.shape, dtype=np.int64)
    for step in range(shown.shape[1]):
        count += 1
        k[:, step] = count
        count[shown[:, step]] = 0
    return k


class Arithmetic:
    """``start three plus four times two four plus two one``: sums and products modulo 5.

    Held out: a segment (the last shown value and the hidden steps after it) of two steps or more. Segments of one
    step are the tables themselves, which training must teach.
    """

    name = "arithmetic"
    MODULUS = len(NUMBER_WORDS)
    OPERATIONS = ("plus", "times")
    DEPTHS = (1, 2, 3, 4)

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary

    def _draw(self, rng, count):
        operation = rng.integers(len(self.OPERATIONS), size=(count, STEPS))
        low = np.where(operation == self.OPERATIONS.index("times"), 2, 1)
        return rng.integers(self.MODULUS, size=count), operation, rng.integers(low, self.MODULUS)

    def _run(self, start, operation, operand) -> np.ndarray:
        """Values after each step, shape (documents, steps)."""
        value, values = start, []
        for op, x in zip(operation.T, operand.T, strict=True):
            value = np.where(op == 0, value + x, value * x) % self.MODULUS
            values.append(value)
        return np.stack(values, axis=1)

    def segment_hashes(self, start, operation, operand, shown) -> tuple[np.ndarray, np.ndarray]:
        """Hash of the segment that ends at each step, and its number of steps; shapes (documents, steps)."""
        values, k = self._run(start, operation, operand), hidden_steps(shown)
        state, hashes = hash_columns(start), []
        for step in range(operation.shape[1]):
            state = hash_columns(state, operation[:, step], operand[:, step])
            hashes.append(state)
            state = np.where(shown[:, step], hash_columns(values[:, step]), state)
        return np.stack(hashes, axis=1), k

    def _documents(self, start, operation, operand, shown) -> Documents:
        v, number = self.vocabulary, self.vocabulary.pool("number_word")
        operations = np.array([v[word] for word in self.OPERATIONS])
        values = self._run(start, operation, operand)
        step = np.stack([operations[operation], number[operand], number[values]], axis=2)
        keep = np.ones(step.shape, bool)
        keep[:, :, 2] = shown
        rows = len(start)
        grid = np.column_stack(
            [np.full(rows, v["start"]), number[start], step.reshape(rows, -1), np.full(rows, v["<end>"])]
        )
        keep = np.column_stack([np.ones((rows, 2), bool), keep.reshape(rows, -1), np.ones((rows, 1), bool)])
        column = np.arange(grid.shape[1])
        return Documents.from_grid(grid, (column >= 2) & ((column - 2) % 3 == 2), keep)

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        count = int(tokens / (3 + STEPS * (2 + np.mean(SHOW_PROBABILITIES))))
        kept = []
        while sum(map(len, (k[0] for k in kept))) < count:
            drawn = (*self._draw(rng, 2 * count), draw_shown(rng, 2 * count))
            hashes, k = self.segment_hashes(*drawn)
            usable = (in_split(hashes, None) | (k < 2) | ~drawn[3]).all(axis=1)
            kept.append([part[usable] for part in drawn])
        return self._documents(*(np.concatenate(parts)[:count] for parts in zip(*kept, strict=True)))

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        items, seen = [], set()
        while len(items) < count:
            k = self.DEPTHS[len(items) % len(self.DEPTHS)]
            before = int(rng.integers(1, STEPS - k + 1))
            start, operation, operand = self._draw(rng, 1)
            operation, operand = operation[:, : before + k], operand[:, : before + k]
            shown = np.zeros((1, before + k), bool)
            shown[0, :before] = draw_shown(rng, 1)[0, :before]
            shown[0, [before - 1, before + k - 1]] = True
            hashes, _ = self.segment_hashes(start, operation, operand, shown)
            if k == 1:  # every table entry is in training; the whole chain tells test from validation
                hashes = hash_columns(start, *operation.T, *operand.T, *shown.T)[:, None]
            document = self.vocabulary.decode(self._documents(start, operation, operand, shown).tokens[:-2])
            if document in seen or not in_split(hashes[0, -1], split):
                continue
            seen.add(document)
            answer = self._run(start, operation, operand)[0, -1]
            choices, label = with_distractors(rng, answer, np.arange(self.MODULUS))
            items.append(Item(f"k={k}", document, tuple(NUMBER_WORDS[c] for c in choices), label))
        return items


class Copies:
    """``path A B C ... A B C ...``: a list of nodes, said twice. No benchmark asks for it.

    It teaches the one circuit on which all reading in the prompt rests (find the earlier occurrence of a word and
    say what followed it), whose date of birth is otherwise left to luck.
    """

    name = "copies"
    NODES = 12

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        count = int(tokens / (2 * self.NODES + 2))
        node = self.vocabulary.pool("node")
        nodes = rng.permuted(np.tile(node, (count, 1)), axis=1)[:, : self.NODES]
        opening, end = (np.full(count, self.vocabulary[word]) for word in ("path", "<end>"))
        column = np.arange(2 * self.NODES + 2)
        # The first word of the repetition cannot be foreseen.
        is_answer = (column > self.NODES + 1) & (column < 2 * self.NODES + 1)
        return Documents.from_grid(np.column_stack([opening, nodes, nodes, end]), is_answer)


class Paths:
    """``A C , D A , C D , ... path A C skip A``: follow the edges of a cycle that the prompt gives, shuffled.

    ``skip`` stands where a node is passed over, so k is one more than the skips before a node.
    Held out: cycles (the set of edges), by a hash of who follows whom.
    """

    name = "paths"
    NODES = 6
    DEPTHS = (1, 2, 3)

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary
        self.nodes = len(vocabulary.pool("node"))

    def _draw(self, rng, count, split) -> np.ndarray:
        """Cycles, shape (count, NODES): each node leads to the next column's, the last to the first's."""
        cycles = rng.permuted(np.tile(np.arange(self.nodes), (3 * count + 64, 1)), axis=1)[:, : self.NODES]
        first = cycles.argmin(axis=1)[:, None]
        canonical = np.take_along_axis(cycles, (first + np.arange(self.NODES)) % self.NODES, axis=1)
        cycles = cycles[in_split(hash_columns(*canonical.T), split)]
        if len(cycles) < count:
            cycles = np.concatenate([cycles, self._draw(rng, count - len(cycles), split)])
        return cycles[:count]

    def _documents(self, rng, cycles, shown) -> Documents:
        v, node = self.vocabulary, self.vocabulary.pool("node")
        rows, steps = shown.shape
        order = rng.permuted(np.tile(np.arange(self.NODES), (rows, 1)), axis=1)[:, :, None]
        edges = np.take_along_axis(np.stack([cycles, np.roll(cycles, -1, axis=1)], axis=2), order, axis=1)
        edges = np.concatenate([node[edges], np.full((rows, self.NODES, 1), v[","])], axis=2).reshape(rows, -1)
        visited = np.where(shown, node[cycles[:, np.arange(1, steps + 1) % self.NODES]], v["skip"])
        opening = np.column_stack([edges, np.full(rows, v["path"]), node[cycles[:, 0]]])
        grid = np.column_stack([opening, visited, np.full(rows, v["<end>"])])
        is_answer = np.zeros(grid.shape, bool)
        is_answer[:, opening.shape[1] : -1] = shown
        return Documents.from_grid(grid, is_answer)

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        count = int(tokens / (3 * self.NODES + 3 + STEPS))
        return self._documents(rng, self._draw(rng, count, None), draw_shown(rng, count))

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        words, node, items = self.vocabulary.words, self.vocabulary.pool("node"), []
        for i, cycle in enumerate(self._draw(rng, count, split)):
            k = self.DEPTHS[i % len(self.DEPTHS)]
            before = int(rng.integers(0, 3))
            shown = np.zeros((1, before + k), bool)
            shown[0, :before] = shown[0, -1] = True
            context = self._documents(rng, cycle[None], shown).tokens[:-2]
            choices, label = with_distractors(rng, cycle[(before + k) % self.NODES], cycle)
            items.append(Item(f"k={k}", self.vocabulary.decode(context), tuple(words[node[c]] for c in choices), label))
        return items
