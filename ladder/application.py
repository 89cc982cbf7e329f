"""Application: rules that training teaches, used on cases that training never shows.

*Inheritance*: a new specimen has what its class has. *Conversion*: so many of a unit measure how much.
*Numeracy*: sums and rankings of two-digit numbers.
Which cases are held out is decided by a hash of the case (see ``holdout``).
"""

from __future__ import annotations

import numpy as np

from ladder.documents import Documents
from ladder.holdout import SLICES, Split, hash_columns, in_split
from ladder.items import Item, Question, with_distractors
from ladder.vocabulary import ATTRIBUTES, Vocabulary


def draw_cases(
    rng: np.random.Generator, count: int, split: Split | None, ranges, accept=None, slices=SLICES
) -> np.ndarray:
    """Random cases of a split, shape (count, columns); column i is uniform over ``ranges[i]`` = (low, high).

    ``accept`` maps cases to True where they may be used at all; one case in ``slices`` is the split's.
    """
    found = []
    while sum(map(len, found)) < count:
        cases = np.stack([rng.integers(low, high, size=4 * count + 64) for low, high in ranges], axis=1)
        usable = in_split(hash_columns(*cases.T), split, slices)
        found.append(cases[usable if accept is None else usable & accept(cases)])
    return np.concatenate(found)[:count]


def distinct_cases(
    rng: np.random.Generator, count: int, split: Split, ranges, accept=None, slices=SLICES
) -> np.ndarray:
    """As ``draw_cases``, and no case twice."""
    cases = draw_cases(rng, 20 * count, split, ranges, accept, slices)
    _, first = np.unique(cases, axis=0, return_index=True)
    if len(first) < count:
        raise ValueError(f"the {split.name.lower()} split holds {len(first)} cases; {count} are needed")
    return cases[np.sort(first)[:count]]


class Inheritance:
    """A specimen of a class (genus, species) has the class's attributes.

    Difficulty is graded by how finely an attribute divides the species of a genus: diet into 24 groups that
    nothing names (so 3,072 rules), habitat into 48, cover into 96, and call into the 192 species themselves (24,576
    rules).
    """

    name = "inheritance"
    GROUPS = (24, 48, 96, 192)  # of diet, habitat, cover and call

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary
        rng = np.random.default_rng([seed, 2])
        self.sizes = [len(vocabulary.pool(pool)) for pool in ("specimen", "genus", "species")]
        genus, species = np.divmod(np.arange(self.sizes[1] * self.sizes[2]), self.sizes[2])
        attributes = []
        for name, groups in zip(ATTRIBUTES, self.GROUPS, strict=True):
            group = rng.permutation(self.sizes[2])[species] % groups
            values = rng.choice(vocabulary.pool(name), (self.sizes[1], groups))
            attributes.append(values[genus, group])
        self.attribute_tokens = np.stack(attributes, axis=1)

    @property
    def _ranges(self):
        return [(0, size) for size in self.sizes]

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        v = self.vocabulary
        instances = draw_cases(rng, int(tokens * 0.85 / 15), None, self._ranges)
        specimen, genus, species = (
            v.pool(p)[c] for p, c in zip(("specimen", "genus", "species"), instances.T, strict=True)
        )
        of_instances = self._attribute_documents(
            rng, [specimen, v["is"], v["a"], genus, species, v[":"]], instances[:, 1] * self.sizes[2] + instances[:, 2]
        )
        classes = rng.integers(len(self.attribute_tokens), size=int(tokens * 0.15 / 13))
        genus, species = np.divmod(classes, self.sizes[2])
        of_classes = self._attribute_documents(
            rng, [v["every"], v.pool("genus")[genus], v.pool("species")[species], v[":"]], classes
        )
        return Documents.concatenate([of_instances, of_classes])

    def _attribute_documents(self, rng, prefix, classes) -> Documents:
        order = rng.permuted(np.tile(np.arange(len(ATTRIBUTES)), (len(classes), 1)), axis=1)
        pairs = np.stack(
            [
                self.vocabulary.pool("attribute")[order],
                np.take_along_axis(self.attribute_tokens[classes], order, axis=1),
            ],
            axis=2,
        ).reshape(len(classes), -1)
        columns = [np.broadcast_to(column, len(classes)) for column in (*prefix, self.vocabulary["<end>"])]
        grid = np.column_stack([*columns[:-1], pairs, columns[-1]])
        column = np.arange(grid.shape[1]) - len(prefix)
        return Documents.from_grid(grid, (column > 0) & (column % 2 == 1) & (column < pairs.shape[1]))

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        words, items = self.vocabulary.words, []
        for i, case in enumerate(distinct_cases(rng, count, split, self._ranges)):
            attribute = ATTRIBUTES[i % len(ATTRIBUTES)]
            specimen, genus, species = (
                words[self.vocabulary.pool(p)[c]] for p, c in zip(("specimen", "genus", "species"), case, strict=True)
            )
            answer = self.attribute_tokens[case[1] * self.sizes[2] + case[2], i % len(ATTRIBUTES)]
            choices, label = with_distractors(rng, answer, self.vocabulary.pool(attribute))
            context = f"{specimen} is a {genus} {species} : {attribute}"
            items.append(Item(attribute, context, tuple(words[c] for c in choices), label))
        return items


def digits_of(numbers: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits, shape (..., width), with leading zeros, and a mask that is False on those."""
    powers = 10 ** np.arange(width - 1, -1, -1)
    digits = np.asarray(numbers)[..., None] // powers % 10
    return digits, (np.asarray(numbers)[..., None] >= powers) | (powers == 1)


def spell(number: int) -> str:
    """A number as the world writes it: its digits, separated by spaces."""
    return " ".join(str(number))


def number_distractors(rng: np.random.Generator, answer: int, candidates) -> tuple[list[int], int]:
    """Wrong numbers of as many digits as the answer (so that length tells nothing), the answer among them."""
    candidates = np.array([c for c in candidates if c > 0 and len(str(c)) == len(str(answer))])
    choices, label = with_distractors(rng, answer, candidates)
    return [int(choice) for choice in choices], label


class Conversion:
    """Units of a table: ``7 UNIT = 4 2`` where the unit's factor (2 to 49) is 6. Held out: pairs of unit and number.

    Answers are written: among choices many could be ruled out by their digits alone.
    """

    name = "conversion"
    PROBLEMS = 4
    SLICES = 4  # the table of small numbers is small: five hundred test items take a quarter of it

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary
        units = len(vocabulary.pool("unit"))
        self.factors = np.random.default_rng([seed, 3]).permutation(np.arange(units) + 2)
        self.ranges = [(0, units), (2, 1000)]

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        v, digit = self.vocabulary, self.vocabulary.pool("digit")
        count = int(tokens / 9) // self.PROBLEMS * self.PROBLEMS
        # Half of the numbers have at most two digits.
        halves = [
            draw_cases(rng, size, None, [self.ranges[0], (2, high)], slices=self.SLICES)
            for size, high in ((count // 2, 100), (count - count // 2, 1000))
        ]
        unit, number = rng.permutation(np.concatenate(halves)).T
        (n_digits, n_keep), (a_digits, a_keep) = digits_of(number, 3), digits_of(number * self.factors[unit], 5)
        constant = np.ones((count, 1), bool)
        grid = np.column_stack(
            [digit[n_digits], v.pool("unit")[unit], constant * v["="], digit[a_digits], constant * v[","]]
        )
        keep = np.column_stack([n_keep, constant, constant, a_keep, constant])
        shape = (count // self.PROBLEMS, -1)
        is_answer = np.tile([False] * 5 + [True] * 6, self.PROBLEMS)
        grid = grid.reshape(shape)
        grid[:, -1] = v["<end>"]
        return Documents.from_grid(grid, is_answer, keep.reshape(shape))

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Question]:
        questions = []
        for digits in (2, 3):
            ranges = [self.ranges[0], (10 ** (digits - 1), 10**digits)]
            for unit, number in distinct_cases(rng, count // 2, split, ranges, slices=self.SLICES):
                factor = self.factors[unit]
                context = f"{spell(number)} {self.vocabulary.words[self.vocabulary.pool('unit')[unit]]} ="
                name = f"{digits} digits by {'2-9' if factor < 10 else '10-49'}"
                questions.append(Question(name, context, spell(int(number * factor))))
        return [questions[i] for i in rng.permutation(len(questions))]


class Numeracy:
    """Sums of two to eight numbers below 100, and rankings of seven. Held out: the numbers together."""

    name = "numeracy"
    SUMMANDS = (2, 4, 6, 8)
    RANKS = ("largest", "second", "third", "fourth")
    RANKED = 7
    PROBLEMS = 2

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary

    @staticmethod
    def _all_differ(cases: np.ndarray) -> np.ndarray:
        return (np.diff(np.sort(cases, axis=1), axis=1) > 0).all(axis=1)

    def _draw_sums(self, rng, count, split, summands, draw=draw_cases) -> np.ndarray:
        return draw(rng, count, split, [(0, 100)] * summands)

    def _draw_rankings(self, rng, count, split, draw=draw_cases) -> np.ndarray:
        return draw(rng, count, split, [(10, 100)] * self.RANKED, self._all_differ)

    def training(self, rng: np.random.Generator, tokens: int) -> Documents:
        sums = [self._sums(rng, int(tokens * 0.8 / len(self.SUMMANDS)), summands) for summands in self.SUMMANDS]
        return Documents.concatenate([*sums, self._rankings(rng, int(tokens * 0.2))])

    def _sums(self, rng, tokens, summands) -> Documents:
        v, digit = self.vocabulary, self.vocabulary.pool("digit")
        count = int(tokens / (3 * summands + 4)) // self.PROBLEMS * self.PROBLEMS
        cases = self._draw_sums(rng, count, None, summands)
        one = np.ones((count, 1), dtype=np.int64)
        columns, keep = [], []
        for i, summand in enumerate(cases.T):
            digits, kept = digits_of(summand, 2)
            columns += [digit[digits], one * v["=" if i == summands - 1 else "+"]]
            keep += [kept, one > 0]
        digits, kept = digits_of(cases.sum(axis=1), 3)
        grid = np.column_stack([*columns, digit[digits], one * v[","]]).reshape(count // self.PROBLEMS, -1)
        grid[:, -1] = v["<end>"]
        keep = np.column_stack([*keep, kept, one > 0]).reshape(grid.shape)
        return Documents.from_grid(grid, np.tile([False] * 3 * summands + [True] * 3 + [False], self.PROBLEMS), keep)

    def _rankings(self, rng, tokens) -> Documents:
        v, digit = self.vocabulary, self.vocabulary.pool("digit")
        cases = self._draw_rankings(rng, int(tokens / (3 * self.RANKED + 5)), None)
        rank = rng.integers(len(self.RANKS), size=len(cases))
        answer = np.take_along_axis(np.sort(cases, axis=1)[:, ::-1], rank[:, None], axis=1)[:, 0]
        listed = np.concatenate([digit[digits_of(cases, 2)[0]], np.full((*cases.shape, 1), v[","])], axis=2)
        listed = listed.reshape(len(cases), -1)
        listed[:, -1] = v["="]
        opening = [np.array([v[name] for name in self.RANKS])[rank], np.full(len(cases), v["of"])]
        grid = np.column_stack([*opening, listed, digit[digits_of(answer, 2)[0]], np.full(len(cases), v["<end>"])])
        place = np.arange(grid.shape[1]) - grid.shape[1]
        return Documents.from_grid(grid, (place == -3) | (place == -2))

    def items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        items = []
        for summands in self.SUMMANDS:
            for case in self._draw_sums(rng, count // 6, split, summands, distinct_cases):
                answer = int(case.sum())
                near = [answer + sign * d for sign in (-1, 1) for d in (1, 2, 9, 10, 11, 20)]
                choices, label = number_distractors(rng, answer, near + list(range(10)) * (answer < 10))
                context = f"{' + '.join(map(spell, case))} ="
                items.append(Item(f"sum of {summands}", context, tuple(map(spell, choices)), label))
        for i, case in enumerate(self._draw_rankings(rng, count - len(items), split, distinct_cases)):
            place = i % len(self.RANKS)
            rank, ranked = self.RANKS[place], np.sort(case)[::-1]
            choices, label = with_distractors(rng, ranked[place], ranked)
            items.append(Item(rank, f"{rank} of {' , '.join(map(spell, case))} =", tuple(map(spell, choices)), label))
        return [items[i] for i in rng.permutation(len(items))]
