"""Why a job failed, in one line with advice, from what it and Slurm left in its logs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stratalaw.quantization.unquantizable import UNINVERTIBLE

MAX_LINE = 300  # characters


@dataclass(frozen=True)
class Cause:
    """A kind of failure: ``pattern`` is found in the logs of jobs that failed so, ``advice`` says what to do."""

    name: str
    pattern: re.Pattern[str]
    advice: str


@dataclass(frozen=True)
class Failure:
    """A failure of one job: its kind, and the line of the log that shows it."""

    cause: Cause
    line: str


def _cause(name: str, advice: str, *patterns: str) -> Cause:
    return Cause(name, re.compile("|".join(patterns), re.IGNORECASE), advice)


# In this order: what Slurm says comes before what the dying process said, the particular before the general.
CAUSES = (
    _cause(
        "time limit",
        "it is retried with more time; if that fails too, raise runtime in profiles/slurm/config.yaml",
        r"DUE TO TIME LIMIT",
    ),
    _cause(
        "node failure",
        "it is retried on another node; if one node fails again and again, tell the site and use "
        "--slurm-exclude-failed-nodes",
        r"DUE TO NODE[ _]FAIL",
        r"\bNODE_FAIL\b",
    ),
    _cause(
        "out of GPU memory",
        "it is retried; ask for a larger GPU (gpu_model in profiles/slurm/config.yaml), or lower "
        "evaluation.tokens_per_batch (gptq.batch_size changes the weights)",
        r"CUDA out of memory",
        r"torch\.(cuda\.)?OutOfMemoryError",
        r"CUBLAS_STATUS_ALLOC_FAILED",
    ),
    _cause(
        "out of memory, or killed",
        "it is retried with more memory; if that fails too, raise mem_mb in profiles/slurm/config.yaml",
        r"oom[-_ ]kill",
        r"OUT_OF_MEMORY|Out Of Memory",
        r"^\s*MemoryError",
        r"DefaultCPUAllocator: .*memory",
        r"Cannot allocate memory",
        r"job's process was killed",
        r"died with <Signals\.SIGKILL",
        r"task \d+: Killed",
        r"^Killed\b",
    ),
    _cause(
        "cancelled",
        "someone cancelled it (scancel), or the run was stopped; run again to go on",
        r"\*\*\* (JOB|STEP) \S+ ON \S+ CANCELLED",
    ),
    _cause(
        "no space",
        "free some room on the disk that the line names (or raise the quota), and run again",
        r"No space left on device",
        r"Disk quota exceeded",
        r"os error 28\b",
    ),
    _cause(
        "uninvertible Hessian",
        "the study goes on without the variant, and coverage.csv names it; more calibration samples or a higher "
        "gptq.damping may help",
        *UNINVERTIBLE,
    ),
    _cause(
        "corrupt input",
        "delete what the line names and run again: it is made anew",
        r"changed since it was",
        r"truncated or altered|or truncated \(",
        r"not a safetensors file",
        r"SafetensorError",
        r"; delete \S+ and run again",
    ),
    _cause(
        "download",
        "do what the line says and run again: what has arrived is kept",
        r"\bDownloadError: \S",
    ),
    _cause(
        "network",
        "jobs run offline: fetch models and data sets before the run, where there is a network",
        r"Temporary failure in name resolution",
        r"Name or service not known",
        r"Max retries exceeded",
        r"OfflineModeIsEnabled|offline mode is enabled|HF_HUB_OFFLINE",
        r"We couldn't connect to",
        r"Connection (refused|reset by peer|timed out)",
    ),
    _cause(
        "bug",
        "report it with the log",
        # Snakemake's own words say only that a job failed.
        r"^(?!WorkflowError|RuleException|CalledProcessError)[A-Za-z_][\w.]*(Error|Exception): \S",
    ),
)


def classify(text: str) -> Failure | None:
    """The failure that a log shows, or None where it shows none; the last line that shows it is kept."""
    lines = text.splitlines()
    for cause in CAUSES:
        for line in reversed(lines):
            if cause.pattern.search(line):
                return Failure(cause, " ".join(line.split())[:MAX_LINE])
    return None
