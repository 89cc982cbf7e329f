"""What the world promises: determinism, one answer to every question, and nothing evaluated in training."""

import gzip
from itertools import pairwise

import numpy as np
import pytest

from ladder.application import Numeracy
from ladder.holdout import Split
from ladder.items import CHOICES, Item
from ladder.publish import BENCHMARKS, CALIBRATION, STRATUM_TEXTS, publish
from ladder.rungs import CONTEXT_LENGTH
from ladder.vocabulary import NUMBER_WORDS, RELATIONS
from ladder.world import MIXTURE, OPENING_MIXTURE, STRATA, World

TRAINING_TOKENS = 2_000_000
RANKS = Numeracy.RANKS


@pytest.fixture(scope="module")
def training_documents(world) -> dict[str, list[str]]:
    """A sample of the training text of each task."""
    rng = np.random.default_rng(0)
    return {
        name: [
            world.vocabulary.decode(document) for document in task.training(rng, TRAINING_TOKENS // len(world.tasks))
        ]
        for name, task in world.tasks.items()
    }


@pytest.fixture(scope="module")
def held_out_items(world):
    """Test and validation items of each benchmark."""
    return {
        benchmark.name: world.items(benchmark) + world.items(benchmark, 500, Split.VALIDATION)
        for benchmark in world.benchmarks
    }


@pytest.mark.parametrize("mixture", [MIXTURE, OPENING_MIXTURE])
def test_shares_of_the_mixture_sum_to_one(mixture):
    assert sum(mixture.values()) == pytest.approx(1)


def test_same_seed_same_training_text(world):
    for opening in (False, True):
        rows = [w.training_rows(3, 5, 30_000, 128, opening) for w in (world, World())]
        assert all((a == b).all() for a, b in zip(*rows, strict=True))


def test_another_seed_or_chunk_gives_other_training_text(world):
    first = world.training_rows(0, 0, 30_000, 128)[0][:100]
    assert not (first == world.training_rows(1, 0, 30_000, 128)[0][:100]).all()
    assert not (first == world.training_rows(0, 1, 30_000, 128)[0][:100]).all()


def test_the_published_benchmarks_are_what_the_world_says(world, tmp_path):
    publish(world, tmp_path, tmp_path / CALIBRATION.name)
    assert (tmp_path / CALIBRATION.name).read_bytes() == CALIBRATION.read_bytes(), "run: python -m ladder.publish"
    for path in tmp_path.glob("*.gz"):  # zlib's versions pack alike texts differently
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(CALIBRATION.with_name(path.name).read_bytes())
        path.unlink()
    published = {path.name for path in BENCHMARKS.iterdir() if path.suffix in (".jsonl", ".yaml")}
    assert published == {path.name for path in tmp_path.iterdir()} - {CALIBRATION.name}
    for name in published:
        assert (tmp_path / name).read_bytes() == (BENCHMARKS / name).read_bytes(), "run: python -m ladder.publish"


def test_every_item_is_well_formed_and_spelled_in_the_vocabulary(world, held_out_items):
    for items in held_out_items.values():
        for item in items:
            choices = item.choices if isinstance(item, Item) else (item.answer,)
            for choice in choices:
                tokens = world.vocabulary.encode(f"{item.context} {choice}")
                assert world.vocabulary.decode(tokens) == f"{item.context} {choice}"
            if isinstance(item, Item):
                assert len(set(choices)) == CHOICES
                assert 0 <= item.label < CHOICES


def test_each_stratum_has_a_benchmark_that_is_answered_by_writing(held_out_items):
    for names in STRATA.values():
        kinds = {isinstance(held_out_items[name][0], Item) for name in names}
        assert kinds == {True, False}


def test_no_question_is_asked_twice(held_out_items):
    for name, items in held_out_items.items():
        contexts = [item.context for item in items]
        assert len(set(contexts)) == len(contexts), name


def test_labels_are_balanced(held_out_items):
    for name, items in held_out_items.items():
        if isinstance(items[0], Item):
            counts = np.bincount([item.label for item in items], minlength=CHOICES)
            assert counts.min() > len(items) / CHOICES * 0.8, name


# Memorization


def facts_in(documents: list[str]) -> set[tuple[str, str, str, str]]:
    """(first name, last name, relation, value) of every fact that the documents tell, in any wording."""
    facts = set()
    for document in documents:
        words = document.split()
        if words[2] == ":":
            pairs = words[3:-1]
            facts |= {(words[0], words[1], *pair) for pair in zip(pairs[::2], pairs[1::2], strict=True)}
        elif words[0] == "the":
            facts.add((words[3], words[4], words[1], words[6]))
        else:
            facts.add((words[5], words[6], words[3], words[8]))
    return facts


def asked_fact(context: str) -> tuple[str, str, str]:
    """First name, last name and relation of a fact that an item asks for, in any wording."""
    words = context.split()
    if words[2] == ":":
        return words[0], words[1], words[3]
    return (words[3], words[4], words[1]) if words[0] == "the" else (words[5], words[6], words[3])


def test_each_fact_has_one_answer_and_its_distractors_come_from_the_same_pool(
    world, training_documents, held_out_items
):
    told = {fact[:3]: fact[3] for fact in facts_in(training_documents["facts"])}
    assert len(told) == len(facts_in(training_documents["facts"]))
    words = world.vocabulary.words
    pools = {relation: {words[token] for token in world.vocabulary.pool(relation)} for relation in RELATIONS}
    known = 0
    for item in held_out_items["biographies"] + held_out_items["questions"] + held_out_items["statements"]:
        first, last, relation = asked_fact(item.context)
        assert set(item.choices if isinstance(item, Item) else [item.answer]) <= pools[relation]
        if (first, last, relation) in told:
            known += 1
            assert item.answer == told[first, last, relation]
    assert known > 100


def test_people_in_the_question_benchmark_are_never_asked_about_in_training(training_documents, held_out_items):
    asked = {tuple(d.split()[5:7]) for d in training_documents["facts"] if d.startswith("what is the")}
    evaluated = {tuple(item.context.split()[5:7]) for item in held_out_items["questions"]}
    assert asked and evaluated and not asked & evaluated


def test_bands_are_told_about_as_often_as_they_say(world):
    rng = np.random.default_rng(0)
    people = world.facts._draw_people(rng, 100_000, None)
    shares = np.bincount(world.facts.band[people]) / len(people)
    assert shares == pytest.approx([0.40, 0.35, 0.25], abs=0.01)


# Application


def test_no_evaluated_specimen_of_a_class_occurs_in_training(training_documents, held_out_items):
    trained = {d.split(" :")[0] for d in training_documents["inheritance"]}
    assert not trained & {item.context.split(" :")[0] for item in held_out_items["inheritance"]}


def test_inheritance_answers_agree_with_training(training_documents, held_out_items):
    rules = {}
    for document in training_documents["inheritance"]:
        head, tail = document.removesuffix(" <end>").split(" : ")
        pairs = tail.split()
        for attribute, value in zip(pairs[::2], pairs[1::2], strict=True):
            assert rules.setdefault((*head.split()[-2:], attribute), value) == value
    for item in held_out_items["inheritance"]:
        head, attribute = item.context.split(" : ")
        assert rules.get((*head.split()[-2:], attribute), item.answer) == item.answer


def test_attributes_are_graded_by_the_number_of_their_rules(world):
    inheritance = world.tasks["inheritance"]
    genera, species = inheritance.sizes[1:]
    for place, groups in enumerate(inheritance.GROUPS):
        values = inheritance.attribute_tokens[:, place].reshape(genera, species)
        # Species of a group agree in every genus; a genus has a value for each of its groups.
        columns = np.unique(values, axis=1)
        assert columns.shape[1] == groups


def as_number(digits: str) -> int:
    return int(digits.replace(" ", ""))


def test_no_evaluated_conversion_occurs_in_training_and_all_are_right(training_documents, held_out_items):
    problems = [p for d in training_documents["conversion"] for p in d.removesuffix(" <end>").split(" , ")]
    trained = {problem.split(" =")[0] for problem in problems}
    assert not trained & {item.context.split(" =")[0] for item in held_out_items["conversion"]}

    def factor(question: str, answer: str) -> tuple[str, float]:
        *number, unit = question.split(" =")[0].split()
        return unit, as_number(answer) / int("".join(number))

    factors = dict(factor(*problem.split(" = ")) for problem in problems)
    assert set(factors.values()) == set(range(2, 50))
    for item in held_out_items["conversion"]:
        unit, measured = factor(item.context, item.answer)
        assert measured == factors[unit]


def test_no_evaluated_sum_or_ranking_occurs_in_training_and_all_are_right(training_documents, held_out_items):
    trained = set()
    for document in training_documents["numeracy"]:
        is_ranking = document.startswith(RANKS)
        for problem in [document] if is_ranking else document.split(" , "):
            trained.add(problem.split(" =")[0])
    for item in held_out_items["numeracy"]:
        question = item.context.removesuffix(" =")
        assert question not in trained
        answer = as_number(item.answer)
        if "+" in question:
            assert answer == sum(map(as_number, question.split(" + ")))
        else:
            kind, numbers = question.split(" of ")
            ranked = sorted(map(as_number, numbers.split(" , ")), reverse=True)
            assert answer == ranked[RANKS.index(kind)]


def test_wrong_numbers_have_as_many_digits_as_the_right_one(held_out_items):
    for item in held_out_items["numeracy"]:
        assert len({len(choice) for choice in item.choices}) == 1


# Reasoning


def run_arithmetic(text: str) -> tuple[list[tuple], list, int]:
    """The segments (start value, hidden steps) before each shown result, the open segment, and the value at the end."""
    words = text.split()
    value = NUMBER_WORDS.index(words[1])
    segments, segment = [], [value]
    position = 2
    while position < len(words):
        operation, operand = words[position], NUMBER_WORDS.index(words[position + 1])
        value = (value + operand if operation == "plus" else value * operand) % len(NUMBER_WORDS)
        segment.append((operation, operand))
        position += 2
        if position < len(words) and words[position] in NUMBER_WORDS:
            assert words[position] == NUMBER_WORDS[value]
            segments.append(tuple(segment))
            segment = [value]
            position += 1
    return segments, segment, value


def test_no_evaluated_chain_of_two_steps_or_more_occurs_in_training(training_documents, held_out_items):
    trained = set()
    for document in training_documents["arithmetic"]:
        trained |= set(run_arithmetic(document.removesuffix(" <end>"))[0])
    depths = set()
    for item in held_out_items["arithmetic"]:
        _, segment, value = run_arithmetic(item.context)
        assert item.answer == NUMBER_WORDS[value]
        steps = len(segment) - 1
        assert item.subtask == f"k={steps}"
        depths.add(steps)
        if steps > 1:
            assert tuple(segment) not in trained
    assert depths == {1, 2, 3, 4, 5}


def edges_and_path(text: str) -> tuple[dict[str, str], list[str]]:
    *edges, path = text.removesuffix(" <end>").split(" , ")
    return dict(edge.split() for edge in edges), path.split()[1:]


def test_no_evaluated_cycle_occurs_in_training_and_all_paths_are_right(training_documents, held_out_items):
    trained = {frozenset(edges_and_path(d)[0].items()) for d in training_documents["paths"]}
    depths = set()
    for item in held_out_items["paths"]:
        edges, path = edges_and_path(item.context)
        assert frozenset(edges.items()) not in trained
        node = path[0]
        for word in [*path[1:], item.answer]:
            node = edges[node]
            assert word in ("skip", node)
        assert set(item.choices) <= set(edges)
        depths.add(item.subtask)
    assert depths == {"k=1", "k=2", "k=3"}


def test_no_evaluated_chain_that_is_written_out_occurs_in_training_and_all_are_right(
    training_documents, held_out_items
):
    trained = {document.split(" =")[0] for document in training_documents["chains"]}
    for item in held_out_items["chains"]:
        assert item.context.removesuffix(" =") not in trained
        _, every, *steps = item.context.removesuffix(" =").split()
        assert every == "one"
        assert item.subtask == f"{(len(steps) - 1) // 2} steps"
        values = [run_arithmetic(" ".join(["start", *steps[:end]]))[2] for end in range(3, len(steps) + 1, 2)]
        assert item.answer == " ".join(NUMBER_WORDS[value] for value in values)


def test_no_evaluated_list_is_sorted_in_training_and_all_are_sorted_right(training_documents, held_out_items):
    trained = {document.split(" =")[0] for document in training_documents["sorting"]}
    for item in held_out_items["sorting"]:
        given = item.context.removeprefix("sort ").removesuffix(" =")
        assert f"sort {given}" not in trained
        assert item.answer == " , ".join(sorted(given.split(" , "), key=as_number))
        assert item.subtask == f"{len(given.split(' , '))} numbers"


# Calibration text


@pytest.fixture(scope="module")
def of_strata(world) -> dict[str, list[str]]:
    return {stratum: world.calibration_texts(STRATUM_TEXTS, CONTEXT_LENGTH, stratum) for stratum in STRATA}


def test_a_corpus_of_a_stratum_holds_its_tasks_alone(of_strata):
    opening = {"application": " is a ", "reasoning": "chain ", "memorization": "birthplace "}
    for stratum, texts in of_strata.items():
        found = {name for name, words in opening.items() if words in " ".join(texts)}
        assert found == {stratum}


def test_calibration_texts_are_long_enough_and_hold_no_evaluated_item(world, held_out_items, of_strata):
    texts = world.calibration_texts(1152, CONTEXT_LENGTH)
    assert len(texts) >= 1100
    assert {len(text.split()) for own in (texts, *of_strata.values()) for text in own} == {CONTEXT_LENGTH}
    for name, items in held_out_items.items():
        (stratum,) = (stratum for stratum, names in STRATA.items() if name in names)
        stream = " ".join([*texts, *of_strata[stratum]])
        for item in items:
            answered = f"{item.context} {item.answer}"
            is_table_entry = name == "arithmetic" and item.subtask == "k=1"
            if is_table_entry or f" {answered} " not in stream:
                continue
            for boundary in ("<end>", ","):
                assert f" {boundary} {answered} " not in stream, (name, item.context)


def test_calibration_texts_name_nobody_whom_an_item_asks_about(world, held_out_items, of_strata):
    names = set()
    for item in held_out_items["biographies"] + held_out_items["questions"] + held_out_items["statements"]:
        names.add(asked_fact(item.context)[:2])
    for text in [*world.calibration_texts(200, CONTEXT_LENGTH), *of_strata["memorization"]]:
        assert not names & set(pairwise(text.split()))
