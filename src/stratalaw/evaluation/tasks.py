"""The tasks of lm-eval that a study names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES
from lm_eval.api.registry import (
    AGGREGATION_REGISTRY,
    DEFAULT_METRIC_REGISTRY,
    METRIC_AGGREGATION_REGISTRY,
    METRIC_REGISTRY,
)
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from stratalaw.evaluation.admission import is_mean, no_accuracy
from stratalaw.study import StudyError, Task, Tasks

MAX_LISTED = 12
NAME_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
DEFINITION = re.compile(rb"^(?:task|group|tag): *[\"']?([\w.-]+)[\"']? *$", re.MULTILINE)


def task_manager(evaluation: Tasks) -> TaskManager:
    """lm-eval's tasks: those of the study's folder, or all that are installed.

    Raises:
        StudyError: the study names a task that is not among them; the message names the key and what is allowed.
    """
    folder = evaluation.tasks_folder
    if folder is None:
        manager = installed_tasks(frozenset(b.task for benchmarks in evaluation.strata.values() for b in benchmarks))
    else:
        manager = TaskManager(include_path=folder, include_defaults=False)
    known = manager.all_tasks
    for stratum, benchmarks in evaluation.strata.items():
        for benchmark in benchmarks:
            key = f"evaluation.strata.{stratum}"
            if benchmark.task not in known:
                alike = get_close_matches(benchmark.task, known, n=3)
                allowed = known if len(known) <= MAX_LISTED else alike
                hint = (
                    f"; {'allowed' if len(known) <= MAX_LISTED else 'alike'}: {', '.join(allowed)}" if allowed else ""
                )
                place = f"the folder {folder}" if folder else "lm-eval"
                raise StudyError(f"{key}: {place} has no task {benchmark.task}{hint}")
    return manager


def check_metrics(manager: TaskManager, evaluation: Tasks) -> None:
    """Refuse metrics and filters that the study's tasks do not have.

    Raises:
        StudyError: the message names the key and what is allowed.
    """
    for stratum, benchmarks in evaluation.strata.items():
        for benchmark in benchmarks:
            for config in task_configs(manager, benchmark.task):
                check_task(benchmark, config, f"evaluation.strata.{stratum}")


@cache
def installed_tasks(names: frozenset[str] = frozenset()) -> TaskManager:
    """The tasks that come with lm-eval: at least the named ones if names are given, else all.

    Finding all takes lm-eval seconds: it reads fourteen thousand files.
    """
    if not names:
        return TaskManager()
    if folders := folders_of(names):
        logging.getLogger("lm_eval.tasks._index").setLevel(logging.ERROR)  # of tags that several folders share
        manager = TaskManager(include_path=folders, include_defaults=False)
        if all(is_complete(manager, name) for name in names):
            return manager
    return installed_tasks()


def is_complete(manager: TaskManager, name: str) -> bool:
    """Whether all members of a group, if it is one, are among the tasks, by their names."""
    entry = manager.task_index.get(name)
    if entry is None:
        return False
    config = entry.cfg or {}
    if "group" not in config:
        return True
    return all(isinstance(member, str) and is_complete(manager, member) for member in config["task"])


def folders_of(names: Set[str]) -> list[str]:
    """The folders of lm-eval that define some tasks or groups; none unless each is defined exactly once."""
    installed = Path(lm_eval.tasks.__file__).parent
    places = [
        (match[1].decode(), installed / path.relative_to(installed).parts[0])
        for path in installed.rglob("*.yaml")
        for match in DEFINITION.finditer(path.read_bytes())
        if match[1].decode() in names
    ]
    return sorted({str(folder) for _, folder in places}) if sorted(name for name, _ in places) == sorted(names) else []


def task_configs(manager: TaskManager, name: str) -> Iterator[Mapping[str, Any]]:
    """The configurations of a task, or of all tasks within a group or tag, as their YAML files have them."""
    entry = manager.task_index[name]
    config = entry.cfg or {}
    if "group" not in config and config:
        yield config
        return
    for member in config.get("task", sorted(entry.tags)):
        if isinstance(member, str):
            yield from task_configs(manager, member)


def data_set_of(manager: TaskManager, name: str) -> str | None:
    """The data set of the Hub that a task, or every task of a group, is made from; None if it is on this machine.

    Raises:
        StudyError: the tasks of a group are made from several, which one commit cannot pin.
    """
    paths = {data_set_path(manager, config) for config in task_configs(manager, name)}
    data_sets = sorted(path for path in paths if path is not None and is_on_the_hub(path))
    if len(data_sets) > 1:
        raise StudyError(
            f"the tasks of {name} come from several data sets ({', '.join(data_sets)}); name them one by one"
        )
    return data_sets[0] if data_sets else None


def data_set_path(manager: TaskManager, config: Mapping[str, Any]) -> str | None:
    """What a task hands to ``datasets.load_dataset``."""
    if "class" not in config:
        path: str | None = config.get("dataset_path")
        return path
    # Tasks written in Python name it in their code.
    path = load_yaml(manager.task_index[config["task"]].yaml_path, resolve_func=True)["class"].DATASET_PATH
    return path


def is_on_the_hub(path: str) -> bool:
    """Whether a data set is a repository (``owner/name``, old ones ``name``), and neither a format nor a folder."""
    return path not in ("", *_PACKAGED_DATASETS_MODULES) and not is_here(path)


def is_here(path: str) -> bool:
    """Whether a data set is a file or folder of this machine."""
    return path not in ("", *_PACKAGED_DATASETS_MODULES) and Path(path).exists()


def check_names(manager: TaskManager, evaluation: Tasks) -> None:
    """Refuse a file or folder here that ``datasets`` would read in place of the Hub's data set of the same name.

    In the study's own tasks a benchmark without a revision may mean the folder.

    Raises:
        StudyError: the message names the key and the folder.
    """
    for stratum, benchmarks in evaluation.strata.items():
        for benchmark in benchmarks:
            if benchmark.revision is None and evaluation.tasks_folder is not None:
                continue
            for config in task_configs(manager, benchmark.task):
                try:
                    check_is_not_here(data_set_path(manager, config) or "")
                except StudyError as error:
                    raise StudyError(f"evaluation.strata.{stratum}: {benchmark.task}: {error}") from None


def check_is_not_here(path: str) -> None:
    """Raise StudyError if a name of the Hub's data sets is that of a file or folder here, which comes first."""
    if NAME_ON_THE_HUB.fullmatch(path) and is_here(path):
        raise StudyError(f"{Path(path).resolve()} would be read in place of the Hub's data set {path}; rename it")


def check_task(benchmark: Task, config: Mapping[str, Any], key: str) -> None:
    """Refuse a metric that a task does not compute or that is code of the Hub, and a filter that it does not have or
    that is left open."""
    if "class" in config:
        return  # only its code knows
    for metric in metrics_on_the_hub(config):
        raise StudyError(f"{key}: {why_no_metric(config['task'], metric)}")
    metrics = metrics_of(config)
    if benchmark.metric not in metrics:
        raise StudyError(
            f"{key}: the task {config['task']} has no metric {benchmark.metric}; allowed: {', '.join(metrics)}"
        )
    aggregation = aggregation_of(config, benchmark.metric)
    if aggregation is not None and not is_mean(aggregation):
        raise StudyError(f"{key}: {config['task']}: {no_accuracy(benchmark.metric)}")
    filters = [entry["name"] for entry in config.get("filter_list") or ()]
    if benchmark.filter is None and len(filters) > 1:
        raise StudyError(f"{key}: the task {config['task']} needs a filter; allowed: {', '.join(filters)}")
    if benchmark.filter is not None and benchmark.filter not in filters:
        allowed = ", ".join(filters) or "none"
        raise StudyError(f"{key}: the task {config['task']} has no filter {benchmark.filter}; allowed: {allowed}")


def metrics_of(config: Mapping[str, Any]) -> list[str]:
    """The metrics that a task computes for each item."""
    if "metric_list" not in config:
        return list(DEFAULT_METRIC_REGISTRY[config.get("output_type", "generate_until")])
    # A metric that is a function goes by the function's name.
    return [str(entry["metric"]).rpartition(".")[2] for entry in config["metric_list"]]


def aggregation_of(config: Mapping[str, Any], metric: str) -> Callable[[Sequence[float]], float] | None:
    """What a task makes of the items' scores of a metric; None where only its code says."""
    entries = {str(entry["metric"]).rpartition(".")[2]: entry for entry in config.get("metric_list", ())}
    name = entries.get(metric, {}).get("aggregation")
    found: Callable[[Sequence[float]], float] | None = (
        METRIC_AGGREGATION_REGISTRY.get(metric) if name is None else AGGREGATION_REGISTRY.get(str(name))
    )
    return found


def metrics_on_the_hub(config: Mapping[str, Any]) -> list[str]:
    """The metrics of a task that lm-eval would have the library ``evaluate`` fetch from the Hub, and calls."""
    if config.get("process_results") is not None or config.get("output_type", "generate_until") != "generate_until":
        return []  # computed by the task's own code, or by lm-eval itself whatever the metric's entry says
    return [
        name
        for entry in config.get("metric_list") or ()
        if (name := str(entry["metric"])) not in METRIC_REGISTRY or entry.get("hf_evaluate") is True
        if "/" not in name  # a function of the task's code, with the path of its file
    ]


def why_no_metric(task: str, metric: str) -> str:
    return (
        f"{task}: its metric {metric} is code that the library evaluate would fetch from the Hub and run; "
        "no code of the Hub is run: use a metric of lm-eval, or a function in evaluation.tasks_folder"
    )
