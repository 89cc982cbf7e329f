"""Finished results that are older than what they were made from, as after a copy, and are what their seals say.

Snakemake goes by time stamps, and a copy of a folder has new ones, in the order in which its files were written.
``snakemake --touch`` would mend that, but it also records today's settings as those with which the results were made.
Here nothing but time stamps changes, so that snakemake still sees a setting that has changed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

from stratalaw.errors import StratalawError
from stratalaw.jobs.outdated import TIMESTAMP, files_of_job
from stratalaw.jobs.redo import with_study
from stratalaw.jobs.resume import check_head_is_gone, snakemake_command, snakemake_options
from stratalaw.jobs.verification import StageVerified, verify_study
from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import read_study


@dataclass(frozen=True)
class Adoption:
    """What came of adopting results.

    Attributes:
        verified: what was found of each stage; nothing is adopted if there is a problem.
        adopted: finished jobs whose results count as made now, or would.
        only_shown: whether no time stamp was changed, since ``-n`` was among the arguments.
        has_records: whether snakemake's records of earlier runs are there, which tell a setting that has changed.
    """

    verified: list[StageVerified]
    adopted: list[Job]
    only_shown: bool
    has_records: bool


def adopt(study_file: Path, arguments: Sequence[str]) -> Adoption:
    """Verify all results of a study, and if nothing is wrong, give those of finished jobs one time stamp: now.

    Args:
        study_file: the study.
        arguments: those that snakemake is given: they tell the folder, and with ``-n`` no time stamp changes.

    Raises:
        StratalawError: the file is no study, nothing of it is finished in the folder, snakemake runs there, or a time
            stamp may not be changed.
    """
    study, results, options = read_study(study_file), Results(), snakemake_options(arguments)
    check_head_is_gone(options.directory)
    with chdir(options.directory):
        finished = [job for job in jobs_of(study, results) if job.is_done()]
        if not finished:
            raise StratalawError(f"{options.directory}: no job of {study.name} has finished here")
        verified = verify_study(study, results)
        if any(stage.problems for stage in verified):
            finished = []
        elif not options.dryrun:
            now = time.time_ns()
            for path in [path for job in finished for path in files_of_job(job, results)]:
                _touch(path, now)
    return Adoption(verified, finished, options.dryrun, _has_records(options.directory))


def show_what_is_left(study_file: Path, arguments: Sequence[str]) -> int:
    """Let snakemake show which jobs it would run; returns its exit status."""
    command = snakemake_command([*with_study(study_file, arguments), "--dry-run"])
    return subprocess.run(command, check=False).returncode


def _touch(path: Path, now: int) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            path /= TIMESTAMP
            path.touch()
        os.utime(path, ns=(now, now), follow_symlinks=False)
    except OSError as error:
        raise StratalawError(f"{path}: its time stamp may not be changed ({error.strerror})") from None


def _has_records(folder: Path) -> bool:
    return any(folder.glob(".snakemake/metadata/*")) or (folder / ".snakemake" / "metadata.db").exists()
