"""What a run says at its end: where the results are, what failed and why, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from stratalaw.jobs.status import failure_of
from stratalaw.layout import Results
from stratalaw.pipeline import Job, jobs_of
from stratalaw.study import Study
from stratalaw.units import counted

MAX_NAMED = 5


def lines_of_success(study: Study, study_file: str, results: Results, arguments: Sequence[str]) -> list[str]:
    """Where the results of a run are that has succeeded, and how to look at them.

    Args:
        study: the study.
        study_file: where it was read from.
        results: where its results are.
        arguments: those of snakemake.
    """
    folder = results.of_study(study.name)
    if all(path.exists() for path in results.files_of_study(study.name, "summary")):
        return [
            f"{study.name} is analysed: its tables, figures and laws are in {folder}",
            f"To see what came out: stratalaw show {shlex.quote(str(folder / 'laws.json'))}",
            f"As one page: {snakemake(arguments, '--report', str(folder / 'report.html'))}",
        ]
    jobs = jobs_of(study, results)
    done = sum(job.is_done() for job in jobs)
    return [
        f"What was asked for is done: {done} of the {counted(len(jobs), 'job')} of {study.name} are",
        f"To see what is left: stratalaw status {shlex.quote(study_file)}",
    ]


def lines_of_failure(study_file: str, failed: Sequence[Job], arguments: Sequence[str]) -> list[str]:
    """Which jobs of a run failed and why, where their logs are, and how to run them again; as ``lines_of_success``."""
    alike: dict[tuple[str, str], list[tuple[Job, str]]] = {}
    for job in failed:
        failure = failure_of(job)
        why, line = (f"{failure.cause.name}: {failure.cause.advice}", failure.line) if failure else ("see the log", "")
        alike.setdefault((job.stage.name, why), []).append((job, line))
    lines = (
        [f"{counted(len(failed), 'job')} failed."] if failed else ["The run ended before all of its jobs were done."]
    )
    for (stage, why), jobs in alike.items():
        lines.append(f"{stage}: {counted(len(jobs), 'job')}: {why}")
        lines += [f"    {job.name}: {line} ({job.log})" for job, line in jobs[:MAX_NAMED]]
        # Before the options, some of which take as many words as follow.
        targets = [target for job, _ in jobs[:MAX_NAMED] if (target := str(job.outputs[0])) not in arguments]
        more = f" (and {len(jobs) - MAX_NAMED} more)" if len(jobs) > MAX_NAMED else ""
        lines.append(f"    again: {snakemake([*targets, *arguments])}{more}")
    return [
        *lines,
        f"All that is left, when that is mended (what is done stays as it is): {snakemake(arguments)}",
        f"How far it is, and every failure with its cause: stratalaw status {shlex.quote(study_file)}",
    ]


def snakemake(arguments: Sequence[str], *more: str) -> str:
    """A command line of snakemake."""
    return shlex.join(["snakemake", *arguments, *more])
