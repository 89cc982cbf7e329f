"""The tasks of lm-eval that a study names."""

from __future__ import annotations

from difflib import get_close_matches

from lm_eval.tasks import TaskManager

from stratalaw.study import Evaluation

LISTED = 12


def task_manager(evaluation: Evaluation) -> TaskManager:
    """lm-eval's tasks: those of the study's folder, or all that are installed.

    Raises:
        LookupError: the study names a task that is not among them; the message names the key and what is allowed.
    """
    folder = evaluation.tasks_folder
    manager = TaskManager(include_path=folder, include_defaults=folder is None)
    known = manager.all_tasks
    for stratum, benchmarks in evaluation.strata.items():
        for benchmark in benchmarks:
            if benchmark.task not in known:
                alike = get_close_matches(benchmark.task, known, n=3)
                allowed = known if len(known) <= LISTED else alike
                hint = f"; {'allowed' if len(known) <= LISTED else 'alike'}: {', '.join(allowed)}" if allowed else ""
                place = f"the folder {folder}" if folder else "lm-eval"
                raise LookupError(f"evaluation.strata.{stratum}: {place} has no task {benchmark.task}{hint}")
    return manager
