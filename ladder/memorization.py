"""Memorization: random facts about people, of which some are told often and some hardly ever.

A person has one value in each of eight relations, each value drawn uniformly from 64, so a fact holds six bits.
Three bands of people are told about with different frequency, as in natural text: the long tail is what
separates models that a short training can no longer separate by capacity alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ladder.documents import Documents
from ladder.holdout import Split
from ladder.items import Item, Question, with_distractors
from ladder.vocabulary import RELATIONS, Vocabulary


@dataclass(frozen=True)
class Band:
    """People who are told about equally often; ``share`` of all exposures goes to the band."""

    name: str
    people: int
    share: float


BANDS = (Band("common", 8192, 0.40), Band("uncommon", 16384, 0.35), Band("rare", 24576, 0.25))
WORDING_SHARES = {"biography": 0.85, "statement": 0.08, "question": 0.07}
VALUES = 64
ITEM_PEOPLE = 3000


class Facts:
    """The people, their values, and the documents and items that tell and ask about them."""

    name = "facts"

    def __init__(self, vocabulary: Vocabulary, seed: int) -> None:
        self.vocabulary = vocabulary
        self.people = sum(band.people for band in BANDS)
        rng = np.random.default_rng([seed, 1])
        first, last = vocabulary.pool("first_name"), vocabulary.pool("last_name")
        name = rng.permutation(len(first) * len(last))[: self.people]
        self.names = np.stack([first[name // len(last)], last[name % len(last)]], axis=1)
        self.values = rng.integers(VALUES, size=(self.people, len(RELATIONS)))
        self.value_tokens = np.stack(
            [vocabulary.pool(relation)[self.values[:, r]] for r, relation in enumerate(RELATIONS)], axis=1
        )
        self.band = np.repeat(np.arange(len(BANDS)), [band.people for band in BANDS])
        # Half of the people are never asked about in training: the question benchmark asks about them.
        self.asked_in_training = rng.random(self.people) < 0.5
        # Items ask about the first of these people, validation about the second, calibration text about the rest.
        order = rng.permutation(self.people)
        self.item_people = {Split.TEST: order[:ITEM_PEOPLE], Split.VALIDATION: order[ITEM_PEOPLE : 2 * ITEM_PEOPLE]}

    @cached_property
    def people_without_items(self) -> np.ndarray:
        return np.setdiff1d(np.arange(self.people), np.concatenate(list(self.item_people.values())))

    def training(self, rng: np.random.Generator, tokens: int, people: np.ndarray | None = None) -> Documents:
        """About ``tokens`` tokens of biographies, statements and questions; ``people`` restricts who occurs."""
        tokens_of_exposure = {"biography": 20 / 8, "statement": 8, "question": 10}
        exposures = tokens / sum(share * tokens_of_exposure[name] for name, share in WORDING_SHARES.items())
        draw = lambda count: self._draw_people(rng, count, people)  # noqa: E731
        asked = draw(int(exposures * WORDING_SHARES["question"] * 2))
        return Documents.concatenate(
            [
                self._biographies(rng, draw(int(exposures * WORDING_SHARES["biography"] / len(RELATIONS)))),
                self._sentences(rng, draw(int(exposures * WORDING_SHARES["statement"])), "the {} of {} {} is {}"),
                self._sentences(rng, asked[self.asked_in_training[asked]], "what is the {} of {} {} ? {}"),
            ]
        )

    def _draw_people(self, rng: np.random.Generator, count: int, people: np.ndarray | None) -> np.ndarray:
        weight = np.repeat([band.share / band.people for band in BANDS], [band.people for band in BANDS])
        if people is not None:
            weight = np.where(np.isin(np.arange(self.people), people), weight, 0)
        cumulative = np.cumsum(weight)
        return np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right")

    def _biographies(self, rng: np.random.Generator, people: np.ndarray) -> Documents:
        order = rng.permuted(np.tile(np.arange(len(RELATIONS)), (len(people), 1)), axis=1)
        grid = np.empty((len(people), 4 + 2 * len(RELATIONS)), dtype=np.int64)
        grid[:, :2] = self.names[people]
        grid[:, 2] = self.vocabulary[":"]
        grid[:, 3:-1:2] = self.vocabulary.pool("relation")[order]
        grid[:, 4:-1:2] = np.take_along_axis(self.value_tokens[people], order, axis=1)
        grid[:, -1] = self.vocabulary["<end>"]
        column = np.arange(grid.shape[1])
        return Documents.from_grid(grid, (column >= 4) & (column % 2 == 0) & (column < grid.shape[1] - 1))

    def _sentences(self, rng: np.random.Generator, people: np.ndarray, template: str) -> Documents:
        relation = rng.integers(len(RELATIONS), size=len(people))
        fillers = iter(
            (
                self.vocabulary.pool("relation")[relation],
                *self.names[people].T,
                self.value_tokens[people, relation],
            )
        )
        words = (*template.split(), "<end>")
        columns = [next(fillers) if word == "{}" else np.full(len(people), self.vocabulary[word]) for word in words]
        return Documents.from_grid(np.stack(columns, axis=1), np.arange(len(words)) == len(words) - 2)

    def biography_items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        """Facts in the wording of training, bands equally often."""
        facts = self._draw_facts(rng, count, self.item_people[split])
        return [self._item(rng, *fact, "{1} {2} : {0}") for fact in facts]

    def question_items(self, rng: np.random.Generator, count: int, split: Split) -> list[Item]:
        """Facts asked in a wording that training used for other people only, bands equally often."""
        people = self.item_people[split]
        facts = self._draw_facts(rng, count, people[~self.asked_in_training[people]])
        return [self._item(rng, *fact, "what is the {0} of {1} {2} ?") for fact in facts]

    def statement_items(self, rng: np.random.Generator, count: int, split: Split) -> list[Question]:
        """Facts to be completed by writing the value, bands equally often."""
        questions = []
        for person, relation in self._draw_facts(rng, count, self.item_people[split]):
            answer = self.vocabulary.words[self.value_tokens[person, relation]]
            context = "the {} of {} {} is".format(*self._words(person, relation))
            questions.append(Question(BANDS[self.band[person]].name, context, answer))
        return questions

    def _draw_facts(self, rng, count, people) -> list[tuple[int, int]]:
        """Pairs of person and relation, no pair twice."""
        chosen = []
        for band in range(len(BANDS)):
            of_band = people[self.band[people] == band]
            facts = rng.permutation(len(of_band) * len(RELATIONS))[: -(-count // len(BANDS))]
            chosen += [(of_band[fact // len(RELATIONS)], fact % len(RELATIONS)) for fact in facts]
        return [chosen[index] for index in rng.permutation(len(chosen))[:count]]

    def _words(self, person: int, relation: int) -> tuple[str, str, str]:
        first, last = (self.vocabulary.words[name] for name in self.names[person])
        return RELATIONS[relation], first, last

    def _item(self, rng, person: int, relation: int, wording: str) -> Item:
        answer = self.value_tokens[person, relation]
        choices, label = with_distractors(rng, answer, self.vocabulary.pool(RELATIONS[relation]))
        words = tuple(self.vocabulary.words[choice] for choice in choices)
        return Item(BANDS[self.band[person]].name, wording.format(*self._words(person, relation)), words, label)
