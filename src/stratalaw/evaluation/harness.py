"""lm-eval, split in two: its requests are recorded once, and its metrics computed from answers that come later.

A recording model takes down every request (text and token ids) that lm-eval makes for a stratum; a replaying model
gives the answers back. Between the two, any engine may compute them, and no variant builds the requests again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import evaluate.loading
import numpy as np
import pandas as pd
from lm_eval import evaluator, simple_evaluate
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM, TemplateLM
from lm_eval.api.task import Task as LoadedTask
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerBase

from stratalaw.evaluation.tasks import check_is_not_here, check_metrics, is_on_the_hub, task_manager, why_no_metric
from stratalaw.models.hub import Repository, name_with_owner, refusals_named
from stratalaw.study import StudyError, Task, Tasks

LOGLIKELIHOOD, ROLLING, GENERATION = "loglikelihood", "loglikelihood_rolling", "generate_until"
DEFAULT_MAX_NEW_TOKENS = 256  # as lm-eval's hf model


class RecordingModel(TemplateLM):
    """Answers nothing and takes down every request, tokenized as lm-eval's ``hf`` model does."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.rows: list[dict[str, Any]] = []

    @property
    def eot_token_id(self) -> int:
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        beginning = self.tokenizer.bos_token_id
        return self.eot_token_id if beginning is None else int(beginning)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **options: object) -> list[int]:
        if add_special_tokens is None:
            starts_with_prefix = has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id))
            special = {"add_special_tokens": False} if starts_with_prefix else {}
        else:
            special = {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer.encode(string, **special))

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        self._instances = requests
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[object, list[int], list[int]]], **options: object
    ) -> list[tuple[float, bool]]:
        for instance, (_, context, continuation) in zip(self._instances, requests, strict=True):
            self._record(LOGLIKELIHOOD, instance, context, continuation)
        return [(0.0, False)] * len(requests)

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        for instance in requests:
            windows = get_rolling_token_windows(
                self.tok_encode(instance.args[0]), self.prefix_token_id, max_seq_len=self.max_length, context_len=1
            )
            for context, continuation in map(make_disjoint_window, windows):
                self._record(ROLLING, instance, context, continuation)
        return [0.0] * len(requests)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        for instance in requests:
            context, options = instance.args
            self._record(GENERATION, instance, self.tok_encode(context), [], self._greedy_options(instance, options))
        return [""] * len(requests)

    def _greedy_options(self, instance: Instance, options: dict[str, Any]) -> dict[str, Any]:
        """``stop`` and ``max_new_tokens``, by lm-eval's rules; raises ValueError if the task wants sampling."""
        normalized = normalize_gen_kwargs(options, DEFAULT_MAX_NEW_TOKENS)
        if normalized["do_sample"]:
            raise ValueError(f"{instance.task_name}: it asks for sampling; only greedy generation can be repeated")
        end = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
        return {
            "stop": handle_stop_sequences(normalized["until"], eos=end),
            "max_new_tokens": normalized["max_gen_toks"],
        }

    def _record(
        self,
        kind: str,
        instance: Instance,
        context: list[int],
        continuation: list[int],
        options: Mapping[str, Any] = {},
    ) -> None:
        self.rows.append(
            {
                "task": instance.task_name,
                "document": instance.doc_id,
                "choice": instance.idx,
                "kind": kind,
                "arguments": arguments_key(instance),
                "context": np.array(context, dtype=np.int32),
                "continuation": np.array(continuation, dtype=np.int32),
                "generation": json.dumps(options, sort_keys=True),
            }
        )


class ReplayingModel(LM):
    """Answers recorded requests with what was computed for them.

    ``answers``: one row for each recorded request, in their order, with ``log_likelihood`` and ``is_greedy``, and
    ``text`` for generations.
    """

    def __init__(self, requests: pd.DataFrame, answers: pd.DataFrame) -> None:
        super().__init__()
        # Documents may ask the same; the windows of a rolling request are summed over one of them.
        about = ["task", "document", "choice"]
        first = requests.groupby(["kind", "arguments"], sort=False)[about].transform("first")
        asked = requests[(requests[about] == first).all(axis=1)]
        self._answers = {
            kind: answers.loc[rows.index].groupby(rows.arguments, sort=False) for kind, rows in asked.groupby("kind")
        }

    def _lookup(self, kind: str, requests: Sequence[Instance], combine: Mapping[str, str]) -> pd.DataFrame:
        table = self._answers[kind].agg(combine) if kind in self._answers else pd.DataFrame()
        keys = [arguments_key(instance) for instance in requests]
        unknown = [i for i, key in enumerate(keys) if key not in table.index]
        if unknown:
            instance = requests[unknown[0]]
            raise StudyError(
                f"{instance.task_name}: document {instance.doc_id}, request {instance.idx} has no answer; "
                "the tasks have changed since the requests were recorded"
            )
        return table.loc[keys]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        answers = self._lookup(LOGLIKELIHOOD, requests, {"log_likelihood": "first", "is_greedy": "first"})
        return list(zip(answers.log_likelihood, answers.is_greedy, strict=True))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._lookup(ROLLING, requests, {"log_likelihood": "sum"}).log_likelihood.tolist()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return self._lookup(GENERATION, requests, {"text": "first"}).text.tolist()


def arguments_key(instance: Instance) -> str:
    """A request as text: equal requests have equal answers."""
    return json.dumps(instance.args, sort_keys=True, default=str)


def run_tasks(model: LM, evaluation: Tasks, stratum: str) -> dict[str, Any]:
    """Have lm-eval run the tasks of a stratum on a model.

    Raises:
        StudyError: a task is unknown to lm-eval, or its code asks the Hub for a metric.
    """
    manager = task_manager(evaluation)
    benchmarks = evaluation.strata[stratum]
    with without_environment(), without_metrics_of_the_hub([benchmark.task for benchmark in benchmarks]):
        tasks = [load_task(manager, benchmark) for benchmark in benchmarks]
        results: dict[str, Any] = simple_evaluate(
            model=model, tasks=tasks, task_manager=manager, limit=evaluation.items, bootstrap_iters=0, log_samples=True
        )
    return results


@contextmanager
def without_environment() -> Iterator[None]:
    """Keep lm-eval from describing the machine after each evaluation: listing packages takes longer than scoring."""
    describe, evaluator.add_env_info = evaluator.add_env_info, lambda results: None
    try:
        yield
    finally:
        evaluator.add_env_info = describe


@contextmanager
def without_metrics_of_the_hub(tasks: Sequence[str]) -> Iterator[None]:
    """Refuse what the code of tasks asks of the library ``evaluate``: it would fetch code from the Hub, and run it.

    Requests are recorded by having lm-eval score empty answers, so this is known before any answer is computed.

    Raises:
        StudyError: names the tasks and the metric.
    """
    find = evaluate.loading.evaluation_module_factory

    def find_here(path: str, *arguments: Any, **options: Any) -> Any:
        if not Path(path).exists():
            raise StudyError(why_no_metric(" or ".join(tasks), path))
        return find(path, *arguments, **options)

    evaluate.loading.evaluation_module_factory = find_here
    try:
        yield
    finally:
        evaluate.loading.evaluation_module_factory = find


@contextmanager
def data_sets_at(commit: str | None) -> Iterator[None]:
    """Have lm-eval load data sets of the Hub at a commit, which few of its tasks let one choose.

    Each commit has a cache of its own: where the Hub does not answer, ``datasets`` takes the newest commit of a cache
    in place of the one that it is asked for.

    Raises:
        DownloadError: the Hub refuses or cannot be reached, and the commit is not in its cache.
        StudyError: a file or folder here has the name of the data set, and would be read in its place.
    """
    load = datasets.load_dataset

    def load_at_commit(path: str, *arguments: Any, **options: Any) -> Any:
        if commit is not None:
            check_is_not_here(path)
        if commit is None or not is_on_the_hub(path):
            return load(path, *arguments, **options)
        cache = Path(datasets.config.HF_DATASETS_CACHE) / "commits" / commit
        repository = Repository(path, "dataset", commit)
        name = path if "/" in path else _owned_name(repository, cache)
        with refusals_named(repository):
            return load(name, *arguments, **(options | {"revision": commit, "cache_dir": str(cache)}))

    datasets.load_dataset = load_at_commit
    try:
        yield
    finally:
        datasets.load_dataset = load


def _owned_name(repository: Repository, cache: Path) -> str:
    """The name with its owner of a data set that lm-eval knows without, which the Hub redirects and ``datasets``
    refuses; ``cache``: of its commit."""
    cached = next(cache.glob(f"*___{repository.name}"), None)
    return name_with_owner(repository) if cached is None else cached.name.replace("___", "/")


def load_task(manager: TaskManager, benchmark: Task) -> LoadedTask | Group:
    """A task or a group of tasks, with as many examples in the prompt as the study says."""
    with data_sets_at(benchmark.revision):
        loaded = manager.load([benchmark.task])
    if benchmark.shots is not None:
        # lm-eval takes {"task": name, "num_fewshot": n} for a new task without a data set.
        for task in loaded["tasks"].values():
            task.set_config(key="num_fewshot", value=benchmark.shots)
    return loaded.get("groups", {}).get(benchmark.task) or loaded["tasks"][benchmark.task]


def record_requests(
    tokenizer: PreTrainedTokenizerBase, max_length: int, evaluation: Tasks, stratum: str
) -> pd.DataFrame:
    """Every request that lm-eval makes for a stratum, one per row.

    Columns: task, document, choice, kind, arguments (what replaying looks answers up by), context and continuation
    (token ids) and generation (``stop`` and ``max_new_tokens`` of generations, JSON). A rolling request takes one row
    for each window.

    Raises:
        StudyError: a task is unknown to lm-eval.
        ValueError: an item's label is none of its choices.
    """
    model = RecordingModel(tokenizer, max_length)
    check_labels(run_tasks(model, evaluation, stratum))
    return pd.DataFrame(model.rows)


def check_labels(results: dict[str, Any]) -> None:
    """Refuse items whose label is none of their choices: lm-eval would call every answer to them wrong."""
    for task, samples in results["samples"].items():
        config = results["configs"][task]
        if config["output_type"] != "multiple_choice":
            continue
        for sample in samples:
            label, choices = sample["target"], len(sample["arguments"])
            if isinstance(label, int) and not 0 <= label < choices:
                files = (config.get("dataset_kwargs") or {}).get("data_files", "")
                raise ValueError(
                    f"{task}: document {sample['doc_id']}: its label is {label}, and its choices are 0 to {choices - 1}"
                    + (f" ({files})" if files else "")
                )


def item_scores(requests: pd.DataFrame, answers: pd.DataFrame, evaluation: Tasks, stratum: str) -> pd.DataFrame:
    """What lm-eval's metrics say of the answers: columns task, document and score, one row for each item.

    ``document``: the number of the item within the benchmark; a group of tasks counts from one task to the next.

    Raises:
        ValueError: an answer is missing or not a number, or an item's score is.
        StudyError: the tasks ask what was not recorded, or have no such metric or filter.
    """
    check_metrics(task_manager(evaluation), evaluation)
    if len(answers) != len(requests):
        raise ValueError(f"{stratum}: {len(answers)} answers to {len(requests)} requests")
    computed = requests.kind != GENERATION
    if not np.isfinite(answers.log_likelihood[computed]).all():
        bad = requests.loc[answers.index[computed & ~np.isfinite(answers.log_likelihood)][0]]
        raise ValueError(f"{bad.task}: document {bad.document}: the log-likelihood is not a number")
    results = run_tasks(ReplayingModel(requests, answers), evaluation, stratum)
    tables = []
    for benchmark in evaluation.strata[stratum]:
        before = 0  # items of the group's earlier tasks; each task counts from 0
        for task in sorted(tasks_within(results, benchmark.task)):
            samples = [
                sample
                for sample in results["samples"][task]
                if benchmark.filter in (None, sample["filter"])  # lm-eval lists an item once for each filter
            ]
            document = np.array([sample["doc_id"] for sample in samples], dtype=int)
            scores = [float(sample[benchmark.metric]) for sample in samples]
            tables.append(pd.DataFrame({"task": benchmark.task, "document": before + document, "score": scores}))
            before += document.max(initial=-1) + 1
    table = pd.concat(tables, ignore_index=True)
    if not np.isfinite(table.score).all():
        bad = table[~np.isfinite(table.score)].iloc[0]
        raise ValueError(f"{bad.task}: document {bad.document}: the score is not a number")
    return table


def tasks_within(results: dict[str, Any], name: str) -> list[str]:
    """The tasks that have samples within a task or a group of lm-eval."""
    if name in results["samples"]:
        return [name]
    return [task for child in results["group_subtasks"][name] for task in tasks_within(results, child)]
