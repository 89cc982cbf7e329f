"""A job of the workflow: one call of one stage, on a GPU to itself where there are GPUs."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stratalaw.jobs.call import Call, perform

if TYPE_CHECKING:
    from stratalaw.jobs.lease import Gpus


def export_library() -> None:
    """Let jobs that run in an environment of their own (conda) find this library, which is not installed there."""
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))


# The tasks of lm-eval, which take longer to make than a variant's answers to score, are kept from one to the next; in
# studies of many variants the libraries as well.
SCORES = "stratalaw.jobs.stages:score_items"
OF_VARIANTS = {f"stratalaw.jobs.stages:{name}" for name in ("quantize_model", "answer_requests")}


def run(job: Any, function: str, **arguments: Any) -> None:
    """Call a function for a job of the workflow; if it fails, print one line and exit with status 1.

    Args:
        job: the object ``snakemake`` of a workflow's script; its log is used, its config's ``warm_worker``, and, if it
            asks for a GPU, its config's ``gpus`` and ``jobs_per_gpu`` (see ``study.configuration`` and ``jobs.lease``).
        function: ``module:name``; imported where it runs, so that a script itself starts at once.
        arguments: lists of files become lists of text.
    """
    from stratalaw.jobs.lease import LeaseError

    call = Call(function, str(job.log[0]), {name: _plain(value) for name, value in arguments.items()})
    try:
        gpus = _gpus_for(job)
        stays = function == SCORES or (function in OF_VARIANTS and job.config.get("keeps_processes", False))
        error = _performed(call, gpus, 1 if gpus is None else gpus_of(job), job.config["warm_worker"], stays)
    except LeaseError as refused:
        error = str(refused)
        with suppress(OSError):  # for `stratalaw status`
            Path(call.log).parent.mkdir(parents=True, exist_ok=True)
            Path(call.log).write_text("".join(traceback.format_exception_only(refused)))
    if error:
        sys.exit(error)


def gpus_of(job: Any) -> int:
    """How many GPUs a job has, if it has one; a job that may share its GPU asks for one place on it."""
    return max(1, int(job.resources.get("gpu", 0)) // int(job.config["jobs_per_gpu"]))


def _performed(call: Call, gpus: Gpus | None, count: int, warm: bool, stays: bool) -> str | None:
    """Perform a call in a process that stays (on a GPU, or where it ``stays``), in a fork of the warm worker, or
    here, as on several GPUs.
    """
    from stratalaw.jobs.lease import leased_gpus
    from stratalaw.jobs.places import ask_resident
    from stratalaw.jobs.worker import ask_worker

    if warm and count == 1 and (gpus is not None or stays):
        try:
            return ask_resident(call, gpus)
        except OSError as reason:
            print(f"the job runs in its own process: {reason}", file=sys.stderr)
    elif warm and gpus is None:
        return ask_worker(call)
    with nullcontext() if gpus is None else leased_gpus(gpus, count):
        return perform(call)


def _gpus_for(job: Any) -> Gpus | None:
    """The GPUs of which a job leases its own; None where it asks for none, or nothing says how many there are."""
    from stratalaw.jobs.lease import Gpus, lock_folder
    from stratalaw.jobs.packs import PACKED

    if job.config["gpus"] is None or not job.resources.get("gpu"):
        return None
    if PACKED in os.environ:
        return Gpus.of_slurm(os.environ["SLURM_JOB_ID"])
    return Gpus.visible(lock_folder(), job.config["gpus"], job.config["jobs_per_gpu"])


def _plain(value: Any) -> Any:
    """Snakemake's kinds of text and list as plain Python."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value
