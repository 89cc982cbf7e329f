"""Finished jobs whose results are older than what they were made from, as snakemake tells the time."""

from __future__ import annotations

import math
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import Study

TIMESTAMP = ".snakemake_timestamp"  # within a folder; snakemake takes its time for the folder's


def outdated_jobs(study: Study, results: Results) -> list[Job]:
    """Finished jobs that have a file which is older than what another job made for them, in the order of the data."""
    jobs = jobs_of(study, results)
    newest, oldest = [-math.inf] * len(jobs), [math.inf] * len(jobs)
    for number, job in enumerate(jobs):
        times = [time for output in job.outputs if (time := _times(output))]
        if len(times) == len(job.outputs):
            newest[number] = max(time.changed for time in times)
            timing = _times(results.timing(job.stage.name, job.name))
            oldest[number] = min(time.made for time in [*times, *filter(None, [timing])])
    return [job for job, made in zip(jobs, oldest, strict=True) if any(newest[number] > made for number in job.after)]


def files_of_job(job: Job, results: Results) -> list[Path]:
    """The files and folders of a finished job whose time snakemake looks at: what it made, and how long it took."""
    timing = results.timing(job.stage.name, job.name)
    return [*job.outputs, *filter(Path.exists, [timing])]


def outdated_note(jobs: Sequence[Job], study_file: str) -> str:
    """That jobs are outdated, in one line with what to do."""
    count = f"{len(jobs)} finished job{' is' if len(jobs) == 1 else 's are'}"
    return (
        f"{count} older than what {'it was' if len(jobs) == 1 else 'they were'} made from (first: {jobs[0].stage.name} "
        f"{jobs[0].name}), and may be made again; if they were only copied or moved, run: stratalaw adopt {study_file}"
    )


class _Times(NamedTuple):
    made: float  # for the job that made it
    changed: float  # for those that read it


def _times(path: Path) -> _Times | None:
    """The times of a file or folder, of a link and of what it names; None if there is nothing."""
    # A dry run asks for thousands of files: each is looked at once.
    try:
        own = path.lstat()
        named = path.stat() if stat.S_ISLNK(own.st_mode) else own
    except OSError:
        return None
    changed = named.st_mtime
    if stat.S_ISDIR(named.st_mode):
        with suppress(OSError):
            changed = (path / TIMESTAMP).stat().st_mtime
    return _Times(own.st_mtime if named is not own else changed, changed)
