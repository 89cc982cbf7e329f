"""Finished jobs whose results are older than what they were made from, as snakemake tells the time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import Study

TIMESTAMP = ".snakemake_timestamp"  # within a folder; snakemake takes its time for the folder's


def outdated_jobs(study: Study, results: Results) -> list[Job]:
    """Finished jobs of which an output is older than what another job made for them, in the order of the data."""
    jobs = jobs_of(study, results)
    done = [job.is_done() for job in jobs]

    @cache
    def newest(number: int) -> float:
        return max(map(_changed_at, jobs[number].outputs))

    return [
        job
        for job, is_done in zip(jobs, done, strict=True)
        if is_done
        and job.after
        and max((newest(number) for number in job.after if done[number]), default=0) > min(map(_made_at, job.outputs))
    ]


def outdated_note(jobs: Sequence[Job], study_file: str) -> str:
    """That jobs are outdated, in one line with what to do."""
    count = f"{len(jobs)} finished job{' is' if len(jobs) == 1 else 's are'}"
    return (
        f"{count} older than what {'it was' if len(jobs) == 1 else 'they were'} made from (first: {jobs[0].stage.name} "
        f"{jobs[0].name}), and may be made again; if they were only copied or moved, run: stratalaw adopt {study_file}"
    )


def _changed_at(path: Path) -> float:
    """When a file or folder changed, for jobs that read it."""
    stamp = path / TIMESTAMP
    return (stamp if stamp.exists() else path).stat().st_mtime


def _made_at(path: Path) -> float:
    """When a file or folder was made, for the job that made it."""
    return path.lstat().st_mtime if path.is_symlink() else _changed_at(path)
