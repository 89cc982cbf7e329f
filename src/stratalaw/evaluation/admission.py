"""What makes the item scores of a task an accuracy; a task without it is refused while its requests are recorded.

lm-eval says nothing of odd labels and metrics: a label that is no choice makes every answer wrong, and where a task or
a group has an aggregation of its own, the mean over items is not what it reports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask
from lm_eval.api.task import Task as LoadedTask

from stratalaw.study import StudyError, Task

PROBE = (0.0, 1.0, 1.0, 0.25)
TRIALS = 20  # items whose reference answer is scored

Sample = Mapping[str, Any]


def tasks_of(loaded: LoadedTask | Group) -> list[LoadedTask]:
    """The tasks of what lm-eval loaded: itself, or all within a group."""
    return list(loaded.get_all_tasks()) if isinstance(loaded, Group) else [loaded]


def check_labels(loaded: LoadedTask | Group, items: int | None) -> None:
    """Refuse items whose label is none of their choices: lm-eval calls every answer to them wrong.

    Args:
        loaded: what lm-eval made of a benchmark.
        items: how many of each task are asked; None for all.

    Raises:
        StudyError: one line names the task, the document, and what is wrong with its label.
    """
    for task in tasks_of(loaded):
        if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE != "multiple_choice":
            continue
        if callable(task.config.process_results):
            continue  # only its code knows
        files = (task.config.dataset_kwargs or {}).get("data_files", "")
        for number, document in task.doc_iterator(limit=items):
            label = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
            wrong = _why_no_label(label, task.doc_to_choice(document), bool(task.multiple_target))
            if wrong:
                raise StudyError(f"{task.task_name}: document {number}: {wrong}" + (f" ({files})" if files else ""))


def check_scores(benchmark: Task, loaded: LoadedTask | Group, samples: Mapping[str, Sequence[Sample]]) -> None:
    """Refuse a benchmark whose item scores are no accuracy.

    Args:
        benchmark: what the study asks for.
        loaded: what lm-eval made of it.
        samples: lm-eval's samples of each task; which answers they rest on does not matter.

    Raises:
        StudyError: one line names the task, the document where there is one, and what is wrong.
    """
    tasks = tasks_of(loaded)
    for task in tasks:
        if not is_mean(task.aggregation().get(benchmark.metric)):
            raise StudyError(f"{task.task_name}: {no_accuracy(benchmark.metric)}")
        of_filter = [s for s in samples[task.task_name] if benchmark.filter in (None, s["filter"])]
        for document, score in _possible_scores(task, benchmark.metric, of_filter):
            _check_score(score, f"{task.task_name}: document {document}: the metric {benchmark.metric}")
    if isinstance(loaded, Group):
        _check_weights(benchmark, loaded, {task.task_name: len(samples[task.task_name]) for task in tasks})


def is_mean(aggregation: Callable[[Sequence[float]], float] | None) -> bool:
    """Whether a function takes the mean of the items' scores."""
    try:
        return aggregation is not None and abs(aggregation(PROBE) - sum(PROBE) / len(PROBE)) < 1e-9
    except Exception:  # it wants something else than numbers
        return False


def no_accuracy(metric: str) -> str:
    """Why a metric whose aggregation is not the mean is refused."""
    return f"the metric {metric} is no mean of item scores, so there is no accuracy; choose one that is, such as acc"


def _why_no_label(label: object, choices: Sequence[str], several: bool) -> str | None:
    """Why a label is not what lm-eval compares choices with; ``several``: right choices, as the task's items have."""
    if isinstance(label, list) != several:
        return "some items of the task have one right choice, and others a list of them"
    if isinstance(label, list):
        if not label:
            return "no choice is right"
        if odd := [part for part in label if not isinstance(part, int)]:
            return f"its labels are a list with {odd[0]!r}; lm-eval takes numbers of choices, from 0"
    elif isinstance(label, str):
        return None if label in choices else f"its label is {label!r}, which is none of its choices"
    for number in label if isinstance(label, list) else [label]:
        if number not in range(len(choices)):
            return f"its label is {number}, and its choices are 0 to {len(choices) - 1}"
    return None


def _possible_scores(task: LoadedTask, metric: str, samples: Sequence[Sample]) -> Iterator[tuple[int, object]]:
    """Scores that items may get, with their document: of the answers at hand, and of the reference answers."""
    for sample in samples:
        yield sample["doc_id"], sample.get(metric)
    if not isinstance(task, ConfigurableTask) or task.OUTPUT_TYPE != "generate_until":
        return
    for sample in samples[:TRIALS]:
        reference = task.doc_to_target(sample["doc"])
        text = reference[0] if isinstance(reference, list) and reference else reference
        try:
            scores = task.process_results(sample["doc"], [str(text)])
        except Exception:  # what its filters make of an answer may be another kind of value
            return
        yield sample["doc_id"], scores.get(metric)


def _check_score(score: object, what: str) -> None:
    if score is None:
        raise StudyError(f"{what} is not computed")
    try:
        value = float(score)  # type: ignore[arg-type]  # a tuple of what another aggregation needs, for instance
    except (TypeError, ValueError):
        raise StudyError(f"{what} gives {score!r}, which is no number, so there is no accuracy") from None
    if not 0 <= value <= 1:
        raise StudyError(f"{what} gives {value:g}; a score of an item is from 0 to 1")


def _check_weights(benchmark: Task, group: Group, items: Mapping[str, int]) -> None:
    """Refuse a group that does not weight its tasks by their items: its score is no mean over items."""
    for part in (group, *group.get_all_groups()):
        for aggregation in part.aggregate_metric_list or ():
            sizes = {items[task.task_name] for task in part.get_all_tasks()}
            by_items = aggregation.weight_by_size and aggregation.aggregation == "mean"
            if aggregation.metric == benchmark.metric and not by_items and len(sizes) > 1:
                raise StudyError(
                    f"{benchmark.task}: lm-eval does not weight the tasks of {part.name} by their items "
                    f"({min(sizes)} to {max(sizes)}); name the tasks one by one: a stratum is a mean over its tasks"
                )
