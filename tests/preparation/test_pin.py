"""Commits are written into a study's file, and nothing else of it changes."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.preparation.checks import check_data_sets
from stratalaw.study import StudyError, read_study
from tests.hub_server import HubRepository

STUDY = """\
# A study with comments.
name: example
models:
  # one line
  - {name: tiny, source: someone/tiny, family: f}  # the smallest
  - name: small
    source: someone/small  # spelt as on its page
    family: f
  - {name: pinned, source: someone/tiny, revision: FIRST, family: f}
  - {name: local, source: FOLDER, family: f}
grids:
  - {bits: [4], group_size: [128], calibration_size: [8]}
calibration:
  corpus: en/texts.json.gz
  dataset: someone/texts
  tokens: 256
evaluation:
  tasks_folder: TASKS
  strata:
    memorization:
      - {task: recall, metric: exact_match, chance: 0}
      - {task: here, metric: exact_match, chance: 0}
"""
# A task whose data set is on the Hub, and one with a file of this machine.
TASKS = {
    "recall": {"dataset_path": "someone/questions", "output_type": "generate_until", "test_split": "test"},
    "here": {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": "items.jsonl"},
        "output_type": "generate_until",
        "test_split": "test",
    },
}
METRIC = {"metric": "exact_match"}
FIRST, TINY, SMALL, TEXTS, QUESTIONS = (digit * 40 for digit in "abcde")


@pytest.fixture
def study_file(hub, tmp_path, small_model_folder) -> Path:
    hub.repositories |= {
        "models/someone/tiny": HubRepository(TINY, {}),
        "models/someone/small": HubRepository(SMALL, {}),
        "datasets/someone/texts": HubRepository(TEXTS, {}),
        "datasets/someone/questions": HubRepository(QUESTIONS, {}),
    }
    (tmp_path / "tasks").mkdir()
    for name, task in TASKS.items():
        described = {"task": name, "doc_to_text": "question", "doc_to_target": "answer", "metric_list": [METRIC]} | task
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(described))
    path = tmp_path / "study.yaml"
    path.write_text(
        STUDY.replace("FIRST", FIRST)
        .replace("TASKS", str(tmp_path / "tasks"))
        .replace("FOLDER", str(small_model_folder))
    )
    return path


def run(path: Path):
    return CliRunner().invoke(app, ["pin", str(path)], env={"COLUMNS": "200"})


def test_commits_are_filled_in_and_shown_and_all_else_stays(hub, study_file):
    before = study_file.read_text()
    result = run(study_file)
    assert result.exit_code == 0, result.output
    expected = (
        before.replace("someone/tiny, family", f"someone/tiny, revision: {TINY}, family")
        .replace("# spelt as on its page\n", f"# spelt as on its page\n    revision: {SMALL}\n")
        .replace("dataset: someone/texts\n", f"dataset: someone/texts\n  revision: {TEXTS}\n")
        .replace("task: recall,", f"task: recall, revision: {QUESTIONS},")
    )
    assert study_file.read_text() == expected
    study = read_study(study_file)
    assert [model.revision for model in study.models] == [TINY, SMALL, FIRST, None]
    assert study.calibration.revision == TEXTS
    assert [benchmark.revision for benchmark in study.evaluation.strata["memorization"]] == [QUESTIONS, None]
    for shown in (
        TINY,
        SMALL,
        TEXTS,
        QUESTIONS,
        "evaluation.strata.memorization.0.task",
        f"{hub.endpoint}/datasets/someone/texts",
        "models.1.source",
    ):
        assert shown in result.output
    assert FIRST not in result.output


@pytest.fixture
def xnli(hub, study_file, tmp_path) -> Path:
    """The study with a data set that has no owner in its name; the Hub redirects it."""
    hub.renamed["datasets/xnli"] = "datasets/facebook/xnli"
    hub.repositories["datasets/facebook/xnli"] = HubRepository(QUESTIONS, {})
    task = tmp_path / "tasks" / "recall.yaml"
    task.write_text(task.read_text().replace("someone/questions", "xnli"))
    return study_file


def test_a_data_set_without_owner_in_its_name_is_pinned(xnli):
    assert run(xnli).exit_code == 0
    assert [benchmark.revision for benchmark in read_study(xnli).evaluation.strata["memorization"]] == [QUESTIONS, None]


def test_a_pinned_data_set_is_not_taken_for_a_folder_of_its_name(xnli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(xnli).exit_code == 0
    Path("xnli").mkdir()
    with pytest.raises(StudyError, match=r"memorization: recall: .*/xnli would be read in place of the Hub's data set"):
        check_data_sets(read_study(xnli).evaluation, "study.yaml")


def test_what_is_pinned_stays_as_it_is(hub, study_file):
    run(study_file)
    pinned = study_file.read_text()
    hub.repositories["models/someone/tiny"].commit = "f" * 40
    result = run(study_file)
    assert result.exit_code == 0 and "nothing to pin" in result.output
    assert study_file.read_text() == pinned


def test_the_last_line_may_lack_its_end(hub, study_file):
    text = study_file.read_text()
    evaluation = text[text.index("evaluation:") :]
    study_file.write_text(text.replace(evaluation, "").replace("name: example\n", f"name: example\n{evaluation}"))
    text = study_file.read_text().replace(
        "  dataset: someone/texts\n  tokens: 256\n", "  tokens: 256\n  dataset: someone/texts"
    )
    study_file.write_text(text)
    assert run(study_file).exit_code == 0
    assert read_study(study_file).calibration.revision == TEXTS


def test_an_unknown_repository_is_one_line_and_the_file_stays(hub, study_file):
    before = study_file.read_text()
    del hub.repositories["datasets/someone/texts"]
    result = run(study_file)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"{hub.endpoint}/datasets/someone/texts: the Hub has no such data set")
    assert len(result.stderr.splitlines()) == 1
    assert study_file.read_text() == before


def test_a_name_that_is_merged_in_is_one_line_and_the_file_stays(hub, study_file):
    merged = (
        study_file.read_text()
        .replace("- {name: tiny,", "- &tiny {name: tiny,")
        .replace(f"someone/tiny, revision: {FIRST}, family: f", "FOLDER, family: f")
        .replace("- {name: pinned, source: FOLDER, family: f}", "- {<<: *tiny, name: again}")
    )
    study_file.write_text(merged)
    assert read_study(study_file).models[2].source == "someone/tiny"
    result = run(study_file)
    assert (result.exit_code, study_file.read_text()) == (1, merged)
    assert (
        result.stderr
        == f"{study_file}: models.2.source: it is merged in from elsewhere; write it out to have it pinned\n"
    )


def test_a_study_that_is_none_is_one_line(tmp_path):
    result = run(tmp_path / "absent.yaml")
    assert result.exit_code == 1 and result.stderr == f"{tmp_path}/absent.yaml: there is no such file\n"


def test_a_task_that_does_not_exist_is_one_line(study_file):
    study_file.write_text(study_file.read_text().replace("task: recall", "task: recal"))
    result = run(study_file)
    assert result.exit_code == 1 and len(result.stderr.splitlines()) == 1
    assert "evaluation.strata.memorization: the folder" in result.stderr and "has no task recal" in result.stderr


def test_a_group_of_several_data_sets_must_be_named_one_by_one(study_file, tmp_path):
    for name in "ab":
        task = TASKS["recall"] | {"task": name, "dataset_path": f"someone/{name}", "metric_list": [METRIC]}
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "tasks" / "both.yaml").write_text(yaml.safe_dump({"group": "both", "task": ["a", "b"]}))
    study_file.write_text(study_file.read_text().replace("task: recall", "task: both"))
    result = run(study_file)
    assert result.exit_code == 1
    assert "the tasks of both come from several data sets (someone/a, someone/b); name them one by one" in result.stderr
