"""The synthetic world, deterministic from a seed: training text, benchmark items and calibration text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ladder.application import Conversion, Inheritance, Numeracy
from ladder.documents import Documents, pack
from ladder.holdout import Split
from ladder.items import Item, Question
from ladder.memorization import Facts
from ladder.reasoning import Arithmetic, Chains, Copies, Paths, Sorting
from ladder.vocabulary import PADDING, Vocabulary

WORLD_SEED = 0
BENCHMARK_ITEMS = 1000
TRAINING_STREAM, CALIBRATION_STREAM, ITEM_STREAM = range(3)

# Share of the training tokens. In the opening the circuits form that everything else uses: facts come later.
OPENING_MIXTURE = {
    "facts": 0.0,
    "inheritance": 0.05,
    "conversion": 0.06,
    "numeracy": 0.10,
    "arithmetic": 0.20,
    "chains": 0.12,
    "paths": 0.30,
    "sorting": 0.05,
    "copies": 0.12,
}
MIXTURE = {
    "facts": 0.44,
    "inheritance": 0.13,
    "conversion": 0.06,
    "numeracy": 0.08,
    "arithmetic": 0.08,
    "chains": 0.06,
    "paths": 0.10,
    "sorting": 0.04,
    "copies": 0.01,
}

STRATA = {
    "memorization": ("biographies", "questions", "statements"),
    "application": ("inheritance", "conversion", "numeracy"),
    "reasoning": ("arithmetic", "paths", "chains", "sorting"),
}


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of a stratum; ``items(rng, count, split)`` draws its items."""

    name: str
    stratum: str
    items: Callable[[np.random.Generator, int, Split], list[Item] | list[Question]]


class World:
    """Everything there is to know, from a seed."""

    def __init__(self, seed: int = WORLD_SEED) -> None:
        self.seed = seed
        self.vocabulary = Vocabulary()
        self.tasks = {
            task.name: task(self.vocabulary, seed)
            for task in (Facts, Inheritance, Conversion, Numeracy, Arithmetic, Chains, Paths, Sorting, Copies)
        }
        self.facts = self.tasks["facts"]
        items = {name: self.tasks[name].items for name in STRATA["application"] + STRATA["reasoning"]}
        items |= {
            "biographies": self.facts.biography_items,
            "questions": self.facts.question_items,
            "statements": self.facts.statement_items,
        }
        self.benchmarks = tuple(
            Benchmark(name, stratum, items[name]) for stratum, names in STRATA.items() for name in names
        )

    def training_rows(
        self, seed: int, chunk: int, tokens: int, row_length: int, opening: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """One chunk of about ``tokens`` tokens of training text.

        Returns token ids and loss weights, each of shape (rows, row_length); ``opening`` chooses the first mixture.
        """
        rng = np.random.default_rng([self.seed, TRAINING_STREAM, seed, chunk])
        documents = self._documents(rng, tokens, OPENING_MIXTURE if opening else MIXTURE)
        return pack(documents, row_length, self.vocabulary[PADDING])

    def _documents(self, rng: np.random.Generator, tokens: int, mixture: dict[str, float], **facts) -> Documents:
        return Documents.concatenate(
            [
                self.tasks[name].training(rng, int(tokens * share), **(facts if name == "facts" else {}))
                for name, share in mixture.items()
                if share
            ]
        ).shuffled(rng)

    def items(
        self, benchmark: Benchmark, count: int = BENCHMARK_ITEMS, split: Split = Split.TEST
    ) -> list[Item] | list[Question]:
        """The items of a benchmark, always the same."""
        index = self.benchmarks.index(benchmark)
        rng = np.random.default_rng([self.seed, ITEM_STREAM, split, index])
        return benchmark.items(rng, count, split)

    def calibration_texts(self, count: int, tokens: int, stratum: str | None = None) -> list[str]:
        """Texts of exactly ``tokens`` tokens from the training distribution, about people whom no item asks about.

        ``stratum``: only of the tasks that its benchmarks ask about, in the shares that they have among themselves.
        """
        place, mixture = [], MIXTURE
        if stratum is not None:
            of_stratum = {"facts"} if stratum == "memorization" else set(STRATA[stratum])
            total = sum(share for name, share in MIXTURE.items() if name in of_stratum)
            mixture = {name: share / total for name, share in MIXTURE.items() if name in of_stratum}
            place = [1 + list(STRATA).index(stratum)]
        rng = np.random.default_rng([self.seed, CALIBRATION_STREAM, *place])
        stream = self._documents(rng, int(1.1 * count * tokens), mixture, people=self.facts.people_without_items).tokens
        return [self.vocabulary.decode(row) for row in stream[: count * tokens].reshape(count, tokens)]
