"""Making again what a finished study already has, from a stage on.

Snakemake does not make a missing file again while the files that were made from it are there, so deleting one does
nothing in a finished study. It is told which file to make again; what depends on it follows. Nothing is deleted, so
until a job of the new run has started, everything stays as it was.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from stratalaw.errors import StratalawError
from stratalaw.jobs.resume import snakemake_command
from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import Study, read_study


class RedoError(StratalawError):
    """The study has no such job; the message is one line that says which it has."""


def redo(study: Path, name: str, first: str | None, arguments: Sequence[str]) -> int:
    """Run snakemake to its end, with the jobs of one name made again, and what depends on them.

    Args:
        study: the study's file, which snakemake is given too, unless ``arguments`` name one.
        name: the jobs' name, as ``stratalaw status`` shows it: ``MODEL/VARIANT``, ``MODEL/sSEED``, ``MODEL`` or the
            study's.
        first: the stage from which on; None is the first stage that has a job of this name.
        arguments: those that snakemake was given when the study was run.

    Returns:
        snakemake's exit status.

    Raises:
        RedoError: the study has no job of this name, or none in this stage.
        StudyError: the study's file is not one.
    """
    job = job_to_redo(read_study(study), name, first)
    command = snakemake_command([*with_study(study, arguments), "--forcerun", str(job.outputs[0])])
    print(f"Making {name} again from {job.stage.name} on: {shlex.join(['snakemake', *command[3:]])}", flush=True)
    return subprocess.run(command, check=False).returncode


def with_study(study: Path, arguments: Sequence[str]) -> list[str]:
    """Arguments of snakemake that name a study's file, unless they name one already."""
    return [*arguments, *([] if "--configfile" in arguments else ["--configfile", str(study)])]


def job_to_redo(study: Study, name: str, first: str | None = None, results: Results = Results()) -> Job:
    """The job of a name in a stage, or in the first stage that has one; raises RedoError where there is none."""
    jobs = jobs_of(study, results)
    named = {job.stage.name: job for job in reversed(jobs) if job.name == name}
    if not named:
        near = get_close_matches(name, {job.name for job in jobs}, n=3, cutoff=0.5)
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        raise RedoError(f"{study.name}: no job is named {name}{meant}")
    if first is None:
        return next(job for job in jobs if job.name == name)
    if first not in named:
        raise RedoError(f"{name}: {first} is not one of its stages ({', '.join(reversed(named))})")
    return named[first]
