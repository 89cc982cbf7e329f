"""The other half of lm-eval: its metrics, computed from answers to recorded requests.

The tasks are made once for many variants. lm-eval itself scores the first; what it built then serves the others.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import Task as LoadedTask
from numpy.typing import NDArray

from stratalaw.evaluation.admission import check_scores, tasks_of
from stratalaw.evaluation.blocks import ITEM, filled, is_asked, shares_of
from stratalaw.evaluation.harness import (
    GENERATION,
    LOGLIKELIHOOD,
    ROLLING,
    Samples,
    about_instance,
    arguments_key,
    load_task,
    run_task,
)
from stratalaw.evaluation.tasks import check_metrics, task_manager
from stratalaw.planning.forecasts import gaps
from stratalaw.study import StudyError, Tasks

LIKELIEST, UNLIKELY = -1.0, -1e9  # nats, of continuations that are no text's
PLACE = ["kind", *ITEM, "choice"]


class Scorer:
    """The tasks of a stratum, ready to score the answers of one variant after another.

    Args:
        requests: of the stratum; see ``record_requests``.
        evaluation: the benchmarks, with their metrics.
        stratum: its name.

    Raises:
        StudyError: a task has no such metric or filter.
    """

    def __init__(self, requests: pd.DataFrame, evaluation: Tasks, stratum: str) -> None:
        self._requests, self._evaluation, self._stratum = requests, evaluation, stratum
        self._manager = task_manager(evaluation)
        check_metrics(self._manager, evaluation)
        self._benchmarks = [
            (benchmark, load_task(self._manager, benchmark)) for benchmark in evaluation.strata[stratum]
        ]
        self._are_built = False

    def benchmark_of(self) -> dict[str, str]:
        """The benchmark of each task: the task itself, or a group that it belongs to."""
        return {task.task_name: benchmark.task for benchmark, loaded in self._benchmarks for task in tasks_of(loaded)}

    def named_requests(self) -> pd.DataFrame:
        """The requests with the names that ``scores`` gives their items: ``task`` is the benchmark, and ``document``
        counts from one task of a group to the next."""
        first = self._first_documents()
        task = self._requests.task.map(self.benchmark_of())
        return self._requests.assign(task=task, document=self._requests.document + self._requests.task.map(first))

    def _first_documents(self) -> dict[str, int]:
        """Of each task the number that its first item has within the benchmark."""
        items = 1 + self._requests.groupby("task").document.max()
        first, before = {}, Counter[str]()
        for benchmark, loaded in self._benchmarks:
            for name in sorted(task.task_name for task in tasks_of(loaded)):
                first[name] = before[benchmark.task]
                before[benchmark.task] += int(items.get(name, 0))
        return first

    def scores(self, answers: pd.DataFrame, with_gaps: bool = False) -> pd.DataFrame:
        """What the metrics say of the answers: columns task, document and score, one row for each item that was asked.

        ``document``: the number of the item within the benchmark; a group of tasks counts from one task to the next.
        ``tokens`` and ``is_cut_off``: how long the generated answer is, and whether the limit ended it; missing for
        items that are not answered by generating.

        Args:
            answers: one row for each request that was asked, by its index; see ``evaluation.answers.answer``.
            with_gaps: a column ``gap`` says by how much the answer is likelier than another (see ``forecasts.gaps``).

        Raises:
            ValueError: an answer is missing or not a number, or an item's score is.
            StudyError: the tasks ask what was not recorded, or their scores are no accuracy.
        """
        requests = self._requests
        check_answers(requests, answers, self._stratum)
        answered = set(requests.loc[answers.index, ITEM].itertuples(index=False, name=None))
        answers = filled(answers, requests)
        generated = lengths_of(requests, answers)
        margins = gaps(requests, answers).set_index(ITEM).gap if with_gaps else None
        tables, first = [], self._first_documents()
        for benchmark, task, documents, scores in self._scored(answers):
            is_answered = np.array([(task, document) in answered for document in documents], bool)
            document = documents[is_answered]
            place = pd.MultiIndex.from_product([[task], document])
            of_task = generated.reindex(place).reset_index(drop=True)
            if margins is not None:
                of_task["gap"] = margins.reindex(place).to_numpy()
            columns = {"task": benchmark, "document": first[task] + document, "score": scores[is_answered]}
            tables.append(pd.DataFrame(columns).join(of_task))
        table = pd.concat(tables, ignore_index=True)
        if not np.isfinite(table.score).all():
            bad = table[~np.isfinite(table.score)].iloc[0]
            raise ValueError(f"{bad.task}: document {bad.document}: the score is not a number")
        return table

    def scores_of_choices(self) -> pd.Series:
        """The score that an item gets where one of its continuations is by far the likeliest: of each request for a
        log-likelihood, by its index.

        Raises:
            StudyError: as ``scores``.
        """
        requests = self._requests[self._requests.kind == LOGLIKELIHOOD]
        found = pd.Series(np.nan, requests.index)
        for _, rows in requests.groupby("choice"):
            chosen = self._requests.index.isin(rows.index)
            answers = pd.DataFrame({"is_greedy": chosen, "text": ""}, self._requests.index)
            answers["log_likelihood"] = np.where(chosen, LIKELIEST, UNLIKELY)
            for _, task, documents, scores in self._scored(answers):
                by_document = pd.Series(scores, documents)
                own = rows[rows.task == task]
                found[own.index] = own.document.map(by_document)
        return found

    def scores_of_written(self, answers: pd.DataFrame) -> pd.Series:
        """The score that an item gets by what was written: of each request for a text, by its index.

        Args:
            answers: to all requests; see ``evaluation.answers.answer``.

        Raises:
            ValueError, StudyError: as ``scores``.
        """
        check_answers(self._requests, answers, self._stratum)
        rows = self._requests[self._requests.kind == GENERATION]
        found = pd.Series(np.nan, rows.index)
        for _, task, documents, scores in self._scored(answers) if len(rows) else ():
            own = rows[rows.task == task]
            found[own.index] = own.document.map(pd.Series(scores, documents))
        return found

    def _scored(self, answers: pd.DataFrame) -> Iterator[tuple[str, str, NDArray[np.int_], NDArray[np.float64]]]:
        """Of each task: the benchmark that it belongs to, its name, its items' numbers and their scores."""
        requests, items = self._requests, self._evaluation.items
        for benchmark, loaded in self._benchmarks:
            names = sorted(task.task_name for task in tasks_of(loaded))
            asked = requests[requests.task.isin(names)]
            model = ReplayingModel(asked, answers.loc[asked.index], by_template=benchmark.chat_template)
            if self._are_built:
                found = rescored(loaded, model, items)
            else:
                found = run_task(model, loaded, self._manager, benchmark, items)
            check_scores(benchmark, loaded, found)  # the metric may be another one than when requests were recorded
            for task in names:
                samples = [
                    sample
                    for sample in found[task]
                    if benchmark.filter in (None, sample["filter"])  # lm-eval lists an item once for each filter
                ]
                documents = np.array([sample["doc_id"] for sample in samples], dtype=int)
                yield benchmark.task, task, documents, np.array([float(sample[benchmark.metric]) for sample in samples])
        self._are_built = True


def check_answers(requests: pd.DataFrame, answers: pd.DataFrame, stratum: str) -> None:
    """Raise ValueError unless each request that was asked has an answer, and each log-likelihood is a number."""
    if shares := shares_of(answers):
        requests = requests[is_asked(requests, shares)]
    if len(answers) != len(requests):
        raise ValueError(f"{stratum}: {len(answers)} answers to {len(requests)} requests")
    if not answers.index.equals(requests.index):
        raise ValueError(f"{stratum}: the answers are to other requests than those that were asked")
    computed = requests.kind != GENERATION
    if not np.isfinite(answers.log_likelihood[computed]).all():
        bad = requests.loc[answers.index[computed & ~np.isfinite(answers.log_likelihood)][0]]
        raise ValueError(f"{bad.task}: document {bad.document}: the log-likelihood is not a number")


def rescored(loaded: LoadedTask | Group, model: LM, items: int | None) -> Samples:
    """What ``run_task`` gives for tasks that it has built before: their samples, as far as scores need them.

    lm-eval's evaluator has no way in between building a task and scoring it; this is what it does with the answers.
    """
    samples: Samples = {}
    for task in tasks_of(loaded):
        by_kind: dict[str, list[Instance]] = {}
        by_document: dict[int, list[Instance]] = {}
        for instance in task.instances:
            instance.resps, instance.filtered_resps = [], {}
            by_kind.setdefault(instance.request_type, []).extend([instance] * instance.repeats)
            by_document.setdefault(instance.doc_id, []).append(instance)
        for kind, instances in by_kind.items():
            for answered, instance in zip(getattr(model, kind)(instances), instances, strict=True):
                instance.resps.append(answered)
        task.apply_filters()
        samples[task.task_name] = [
            {"doc_id": number, "doc": document, "filter": name}
            | task.process_results(document, [instance.filtered_resps[name] for instance in by_document[number]])
            for name in task.instances[0].filtered_resps
            for number, document in task.doc_iterator(limit=items)
        ]
    return samples


class ReplayingModel(LM):
    """Answers recorded requests with what was computed for them.

    Args:
        requests: see ``record_requests``.
        answers: one row for each recorded request, by its index, with ``log_likelihood`` and ``is_greedy``, and
            ``text`` for generations.
        by_template: prompts are written by a chat template, which is the tokenizer's, and so only the recording knows
            them; all others are compared with what was recorded.
    """

    tokenizer_name = ""

    def __init__(self, requests: pd.DataFrame, answers: pd.DataFrame, by_template: bool) -> None:
        super().__init__()
        places = [requests[name] for name in PLACE]
        self._asked = requests.groupby(places, sort=False).arguments.first().to_dict()
        self._answers = answers.groupby(places, sort=False)
        self._compares = not by_template

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return json.dumps(chat_history)

    def _lookup(self, kind: str, requests: Sequence[Instance], combine: Mapping[str, str]) -> pd.DataFrame:
        places = [(kind, instance.task_name, instance.doc_id, instance.idx) for instance in requests]
        for place, instance in zip(places, requests, strict=True):
            asked = self._asked.get(place)
            if asked is None or (self._compares and asked != arguments_key(instance)):
                raise StudyError(
                    f"{about_instance(instance)}, request {instance.idx} has no answer; "
                    "the tasks have changed since the requests were recorded"
                )
        return self._answers.agg(combine).loc[places]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        answers = self._lookup(LOGLIKELIHOOD, requests, {"log_likelihood": "first", "is_greedy": "first"})
        return list(zip(answers.log_likelihood, answers.is_greedy, strict=True))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        return self._lookup(ROLLING, requests, {"log_likelihood": "sum"}).log_likelihood.tolist()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        return self._lookup(GENERATION, requests, {"text": "first"}).text.tolist()


def lengths_of(requests: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Of each (task, document) that is answered by generating: ``tokens`` (Int64) and ``is_cut_off`` (boolean).

    A document with several generations has their mean, rounded, and is cut off if one of them is.
    """
    columns = {"tokens": "Int64", "is_cut_off": "boolean"}
    rows = requests[requests.kind == GENERATION]
    if rows.empty:
        return pd.DataFrame(columns=list(columns), index=pd.MultiIndex.from_arrays([[], []])).astype(columns)
    by_document = answers.loc[rows.index].groupby([rows.task, rows.document])
    found = by_document.agg({"tokens": "mean", "is_cut_off": "any"})
    return found.round({"tokens": 0}).astype(columns)
