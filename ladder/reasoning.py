"""Reasoning: answers that must be derived in steps from what the prompt gives.

*Arithmetic*: a running value modulo 7 is changed step by step; *paths*: edges of one closed cycle are given in
shuffled order, and a path follows them. Both show the running result after some steps and hide it after others;
k, the difficulty, is the number of steps since a result was last shown. In training some documents show nearly
every result and some nearly none, so that worked examples teach the single step on which the longer ones build.
*Chains* state all steps first; the running results, or every second of them, are written out one after the other.
*Sorting* writes given numbers in order.
"""

from __future__ import annotations

import numpy as np

from ladder.documents import Documents
from ladder.holdout import Split, hash_columns, in_split
from ladder.items import Item, Question, with_distractors
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


OPERATIONS = ("plus", "times")
MODULUS = len(NUMBER_WORDS)


def draw_steps(rng: np.random.Generator, count: int, steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start values (count,), and the operation and operand of each step, (count, steps); none is without effect."""
    operation = rng.integers(len(OPERATIONS), size=(count, steps))
    low = np.where(operation == OPERATIONS.index("times"), 2, 1)
    return rng.integers(MODULUS, size=count), operation, rng.integers(low, MODULUS)


def running_values(start: np.ndarray, operation: np.ndarray, operand: np.ndarray) -> np.ndarray:
    """Values after each step, shape (documents, steps)."""
    value, values = start, []
    for op, x in zip(operation.T, operand.T, strict=True):
        value = np.where(op == OPERATIONS.index("plus"), value + x, value * x) % MODULUS
        values.append(value)
    return np.stack(values, axis=1)


class Arithmetic:
    """``start three plus four times two zero plus two two``: sums and products modulo 7.

    Held out: a segment (the last shown value and the hidden steps after it) of two steps or more. Segments of one
    step are the tables themselves, which training must teach.
    """

    name = "arithmetic"
    DEPTHS = (1, 2, 3, 4, 5)

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary

    def segment_hashes(self, start, operation, operand, shown) -> tuple[np.ndarray, np.ndarray]:
        """Hash of the segment that ends at each step, and its number of steps; shapes (documents, steps)."""
        values, k = running_values(start, operation, operand), hidden_steps(shown)
        state, hashes = hash_columns(start), []
        for step in range(operation.shape[1]):
            state = hash_columns(state, operation[:, step], operand[:, step])
            hashes.append(state)
            state = np.where(shown[:, step], hash_columns(values[:, step]), state)
        return np.stack(hashes, axis=1), k

    def _documents(self, start, operation, operand, shown, steps=STEPS) -> Documents:
        """``steps``: how many of its steps each document has."""
        v, number = self.vocabulary, self.vocabulary.pool("number_word")
        operations = np.array([v[word] for word in OPERATIONS])
        values = running_values(start, operation, operand)
        step = np.stack([operations[operation], number[operand], number[values]], axis=2)
        keep = np.ones(step.shape, bool)
        keep[:, :, 2] = shown
        keep &= (np.arange(STEPS) < np.reshape(steps, (-1, 1)))[:, :, None]
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
            drawn = (*draw_steps(rng, 2 * count, STEPS), draw_shown(rng, 2 * count))
            hashes, k = self.segment_hashes(*drawn)
            usable = (in_split(hashes, None) | (k < 2) | ~drawn[3]).all(axis=1)
            kept.append([part[usable] for part in drawn])
        return self._documents(*(np.concatenate(parts)[:count] for parts in zip(*kept, strict=True)))

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        items = []
        for k in self.DEPTHS:
            wanted = -(-count // len(self.DEPTHS))
            contexts: dict[str, str] = {}
            while len(contexts) < wanted:
                contexts |= self._chains(rng, k, 20 * wanted, split)
            for context, answer in list(contexts.items())[:wanted]:
                choices, label = with_distractors(rng, NUMBER_WORDS.index(answer), np.arange(MODULUS))
                items.append(Item(f"k={k}", context, tuple(NUMBER_WORDS[c] for c in choices), label))
        return [items[i] for i in rng.permutation(len(items))[:count]]

    def _chains(self, rng, k: int, count: int, split: Split) -> dict[str, str]:
        """Of ``count`` random chains, whose last result comes after ``k`` steps, those of a split, with answers."""
        start, operation, operand = draw_steps(rng, count, STEPS)
        shown = draw_shown(rng, count)
        steps = rng.integers(1, STEPS - k + 1, size=(count, 1)) + k
        column = np.arange(STEPS)
        shown = np.where(column < steps - k, shown, False) | (column == steps - k - 1) | (column == steps - 1)
        if k == 1:  # every table entry is in training; the whole chain tells test from validation
            used = np.concatenate([operation + 1, operand, shown], axis=1) * np.tile(column < steps, 3)
            hashes = hash_columns(start, *used.T)
        else:
            hashes = np.take_along_axis(self.segment_hashes(start, operation, operand, shown)[0], steps - 1, axis=1)[
                :, 0
            ]
        chosen = in_split(hashes, split)
        documents = self._documents(*(part[chosen] for part in (start, operation, operand, shown, steps)))
        texts = (self.vocabulary.decode(document[:-1]) for document in documents)
        return dict(text.rsplit(" ", 1) for text in texts)


class Chains:
    """``chain two three plus four times two plus one times two = zero two``: all steps first, then results.

    Training writes every k-th of the running results (above every second), so that k - 1 are worked out unseen before
    each. Only chains with every result are asked about: with every second one, some runs of a rung got all validation
    items right and others none, which tells runs apart and not sizes.
    Held out: the whole chain; its single steps are the tables of arithmetic.
    """

    name = "chains"
    STEPS = 8
    TRAINED = (1, 2)  # k

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary

    def _draw(self, rng, count, split, k, results) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Start, operations and operands (of which each chain uses the first), and numbers of results; of a split."""
        start, operation, operand = draw_steps(rng, 2 * count if split is None else 20 * count, self.STEPS)
        results = rng.choice(results, len(start))
        used = np.arange(self.STEPS) < k * results[:, None]
        hashes = hash_columns(start, *np.where(used, operation + 1, 0).T, *np.where(used, operand, 0).T)
        usable = in_split(hashes, split)
        return tuple(part[usable][:count] for part in (start, operation, operand, results))

    def _documents(self, k, start, operation, operand, results) -> Documents:
        v, number = self.vocabulary, self.vocabulary.pool("number_word")
        operations = np.array([v[word] for word in OPERATIONS])
        rows = len(start)
        steps = np.stack([operations[operation], number[operand]], axis=2).reshape(rows, -1)
        written = number[running_values(start, operation, operand)]
        opening = [np.full(rows, v["chain"]), np.full(rows, number[k]), number[start], steps, np.full(rows, v["="])]
        grid = np.column_stack([*opening, written, np.full(rows, v["<end>"])])
        used = np.arange(self.STEPS) < k * results[:, None]
        shown = used & (np.arange(1, self.STEPS + 1) % k == 0)
        one = np.ones((rows, 1), bool)
        keep = np.column_stack([one, one, one, np.repeat(used, 2, axis=1), one, shown, one])
        return Documents.from_grid(grid, np.arange(grid.shape[1]) > 2 * self.STEPS + 3, keep)

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        parts = []
        for k in self.TRAINED:
            results = np.arange(2, self.STEPS // k + 1)
            count = int(tokens / len(self.TRAINED) / (5 + (2 * k + 1) * results.mean()))
            parts.append(self._documents(k, *self._draw(rng, count, None, k, results)))
        return Documents.concatenate(parts)

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Question]:
        documents = self._documents(1, *self._draw(rng, 2 * count, split, 1, (self.STEPS,)))
        texts = list(dict.fromkeys(self.vocabulary.decode(document[:-1]) for document in documents))[:count]
        return [
            Question(f"{self.STEPS} steps", f"{context} =", answer)
            for context, answer in (text.split(" = ") for text in texts)
        ]


class Sorting:
    """``sort 7 1 , 0 8 , 5 5 = 0 8 , 5 5 , 7 1``: two-digit numbers from the smallest to the largest.

    Difficulty is how many there are. Held out: the numbers in the order given.
    """

    name = "sorting"
    SIZES = (3, 4, 5, 6, 7, 8)
    ASKED = (4, 6, 8)
    NUMBERS = 100

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary

    def _draw(self, rng, count, split, size) -> np.ndarray:
        """Different numbers, shape (count, size)."""
        numbers = rng.random((3 * count + 64 if split is None else 40 * count, self.NUMBERS)).argpartition(size, axis=1)
        numbers = rng.permuted(numbers[:, :size], axis=1)
        return numbers[in_split(hash_columns(*numbers.T), split)][:count]

    def _documents(self, numbers) -> Documents:
        v, digit = self.vocabulary, self.vocabulary.pool("digit")
        rows, size = numbers.shape

        def listed(values, end):
            cells = np.stack([digit[values // 10], digit[values % 10], np.full(values.shape, v[","])], axis=2)
            cells[:, -1, 2] = v[end]
            return cells.reshape(rows, -1)

        grid = np.column_stack(
            [np.full(rows, v["sort"]), listed(numbers, "="), listed(np.sort(numbers, axis=1), "<end>")]
        )
        return Documents.from_grid(grid, np.arange(grid.shape[1]) > 3 * size)

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        counts = {size: int(tokens / len(self.SIZES) / (6 * size + 1)) for size in self.SIZES}
        return Documents.concatenate(
            [self._documents(self._draw(rng, count, None, size)) for size, count in counts.items()]
        )

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Question]:
        questions = []
        wanted = -(-count // len(self.ASKED))
        for size in self.ASKED:
            for document in self._documents(self._draw(rng, wanted, split, size)):
                context, answer = self.vocabulary.decode(document[:-1]).split(" = ")
                questions.append(Question(f"{size} numbers", f"{context} =", answer))
        return [questions[i] for i in rng.permutation(len(questions))[:count]]


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
