"""Resuming a run on Slurm whose head died: snakemake itself, which submits the jobs and waits for them.

The head's jobs live on without it. They must be gone before another head submits their replacements, or two jobs would
write the same files; and the folder is still locked.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from stratalaw.errors import StratalawError
from stratalaw.units import counted

JOB_NAME_PREFIX = "stratalaw"  # profiles/slurm/config.yaml: slurm-jobname-prefix
# Run apart: the library does without snakemake.
PARSE = """
import json, sys
from snakemake.cli import parse_args

options = parse_args(sys.argv[1:])[1]
print(json.dumps({"directory": str(options.directory or "."), "dryrun": bool(options.dryrun)}))
"""
SECONDS_TO_END = 300  # a cancelled job may tidy up before Slurm kills it (KillWait)


class ResumeError(StratalawError):
    """The run cannot be resumed now; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class SnakemakeOptions:
    """What snakemake makes of its arguments, its profiles and the environment.

    Attributes:
        directory: the folder that it works in.
        dryrun: whether it only shows what it would do.
    """

    directory: Path
    dryrun: bool


def resume(arguments: Sequence[str]) -> int:
    """Cancel what an earlier run in the same folder left on Slurm, unlock the folder, and run snakemake to its end.

    Args:
        arguments: those that snakemake was given.

    Returns:
        snakemake's exit status.

    Raises:
        ResumeError: snakemake still runs in the folder, or may do so on another machine; Slurm does not answer, or does
            not end the jobs.
    """
    snakemake = snakemake_command(arguments)
    folder = snakemake_options(arguments).directory
    check_head_is_gone(folder)
    if jobs := jobs_left_in(folder):
        print(f"Cancelling {counted(len(jobs), 'job')} of the run before: {' '.join(jobs)}", flush=True)
        cancel(jobs, folder)
    if locked(folder):
        subprocess.run([*snakemake, "--unlock"], check=True)
    return subprocess.run(snakemake, check=False).returncode


def snakemake_command(arguments: Sequence[str]) -> list[str]:
    """The command that runs snakemake; raises ModuleNotFoundError where it is not installed."""
    if find_spec("snakemake") is None:
        raise ModuleNotFoundError("No module named 'snakemake'", name="snakemake")
    return [sys.executable, "-m", "snakemake", *arguments]


def snakemake_options(arguments: Sequence[str]) -> SnakemakeOptions:
    """What snakemake makes of its arguments, by its own parser: a profile may set the folder, or be the default one.

    Raises:
        StratalawError: snakemake does not take the arguments.
    """
    command = snakemake_command(arguments)
    parsed = subprocess.run([command[0], "-c", PARSE, *arguments], capture_output=True, text=True, check=False)
    if parsed.returncode:
        said = parsed.stderr.strip().splitlines() or ["snakemake does not take these arguments"]
        raise StratalawError(said[-1])
    options = json.loads(parsed.stdout.splitlines()[-1])
    return SnakemakeOptions(Path(options["directory"]).resolve(), options["dryrun"])


def locked(folder: Path) -> bool:
    """Whether a run holds the folder's lock, or died with it."""
    return any(folder.glob(".snakemake/locks/*"))


def check_head_is_gone(folder: Path) -> None:
    """Raise ResumeError if the head of a run still works in a folder, as far as this machine can see."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (process / "cwd").resolve(strict=True) == folder
        except OSError:  # ended meanwhile, or not ours
            continue
        if here and _is_head(words):
            raise ResumeError(
                f"{folder}: snakemake runs here (process {process.name}); stop it first, or let it finish"
            )
    host = host_of_last_run(folder)
    if locked(folder) and host not in (None, platform.node()):
        raise ResumeError(
            f"{folder}: the last run was started on {host} and may still live there; resume it on that machine "
            "(if it is gone for good, delete .snakemake/log)"
        )


def _is_head(words: Sequence[str]) -> bool:
    """Whether a process with this command line is a snakemake that is not itself part of a job."""
    of_job = {"slurm-jobstep", "subprocess", "remote"}
    called = any(Path(word).name == "snakemake" for word in words[:4])
    return called and not of_job.intersection(words)


def host_of_last_run(folder: Path) -> str | None:
    """The machine on which snakemake was started last, by its log."""
    logs = sorted(folder.glob(".snakemake/log/*.snakemake.log"))
    for line in logs[-1].read_text(errors="replace").splitlines() if logs else ():
        key, _, value = line.strip().partition(": ")
        if key.lower() == "host":
            return value.strip()
    return None


def jobs_left_in(folder: Path) -> list[str]:
    """Slurm's numbers of this user's unfinished jobs that a head in a folder submitted."""
    listed = _slurm("squeue", "--me", "--noheader", "--format=%i|%j|%Z")
    jobs = [line.split("|", 2) for line in listed.splitlines()]
    return [
        job for job, name, place in jobs if name.startswith(f"{JOB_NAME_PREFIX}_") and Path(place).resolve() == folder
    ]


def cancel(jobs: Sequence[str], folder: Path) -> None:
    """Cancel jobs and wait until they have ended, so that none writes a file any more."""
    _slurm("scancel", *jobs)
    give_up = time.monotonic() + SECONDS_TO_END
    while left := jobs_left_in(folder):
        if time.monotonic() > give_up:
            raise ResumeError(f"jobs {' '.join(left)} still run {SECONDS_TO_END} s after scancel; see `squeue --me`")
        time.sleep(1)


def _slurm(*command: str) -> str:
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise ResumeError(f"there is no {command[0]} here; resume where snakemake submitted its jobs") from None
    except subprocess.CalledProcessError as error:
        raise ResumeError(f"{command[0]} failed: {' '.join(error.stderr.split())}; try again later") from None
