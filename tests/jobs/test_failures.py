"""Logs of real failures are told apart, each with one line and advice."""

import traceback
from pathlib import Path

import pytest
import torch

from stratalaw.jobs.failures import CAUSES, classify
from stratalaw.models.folder import check_model
from stratalaw.models.hub import DownloadError
from stratalaw.quantization.gptq import audit_of_module

# Written by Slurm 22.05 when these things happened to jobs.
TIME_LIMIT = """\
slurmstepd-n1: error: *** JOB 38 ON n1 CANCELLED AT 2026-11-24T03:30:18 DUE TO TIME LIMIT ***
slurmstepd-n1: error: *** STEP 38.0 ON n1 CANCELLED AT 2026-11-24T03:30:18 DUE TO TIME LIMIT ***
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
srun: got SIGCONT
srun: error: n1: task 0: Terminated
"""
CANCELLED = """\
srun: Job step aborted: Waiting up to 7 seconds for job step to finish.
srun: got SIGCONT
slurmstepd-n1: error: *** JOB 48 ON n1 CANCELLED AT 2026-11-24T03:30:54 ***
srun: forcing job termination
slurmstepd-n1: error: *** STEP 48.0 ON n1 CANCELLED AT 2026-11-24T03:30:54 ***
srun: error: n1: task 0: Terminated
"""
# Left by snakemake on a node when the process of a script was killed.
KILLED = """\
RuleException:
CalledProcessError in file "workflow/rules/checkpoints.smk", line 21:
Command 'set -euo pipefail;  python .snakemake/scripts/tmpyjhmroll.quantize.py' died with <Signals.SIGKILL: 9>.
Exiting because a job execution failed. Look above for error messages
WorkflowError:
At least one job did not complete successfully.
srun: error: n1: task 0: Exited with exit code 1
"""
# Not seen here; as Slurm and PyTorch document and write them.
OUT_OF_MEMORY = (
    "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."
)
NODE_FAILURE = "slurmstepd: error: *** JOB 7 ON n3 CANCELLED AT 2026-11-24T03:30:54 DUE TO NODE FAILURE ***"
OUT_OF_GPU_MEMORY = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 79.10 GiB"
)


# What the system says, as Python and Rust pass it on; with a path where the system was given one.
TRACEBACK = 'Traceback (most recent call last):\n  File "stages.py", line 7, in quantize_model\n'
UNWRITABLE = "safetensors_rust.SafetensorError: Error while serializing: I/O error: Read-only file system (os error 30)"


@pytest.mark.parametrize(
    ("text", "cause", "line"),
    [
        (TIME_LIMIT, "time limit", "STEP 38.0"),
        (CANCELLED, "cancelled", "STEP 48.0"),
        (KILLED, "out of memory, or killed", "SIGKILL"),
        (OUT_OF_MEMORY, "out of memory, or killed", "oom_kill"),
        (NODE_FAILURE, "node failure", "NODE FAILURE"),
        (OUT_OF_GPU_MEMORY, "out of GPU memory", "Tried to allocate"),
    ],
)
def test_what_slurm_and_snakemake_leave(text, cause, line):
    failure = classify(text)
    assert failure.cause.name == cause and line in failure.line


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("OSError: [Errno 30] Read-only file system: 'results/models'", "read-only file system"),
        (UNWRITABLE, "read-only file system"),
        ("PermissionError: [Errno 13] Permission denied: 'results/models'", "permission denied"),
        ("OSError: [Errno 24] Too many open files: 'results/models'", "too many open files"),
        ("OSError: [Errno 5] Input/output error: 'results/models'", "input/output error"),
        ("OSError: [Errno 116] Stale file handle: 'results/models'", "input/output error"),
        ("OSError: [Errno 122] Disk quota exceeded: 'results/models'", "no space"),
        ("pyarrow.lib.ArrowInvalid: Parquet magic bytes not found in footer.", "corrupt input"),
        ("OSError: Couldn't deserialize thrift: TProtocolException: Invalid data", "corrupt input"),
        ("json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)", "corrupt input"),
        ("zlib.error: Error -3 while decompressing data: invalid block type", "corrupt input"),
        ("stratalaw.calibration.samples.CorpusError: text.jsonl: only 3 of 9 texts have 256 tokens", "refused"),
        ("subprocess.TimeoutExpired: Command 'x' timed out after 3 seconds", "bug"),
        ("AssertionError", "bug"),
    ],
)
def test_what_is_raised_is_named_as_what_it_is(text, cause):
    failure = classify(f"UserWarning: [Errno 13] Permission denied: '/root/.config'\n{TRACEBACK}{text}\n")
    assert failure.cause.name == cause and failure.line == text


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
            "Fatal Python error: Aborted",
            "out of memory, or killed",
        ),
        ("terminate called after throwing an instance of 'std::out_of_range'\nFatal Python error: Aborted", "crash"),
        ("Command 'python x.py' died with <Signals.SIGSEGV: 11>.", "crash"),
        ("Command 'python x.py' died with <Signals.SIGBUS: 7>.", "crash"),
        ("srun: error: n1: task 0: Segmentation fault (core dumped)", "crash"),
        ("srun: error: n1: task 0: Exited with exit code 1", "ended early"),
        ("Exiting because a job execution failed. Look below for error messages", "ended early"),
    ],
)
def test_what_crashed_libraries_leave(text, cause):
    assert classify(text).cause.name == cause


def truncated_model(folder):
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x10")
    check_model(folder)


def from_the_hub(folder):
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained("stratalaw/not-in-the-cache")


def refused_by_the_hub(folder):
    raise DownloadError("https://huggingface.co/datasets/someone/texts is gated: accept its terms on that page")


@pytest.mark.parametrize(
    ("fail", "cause"),
    [
        (lambda folder: torch.empty(10**15), "out of memory, or killed"),
        (lambda folder: bytearray(10**16), "out of memory, or killed"),
        (lambda folder: Path("/dev/full").write_text("x"), "no space"),
        (lambda folder: torch.linalg.cholesky(torch.zeros(3, 3)), "uninvertible Hessian"),
        (
            lambda folder: audit_of_module(
                {"layer": 0, "module": "down", "loss": "999999999", "samples": 1, "damp": 1}, {}, {}
            ),
            "uninvertible Hessian",
        ),
        (truncated_model, "corrupt input"),
        (from_the_hub, "network"),
        (refused_by_the_hub, "download"),
        (lambda folder: {}["missing"], "bug"),
    ],
    ids=["tensor", "bytes", "disk", "cholesky", "hessian", "model", "hub", "refused", "bug"],
)
def test_errors_that_are_raised(fail, cause, tmp_path):
    try:
        fail(tmp_path)
    except Exception:
        failure = classify(traceback.format_exc())
    assert failure.cause.name == cause
    assert "\n" not in failure.line and failure.line


def test_a_job_that_only_printed_did_not_fail():
    assert classify("INFO layer 3: loss 0.01\nTruncation was not explicitly activated\n") is None
    assert classify("") is None


def test_every_cause_has_advice():
    assert len({cause.name for cause in CAUSES}) == len(CAUSES) == 18
    assert all(cause.advice for cause in CAUSES)
