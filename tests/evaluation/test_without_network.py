"""A benchmark from the Hub: once its requests are recorded, answers and scores need no Hub, no cache and no socket."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stratalaw.errors import StratalawError
from stratalaw.evaluation.tasks import check_metrics, task_manager
from stratalaw.jobs import stages
from stratalaw.models.folder import copy_model
from stratalaw.study import Evaluation, StudyError, Tasks
from tests.hub_server import HubRepository

COMMIT = "a" * 40
ITEMS = [{"question": f"{a} + {b} =", "sums": [str(a + b), str(a + b + 1)]} for a in range(3) for b in range(2)]
MEAN = {"aggregation": "mean", "higher_is_better": True}
CHOICE = {
    "task": "sums", "dataset_path": "sums", "test_split": "test", "output_type": "multiple_choice",
    "doc_to_text": "{{question}}", "doc_to_choice": "{{sums}}", "doc_to_target": 0,
    "metric_list": [{"metric": "acc", **MEAN}],
}  # fmt: skip
TEXT = CHOICE | {
    "task": "texts", "output_type": "generate_until", "doc_to_target": "{{sums[0]}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 4}, "metric_list": [{"metric": "exact_match", **MEAN}],
}  # fmt: skip
del TEXT["doc_to_choice"]


@pytest.fixture
def write_tasks(tmp_path, monkeypatch):
    """Writes tasks, and gives the evaluation of one stratum that asks all of them."""
    monkeypatch.chdir(tmp_path)
    Path("tasks").mkdir()

    def write(*tasks: dict) -> Evaluation:
        benchmarks = []
        for task in tasks:
            text = yaml.safe_dump(task).replace("'!function", "!function").replace("scored'", "scored")
            (Path("tasks") / f"{task['task']}.yaml").write_text(text)
            metric = task["metric_list"][0]["metric"]
            benchmarks.append({"task": task["task"], "metric": metric, "chance": 0, "revision": COMMIT})
        return Evaluation(tasks_folder="tasks", strata={"reasoning": benchmarks})

    return write


@pytest.fixture
def hub_of_sums(online):
    lines = "".join(json.dumps(item) + "\n" for item in ITEMS)
    online.renamed["datasets/sums"] = "datasets/someone/sums"
    online.repositories["datasets/someone/sums"] = HubRepository(
        COMMIT, {"README.md": b"", "test.jsonl": lines.encode()}
    )
    return online


REQUESTS, BATCHES, DOCUMENTS = "requests/reasoning.parquet", "reasoning.safetensors", "documents/reasoning.parquet"


def record(evaluation: Tasks) -> None:
    stages.record_requests("q3", evaluation.for_requests(), evaluation.scored_by(), [REQUESTS], [BATCHES], [DOCUMENTS])


def test_answers_and_scores_of_a_benchmark_from_the_hub_ask_nothing_and_nobody(
    small_model_folder, write_tasks, hub_of_sums, no_network, tmp_path
):
    evaluation = write_tasks(CHOICE, TEXT)
    copy_model(small_model_folder, Path("q3"))
    record(evaluation)
    hub_of_sums.close()
    for cache in ("data sets", "cache"):
        shutil.rmtree(tmp_path / cache, ignore_errors=True)
        (tmp_path / cache).write_text("no folder: nothing can be cached")
    no_network()
    answers, scores = (f"{kind}/q3/bf16/reasoning.parquet" for kind in ("answers", "scores"))
    stages.answer_requests("q3", "q3", [REQUESTS], [BATCHES], 4096, 2, [answers])
    stages.score_items(evaluation.for_scores(), [REQUESTS], [DOCUMENTS], [answers], [scores], ["reasoning.json"], "")
    asked = pd.concat([pd.read_parquet(REQUESTS), pd.read_parquet(answers)], axis=1)
    choices = asked[asked.task == "sums"].groupby("document").log_likelihood
    texts = asked[asked.task == "texts"].set_index("document").text
    assert json.loads(Path("reasoning.json").read_text()) == {
        "sums": pytest.approx(np.mean(choices.agg(np.argmax) == 0)),
        "texts": pytest.approx(np.mean([texts[i] == item["sums"][0] for i, item in enumerate(ITEMS)])),
    }


@pytest.mark.parametrize(
    "metric", [{"metric": "rouge"}, {"metric": "exact_match", "hf_evaluate": True}], ids=["not lm-eval's", "asked for"]
)
def test_a_metric_that_would_come_from_the_hub_is_refused_before_anything_runs(write_tasks, metric):
    evaluation = write_tasks(TEXT | {"metric_list": [{**metric, **MEAN}]})
    with pytest.raises(StudyError) as error:
        check_metrics(task_manager(evaluation), evaluation)
    line = f"evaluation.strata.reasoning: texts: its metric {metric['metric']} is code that the library evaluate would"
    assert str(error.value).startswith(line) and "\n" not in str(error.value)


def test_a_metric_that_lm_eval_computes_itself_is_not_refused(write_tasks):
    """For choices the entry ``hf_evaluate`` has no effect."""
    evaluation = write_tasks(CHOICE | {"metric_list": [{"metric": "acc", "hf_evaluate": True, **MEAN}]})
    check_metrics(task_manager(evaluation), evaluation)


@pytest.mark.parametrize("where", ["within the function", "when its file is loaded"])
def test_code_of_a_task_that_asks_the_hub_for_a_metric_is_refused_when_requests_are_recorded(
    small_model_folder, write_tasks, hub_of_sums, where
):
    evaluation = write_tasks(TEXT | {"process_results": "!function code.scored"})
    loads, body = "import evaluate\nrouge = evaluate.load('rouge')\n", "    return {'exact_match': 1.0}\n"
    Path("tasks/code.py").write_text(
        f"{loads}\ndef scored(doc, results):\n{body}"
        if where == "when its file is loaded"
        else f"def scored(doc, results):\n    import evaluate\n    evaluate.load('rouge')\n{body}"
    )
    copy_model(small_model_folder, Path("q3"))
    hub_of_sums.requests.clear()
    with pytest.raises(StratalawError) as error:
        record(evaluation)
    assert str(error.value).startswith("texts: its metric rouge is code that the library evaluate would fetch from")
    assert not any("evaluate-metric" in path for _, path, _, _ in hub_of_sums.requests)
