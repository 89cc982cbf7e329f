"""Tasks whose item scores are no accuracy are refused while their requests are recorded."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from stratalaw.evaluation.harness import record_requests
from stratalaw.study import Evaluation, StudyError

MAX_LENGTH = 256
ACCURACY = "{metric: acc, aggregation: mean, higher_is_better: true}"


@pytest.fixture(scope="module")
def tokenizer(small_model_folder):
    return AutoTokenizer.from_pretrained(small_model_folder)


def write_task(folder: Path, name: str, rows: list[dict], definition: str) -> None:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {folder}/{name}.jsonl}}}}\n"
        f"test_split: test\n{definition}\n"
    )


def write_choices(folder: Path, name: str, rows: list[dict], metric: str = ACCURACY, choices: str = "choices") -> None:
    rows = [{"context": "3 + 4 =", "choices": ["7", "8"]} | row for row in rows]
    write_task(
        folder,
        name,
        rows,
        f"output_type: multiple_choice\ndoc_to_text: context\ndoc_to_choice: {choices}\ndoc_to_target: label\n"
        f"metric_list: [{metric}]",
    )


def record(tokenizer, folder: Path, name: str, metric: str = "acc"):
    benchmark = {"task": name, "metric": metric, "chance": 0}
    evaluation = Evaluation(tasks_folder=str(folder), strata={"riddles": [benchmark]})
    return record_requests(tokenizer, MAX_LENGTH, evaluation, "riddles")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"document 1: its label is 2, and its choices are 0 to 1 .*riddles\.jsonl"),
        ([5, 0], "lm-eval cannot run it: IndexError: list index out of range"),
        ([0, -1], "document 1: its label is -1, and its choices are 0 to 1"),
        (["7", "d"], "document 1: its label is 'd', which is none of its choices"),
        ([["7"], ["8"]], r"document 0: its labels are a list with '7'; lm-eval takes numbers of choices, from 0"),
        ([[0], [0, 2]], "document 1: its label is 2, and its choices are 0 to 1"),
        ([[0, 1], []], "document 1: no choice is right"),
    ],
)
def test_a_label_that_is_no_choice_is_refused(tokenizer, tmp_path, labels, message):
    write_choices(tmp_path, "riddles", [{"label": label} for label in labels])
    with pytest.raises(StudyError, match=f"riddles: {message}"):
        record(tokenizer, tmp_path, "riddles")


@pytest.mark.parametrize("labels", [[1, 0], ["8", "7"], [[0, 1], [1]]], ids=["numbers", "texts", "several"])
def test_labels_that_lm_eval_compares_with_choices_are_taken(tokenizer, tmp_path, labels):
    write_choices(tmp_path, "riddles", [{"label": label} for label in labels])
    assert len(record(tokenizer, tmp_path, "riddles")) == 4


@pytest.mark.parametrize("metric", ["f1", "mcc", "brier_score"])
def test_a_metric_of_choices_that_is_no_mean_is_refused(tokenizer, tmp_path, metric):
    write_choices(tmp_path, "riddles", [{"label": 1}], f"{{metric: {metric}}}")
    with pytest.raises(StudyError, match=f"riddles: the metric {metric} .* no accuracy"):
        record(tokenizer, tmp_path, "riddles", metric)


def test_perplexity_is_refused(tokenizer, tmp_path):
    definition = "output_type: loglikelihood\ndoc_to_text: context\ndoc_to_target: word"
    write_task(tmp_path, "next", [{"context": "a", "word": " b"}], definition)
    with pytest.raises(StudyError, match="next: the metric perplexity is no mean of item scores"):
        record(tokenizer, tmp_path, "next", "perplexity")
    assert len(record(tokenizer, tmp_path, "next", "acc")) == 1


@pytest.mark.parametrize(
    ("score", "message"),
    [
        ("100.0 * (results[0].strip() == document['word'])", "document 0: the metric share gives 100"),
        ("'much'", "lm-eval cannot run it: TypeError"),
    ],
)
def test_scores_of_code_that_are_not_from_0_to_1_are_refused(tokenizer, tmp_path, score, message):
    """Points out of a hundred show in the reference answers only: an empty text has none of them."""
    (tmp_path / "rules.py").write_text(f"def share(document, results):\n    return {{'share': {score}}}\n")
    definition = (
        "output_type: generate_until\ndoc_to_text: context\ndoc_to_target: word\n"
        "process_results: !function rules.share\n"
        "generation_kwargs: {until: ['.'], max_gen_toks: 4}\n"
        "metric_list: [{metric: share, aggregation: mean, higher_is_better: true}]"
    )
    write_task(tmp_path, "next", [{"context": "a", "word": "b"}], definition)
    with pytest.raises(StudyError, match=f"next: {message}"):
        record(tokenizer, tmp_path, "next", "share")


def write_group(folder: Path, sizes: dict[str, int], weighted: bool) -> None:
    for name, items in sizes.items():
        write_choices(folder, name, [{"label": 0}] * items)
    (folder / "all.yaml").write_text(
        f"group: all\ntask: [{', '.join(sizes)}]\n"
        f"aggregate_metric_list: [{{metric: acc, aggregation: mean, weight_by_size: {str(weighted).lower()}}}]\n"
    )


def test_a_group_that_does_not_weight_its_tasks_by_their_items_is_refused(tokenizer, tmp_path):
    write_group(tmp_path, {"many": 3, "few": 1}, weighted=False)
    with pytest.raises(StudyError, match=r"all: lm-eval does not weight .* \(1 to 3\); name the tasks one by one"):
        record(tokenizer, tmp_path, "all")


@pytest.mark.parametrize(("sizes", "weighted"), [({"many": 3, "few": 1}, True), ({"a": 2, "b": 2}, False)])
def test_a_group_whose_score_is_the_mean_over_its_items_is_taken(tokenizer, tmp_path, sizes, weighted):
    write_group(tmp_path, sizes, weighted)
    assert len(record(tokenizer, tmp_path, "all")) == 2 * sum(sizes.values())


def test_an_empty_continuation_is_named(tokenizer, tmp_path):
    write_choices(tmp_path, "riddles", [{"label": 0}, {"label": 0, "choices": ["7", ""]}])
    path = tmp_path / "riddles.yaml"
    path.write_text(path.read_text() + "target_delimiter: ''\n")
    with pytest.raises(StudyError, match="riddles: document 1: the continuation is empty"):
        record(tokenizer, tmp_path, "riddles")


def test_a_continuation_without_a_token_of_its_own_is_named(tokenizer, tmp_path):
    context, ending = next(
        (first, second)
        for first in ("a", "th", "Th", "1", "in")
        for second in "abcdefghijklmnopqrstuvwxyz0123456789"
        if len(tokenizer.encode(first + second)) <= len(tokenizer.encode(first))
    )
    rows = [{"label": 0, "choices": [" 7", " 8"]}, {"label": 0, "context": context, "choices": [ending, "8"]}]
    write_choices(tmp_path, "riddles", rows)
    path = tmp_path / "riddles.yaml"
    path.write_text(path.read_text() + "target_delimiter: ''\n")
    with pytest.raises(StudyError, match=f"riddles: document 1: no token of the continuation '{ending}' is its own"):
        record(tokenizer, tmp_path, "riddles")


def test_a_continuation_that_is_longer_than_the_model_takes_is_named(tokenizer, tmp_path):
    write_choices(tmp_path, "riddles", [{"label": 0}, {"label": 0, "choices": ["7", " 8" * 300]}])
    with pytest.raises(StudyError, match=r"riddles: document 1: the continuation has [0-9]+ tokens, .* takes 256"):
        record(tokenizer, tmp_path, "riddles")


def test_what_fails_within_lm_eval_is_named(tokenizer, tmp_path):
    (tmp_path / "rules.py").write_text("def share(document, results):\n    return {'share': 1 / len(results[0])}\n")
    definition = (
        "output_type: generate_until\ndoc_to_text: context\ndoc_to_target: word\n"
        "process_results: !function rules.share\ngeneration_kwargs: {until: ['.'], max_gen_toks: 4}\n"
        "metric_list: [{metric: share, aggregation: mean, higher_is_better: true}]"
    )
    write_task(tmp_path, "next", [{"context": "a", "word": "b"}], definition)
    with pytest.raises(StudyError, match="riddles: next: lm-eval cannot run it: ZeroDivisionError: division by zero"):
        record(tokenizer, tmp_path, "next", "share")
