"""What metrics need of the data sets is kept with the requests: scores ask neither the Hub nor a cache."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pandas as pd
import pytest
from lm_eval.api.task import ConfigurableTask

from stratalaw.evaluation.documents import recorded_documents, replayed_documents
from stratalaw.jobs import stages
from stratalaw.models.folder import copy_model
from stratalaw.seals import Seal, seal_of, write_table
from stratalaw.study import Evaluation, StudyError, read_study

ROWS = [{"question": f"{a} + 1 =", "answer": str(a + 1), "kind": a % 2} for a in range(5)]
KINDS = datasets.Features(
    {"question": datasets.Value("string"), "answer": datasets.Value("string"), "kind": datasets.ClassLabel(2)}
)


class Sums(ConfigurableTask):
    """A task that has its data set handed to it."""

    def __init__(self, found=None) -> None:
        self._config = SimpleNamespace(task="sums", custom_dataset=lambda: found, metadata=None, dataset_kwargs=None)

    @property
    def config(self):
        return self._config


def rows() -> datasets.Dataset:
    return datasets.Dataset.from_list(ROWS, features=KINDS)


def record(found, *splits: str) -> pd.DataFrame:
    """What is kept of a data set of which splits are used."""
    with recorded_documents() as documents:
        task = Sums(found)
        task.download()
        for split in splits:
            task.dataset[split]
    return documents.table()


@pytest.mark.parametrize("kind", [dict, datasets.DatasetDict])
def test_the_splits_that_are_used_come_back_with_the_kinds_of_their_columns(kind):
    table = record(kind(train=rows(), test=rows()), "test")
    assert table.split.tolist() == ["test"]
    task = Sums()
    with replayed_documents(table):
        task.download()
    assert list(task.dataset) == ["test"]
    assert task.dataset["test"].to_list() == ROWS and task.dataset["test"].features == KINDS


def test_of_selected_rows_these_are_kept():
    task = Sums()
    with replayed_documents(record({"test": rows().select([3, 1])}, "test")):
        task.download()
    assert task.dataset["test"].to_list() == [ROWS[3], ROWS[1]]


def test_a_task_that_was_not_recorded_is_refused():
    table = record({"test": rows()}, "test").assign(task="products")
    with replayed_documents(table), pytest.raises(StudyError, match="sums: its documents were not recorded; the tasks"):
        Sums().download()


def test_a_streamed_data_set_is_refused():
    with pytest.raises(StudyError, match="sums: its data set is streamed"):
        record({"test": rows().to_iterable_dataset()})


def test_scores_need_no_network_no_cache_and_no_items_of_the_tasks(
    small_model_folder, tmp_path, monkeypatch, no_network
):
    """Between the requests and the scores the tasks' items and the cache of data sets are taken away."""
    no_network()
    cache = tmp_path / "cache"
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", cache)
    monkeypatch.chdir(tmp_path)
    study = read_study(Path(__file__).parents[2] / "config" / "ladder.yaml")
    shutil.copytree(Path(__file__).parents[2] / "ladder" / "benchmarks", "ladder/benchmarks")
    given = study.evaluation.model_dump() | {"items": 5, "strata": {"reasoning": study.evaluation.strata["reasoning"]}}
    evaluation = Evaluation(**given)
    requests, documents = "requests/reasoning.parquet", "documents/reasoning.parquet"
    answers, scores = (f"{kind}/q3/bf16/reasoning.parquet" for kind in ("answers", "scores"))
    copy_model(small_model_folder, Path("q3"))
    stages.record_requests(
        "q3", evaluation.for_requests(), evaluation.scored_by(), [requests], ["reasoning.safetensors"], [documents]
    )
    shutil.rmtree(cache, ignore_errors=True)
    cache.write_text("no folder: nothing can be cached")
    for file in Path("ladder/benchmarks").glob("*.jsonl"):
        file.unlink()
    folder = Path(__file__).parents[2] / "ladder" / "benchmarks"
    items = {
        f"ladder_{name}": [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()[:5]]
        for name in ("arithmetic", "paths", "chains", "sorting")
    }
    asked = pd.read_parquet(requests)
    likelihoods = np.random.default_rng(0).normal(size=len(asked))
    # Of what is written, the first two of five are right.
    texts = [
        items[task][document].get("answer") if document < 2 else "nothing"
        for task, document in zip(asked.task, asked.document, strict=True)
    ]
    given_answers = pd.DataFrame(
        {"log_likelihood": likelihoods, "is_greedy": False, "text": texts, "tokens": 1, "is_cut_off": False}
    )
    about = {"model": "q3", "variant": "bf16", "stratum": "reasoning"}
    seal = Seal("answers", about, {"requests": seal_of(Path(requests)).digest})
    write_table(given_answers, Path(answers), seal)
    read, reads = Path.read_bytes, Counter()
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.update([str(path)]) or read(path))
    given = [evaluation.for_scores(), [requests], [documents], [answers], [scores], ["reasoning.json"]]
    stages.score_items(*given, tasks="as recorded")
    assert [reads[path] for path in (requests, documents, answers)] == [1, 1, 1]  # for the rows and the digest
    # A model with other tokens was asked the same, and needs no other tasks.
    before = list(stages.KEPT_SCORERS.values())
    of_other = ["other/requests/reasoning.parquet", "other/documents/reasoning.parquet", answers.replace("q3", "q5")]
    digest = write_table(asked.assign(context=asked.continuation), Path(of_other[0]), seal_of(Path(requests)))
    recorded = pd.read_parquet(documents)
    write_table(recorded, Path(of_other[1]), replace(seal_of(Path(documents)), made_from={"requests": digest}))
    write_table(given_answers, Path(of_other[2]), Seal("answers", about | {"model": "q5"}, {"requests": digest}))
    outputs = [[scores.replace("q3", "q5")], ["other.json"]]
    stages.score_items(evaluation.for_scores(), *([path] for path in of_other), *outputs, tasks="as recorded")
    assert list(stages.KEPT_SCORERS.values()) == before
    assert Path("other.json").read_text() == Path("reasoning.json").read_text()
    best = asked.assign(likelihood=likelihoods).groupby(["task", "document"]).likelihood.agg(np.argmax)
    labels = {task: [item["label"] for item in items[task]] for task in ("ladder_arithmetic", "ladder_paths")}
    expected = {task: float(np.mean(best[task] == right)) for task, right in labels.items()}
    expected |= {"ladder_chains": 0.4, "ladder_sorting": 0.4}
    assert json.loads(Path("reasoning.json").read_text()) == pytest.approx(expected)
    # A task that says another thing right is not taken for the one that this process keeps.
    paths = Path("ladder/benchmarks/paths.yaml")
    paths.write_text(paths.read_text().replace("doc_to_target: label", "doc_to_target: '{{(label + 1) % 5}}'"))
    stages.score_items(*given, tasks="edited")
    edited = json.loads(Path("reasoning.json").read_text())
    assert edited["ladder_arithmetic"] == expected["ladder_arithmetic"]
    moved = [(label + 1) % 5 for label in labels["ladder_paths"]]
    assert edited["ladder_paths"] == pytest.approx(np.mean(best["ladder_paths"] == moved))
