"""A job of the workflow: one call of one stage, on a GPU to itself where there are GPUs."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from stratalaw.jobs.call import Call, perform


def export_library() -> None:
    """Let jobs that run in an environment of their own (conda) find this library, which is not installed there."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


def run(job: Any, function: str, **arguments: Any) -> None:
    """Call a function for a job of the workflow; if it fails, print one line and exit with status 1.

    Args:
        job: the object ``snakemake`` of a workflow's script; its log is used, its config's ``warm_worker``, and, if it
            asks for a GPU, its config's ``gpus`` and ``jobs_per_gpu`` (see ``study.configuration`` and ``jobs.lease``).
        function: ``module:name``; imported where it runs, so that a script itself starts at once.
        arguments: lists of files become lists of text.
    """
    from stratalaw.jobs.lease import LeaseError
    from stratalaw.jobs.worker import ask_worker

    call = Call(function, str(job.log[0]), {name: _plain(value) for name, value in arguments.items()})
    try:
        with _gpu_for(job):
            error = (ask_worker if job.config["warm_worker"] else perform)(call)
    except LeaseError as refused:
        error = str(refused)
        with suppress(OSError):  # for `stratalaw status`
            Path(call.log).parent.mkdir(parents=True, exist_ok=True)
            Path(call.log).write_text("".join(traceback.format_exception_only(refused)))
    if error:
        sys.exit(error)


def _gpu_for(job: Any) -> AbstractContextManager[object]:
    """A GPU to itself for a job that asks for one, where the workflow's config says how many there are."""
    from stratalaw.jobs.lease import leased_gpu, lock_folder

    if job.config["gpus"] is None or not job.resources.get("gpu"):
        return nullcontext()
    return leased_gpu(lock_folder(), job.config["gpus"], job.config["jobs_per_gpu"])


def _plain(value: Any) -> Any:
    """Snakemake's kinds of text and list as plain Python."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
