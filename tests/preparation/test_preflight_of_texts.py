"""Preflight looks at data sets and the calibration text too."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.layout import Results
from stratalaw.preparation.preflight import preflight
from stratalaw.study import read_study
from tests.hub_server import HubRepository

TEXTS, QUESTIONS, OTHER = ("a" * 40, "b" * 40, "c" * 40)
STUDY = """\
name: example
models: [{{name: local, source: {model}, family: f}}]
grids: [{{bits: [4], group_size: [128], calibration_size: [8]}}]
calibration: {{corpus: {corpus}, {dataset}tokens: 256}}
evaluation:
  tasks_folder: {tasks}
  strata: {{recall: [{{task: recall, metric: exact_match, chance: 0, revision: {revision}}}]}}
"""
TASK = {
    "task": "recall", "dataset_path": "someone/questions", "output_type": "generate_until", "test_split": "test",
    "metric_list": [{"metric": "exact_match"}],
}  # fmt: skip


@pytest.fixture
def study_file(hub, tmp_path, small_model_folder, monkeypatch, waits):
    """Writes a study whose texts and questions are on the Hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub.repositories["datasets/someone/texts"] = HubRepository(TEXTS, {"en/texts.jsonl": b"{}\n"})
    hub.repositories["datasets/someone/questions"] = HubRepository(QUESTIONS, {"test.jsonl": b"{}\n"})
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "recall.yaml").write_text(json.dumps(TASK))

    def write(corpus="en/texts.jsonl", dataset=f"dataset: someone/texts, revision: {TEXTS}, ", revision=QUESTIONS):
        path = tmp_path / "study.yaml"
        given = {"model": small_model_folder, "tasks": tmp_path / "tasks"}
        path.write_text(STUDY.format(corpus=corpus, dataset=dataset, revision=revision, **given))
        return path

    return write


def problems(path: Path, results: Path) -> list[str]:
    return preflight(read_study(path), str(path), 80e9, Results(results)).problems


def test_texts_that_can_be_read_are_no_problem(study_file, tmp_path):
    assert problems(study_file(), tmp_path) == []


def test_a_data_set_without_owner_in_its_name_can_be_read_at_its_commit_alone(hub, study_file, tmp_path):
    path, task = study_file(), tmp_path / "tasks" / "recall.yaml"
    task.write_text(task.read_text().replace("someone/questions", "xnli"))
    hub.renamed["datasets/xnli"] = "datasets/someone/questions"
    assert problems(path, tmp_path) == []
    assert problems(study_file(revision=OTHER), tmp_path)[0].startswith(f"{hub.endpoint}/datasets/xnli has no commit")


def test_a_wrong_commit_a_missing_file_and_a_gated_data_set_are_one_line_each(hub, study_file, tmp_path):
    found = problems(study_file(corpus="en/absent.jsonl", revision=OTHER), tmp_path)
    assert found == [
        f"{hub.endpoint}/datasets/someone/texts has no file absent.jsonl at commit {TEXTS}",
        f"{hub.endpoint}/datasets/someone/questions has no commit {OTHER}; "
        "correct the revision, or delete it and run stratalaw pin",
    ]
    hub.repositories["datasets/someone/questions"].gated = True
    assert problems(study_file(), tmp_path)[0].startswith(f"{hub.endpoint}/datasets/someone/questions is gated: accept")


def test_a_hub_that_is_down_is_one_line_for_all(study_file, tmp_path, monkeypatch):
    path = study_file()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (found,) = problems(path, tmp_path)
    assert found.startswith("http://127.0.0.1:9 cannot be reached")


def test_what_is_there_already_and_all_when_offline_is_not_asked_for(hub, study_file, tmp_path, monkeypatch):
    path = study_file(corpus="en/absent.jsonl", revision=OTHER)
    study, results = read_study(path), Results(tmp_path / "results")
    for made in (results.corpus(study.calibration), results.documents("local", "recall")):
        made.parent.mkdir(parents=True)
        made.write_text(8 * (json.dumps({"text": "word " * 300}) + "\n"))
    assert problems(path, tmp_path / "results") == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert problems(path, tmp_path) == []
    assert hub.requests == []


def test_calibration_text_that_is_not_there_is_one_line(study_file, tmp_path):
    path = study_file(corpus="absent.jsonl", dataset="")
    assert problems(path, tmp_path) == ["calibration.corpus: there is no file absent.jsonl"]
    result = CliRunner().invoke(app, ["preflight", str(path)])
    assert result.exit_code == 1 and "Problem: calibration.corpus: there is no file absent.jsonl" in result.output


def test_a_data_set_without_a_commit_is_one_line(study_file, tmp_path):
    path = study_file()
    path.write_text(path.read_text().replace(f", revision: {QUESTIONS}", ""))
    assert problems(path, tmp_path) == [
        "evaluation.strata.recall: recall: the revision of its data set someone/questions is missing; "
        f"run: stratalaw pin {path}"
    ]


def test_a_text_that_is_too_short_for_the_calibration_sets_is_a_problem(study_file, tmp_path):
    path, corpus = study_file(corpus="texts.jsonl", dataset=""), tmp_path / "texts.jsonl"
    long, short = (json.dumps({"text": "word " * times}) + "\n" for times in (300, 3))
    corpus.write_text(short * 5 + long * 8)
    assert problems(path, tmp_path) == []
    corpus.write_text(short * 5 + long * 7)
    asked = "grids: calibration_size asks for 8 texts of 256 tokens (by the tokenizer of local), and"
    assert problems(path, tmp_path) == [f"{asked} {corpus} has 7"]
    corpora = f"corpora: {{a: {corpus}}}, mixtures: {{only_a: {{a: 1}}}}, tokens"
    of_mixture = path.read_text().replace("tokens", corpora, 1).replace("[8]", "[8], calibration_mixture: [only_a]", 1)
    path.write_text(of_mixture.replace(f"corpus: {corpus.name}, ", ""))
    assert problems(path, tmp_path) == [f"{asked} {corpus} has 7"]
    corpus.write_text(long + "text\n")
    assert problems(path, tmp_path) == [f'{corpus}: line 2 is not a JSON object with the key "text"']


def test_an_unknown_task_is_a_problem(study_file, tmp_path):
    path = study_file()
    path.write_text(path.read_text().replace("task: recall,", "task: recal,"))
    tasks = tmp_path / "tasks"
    expected = f"evaluation.strata.recall: the folder {tasks} has no task recal; allowed: recall"
    assert problems(path, tmp_path) == [expected]
