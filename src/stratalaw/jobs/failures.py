"""Why a job failed, in one line with advice, from what it and Slurm left in its logs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stratalaw.jobs.call import STOPPED
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


def _raised(*messages: str) -> str:
    """A pattern of lines in which an exception says one of these; a mere warning that says the same is no failure."""
    return rf"^[a-z_][\w.]*Error\b.*({'|'.join(messages)})"


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
        r"std::bad_alloc",
        r"DefaultCPUAllocator: .*memory",
        r"Cannot allocate memory",
        r"job's process was killed",
        r"died with <Signals\.SIGKILL",
        r"task \d+: Killed",
        r"^Killed\b",
    ),
    _cause(
        "crash",
        "a library crashed; run again, and if it crashes again, report it with the log (a bus error: a file that was "
        "being read shrank, or its disk is full)",
        r"Fatal Python error",
        r"^terminate called",
        r"died with <Signals\.SIG(?!KILL|TERM|INT)",
        r"^(.*: )?(Segmentation fault|Bus error|Illegal instruction|Floating point exception|Aborted)( \(core.*)?$",
    ),
    _cause(
        "cancelled",
        "someone cancelled it (scancel), or the run was stopped; run again to go on",
        r"\*\*\* (JOB|STEP) \S+ ON \S+ CANCELLED",
        rf"^{STOPPED}",
    ),
    _cause(
        "no space",
        "free some room on the disk that the line names (or raise the quota), and run again",
        r"No space left on device",
        r"Disk quota exceeded",
        r"os error 28\b",
    ),
    _cause(
        "read-only file system",
        "make the disk that the line names writable (after a fault, systems make one read-only), or run in a folder on "
        "another one",
        _raised(r"Read-only file system", r"os error 30\b"),
    ),
    _cause(
        "permission denied",
        "ask the owner of what the line names for the right to use it, or run in a folder of your own",
        _raised(r"Permission denied", r"Operation not permitted", r"os error (1|13)\b"),
    ),
    _cause(
        "too many open files",
        "raise the limit on open files (`ulimit -n`), and run again",
        _raised(r"Too many open files", r"os error (23|24)\b"),
    ),
    _cause(
        "input/output error",
        "the disk or the network file system failed; see whether what the line names can be read, tell the site if "
        "not, and run again",
        _raised(r"Input/output error", r"Remote I/O error", r"Stale (NFS )?file handle", r"os error (5|116|121)\b"),
        _raised(r"Transport endpoint is not connected"),
    ),
    _cause(
        "uninvertible Hessian",
        "the study goes on without the variant, and coverage.csv names it; more calibration samples or a higher "
        "gptq.damping may help",
        *UNINVERTIBLE,
    ),
    _cause(
        "corrupt input",
        "delete what the line names and run again: it is made anew (a file of your own: put a whole one in its place)",
        r"changed since it was",
        r"truncated or altered|or truncated \(",
        r"not a safetensors file",
        r"SafetensorError",
        r"; delete \S+ and run again",
        r"^[\w.]*(ArrowInvalid|ArrowTypeError|JSONDecodeError|UnicodeDecodeError|UnpicklingError)\b",
        r"^[\w.]*(BadGzipFile|BadZipFile|LZMAError|zlib\.error)\b",
        _raised(r"Couldn't deserialize thrift", r"Unexpected end of", r"Compressed file ended", r"Corrupt snappy"),
        _raised(r"CRC check", r"Parquet file", r"Parquet magic", r"decompress"),
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
        "refused",
        "do what the line says, and run again",
        r"^stratalaw(\.\w+)+Error: \S",
    ),
    _cause(
        "bug",
        "report it with the log",
        # Snakemake's own words say only that a job failed.
        r"^(?!WorkflowError|RuleException|CalledProcessError)[a-z_][\w.]*(Error|Exception)(: \S|$)",
        r"(?-i:^[a-z_]\w*(\.[a-z_]\w*)*\.([A-Z]\w+|error)(: \S|$))",  # subprocess.TimeoutExpired, struct.error
    ),
    _cause(
        "ended early",
        "no error was written: it was killed (alone, for its memory, or with the whole run); run again, and if it ends "
        "so again, give it more memory or report it with the log",
        r"^Exiting because a job execution failed",
        r"^At least one job did not complete successfully",
        r"^srun: error: .*: task \d+: ",
    ),
)


def classify(text: str) -> Failure | None:
    """The failure that a log shows, or None where it shows none; the last line that shows it is kept."""
    lines = text.splitlines()
    for cause in CAUSES:
        for line in reversed(lines):
            if cause.pattern.search(line):
                return Failure(cause, _shown(line))
    return None


def failure_with(cause: str, line: str) -> Failure:
    """A failure of which no log says the cause, which is one of ``CAUSES`` by name."""
    return Failure(next(known for known in CAUSES if known.name == cause), _shown(line))


def _shown(line: str) -> str:
    return " ".join(line.split())[:MAX_LINE]
