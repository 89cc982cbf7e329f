"""What Slurm and snakemake add to a job (after ``tests/cluster/slurm start``): ``python benchmarks/slurm.py``.

The jobs of tests/cluster/stub do nothing, so all of their time is overhead. They run on the Slurm of the tests, through
profiles/slurm as it is but for its waits.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
STUB = ROOT / "tests" / "cluster" / "stub" / "Snakefile"
PROFILE = ROOT / "profiles" / "slurm"
DRY, REAL = 1200, 300  # jobs


def measure(name: str, n_jobs: int, *arguments: str) -> pd.DataFrame | None:
    """Run the stub and print what it took; returns what its jobs noted, if they ran."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(STUB), "--profile", str(PROFILE)]
    waits = ["--slurm-init-seconds-before-status-checks", "5", "--latency-wait", "5"]
    with tempfile.TemporaryDirectory() as folder:
        started, before = time.perf_counter(), os.times()
        subprocess.run(
            [*command, *waits, *arguments, "--config", f"n_jobs={n_jobs}"], cwd=folder, capture_output=True, check=True
        )
        took, after = time.perf_counter() - started, os.times()
        of_head = after.children_user + after.children_system - before.children_user - before.children_system
        print(f"{name}: {took:.0f} s, {took / n_jobs:.2f} s a job; the head took {of_head:.0f} s of CPU", flush=True)
        noted = Path(folder) / "ran.txt"
        columns = ["number", "job", "submitted", "ran"]
        if not noted.exists():
            return None
        return pd.read_csv(noted, sep=" ", names=columns, parse_dates=["submitted", "ran"])


def describe(jobs: pd.DataFrame) -> None:
    submission = (jobs.submitted.max() - jobs.submitted.min()).total_seconds()
    waited = (jobs.ran - jobs.submitted).dt.total_seconds()
    print(
        f"  submitted within {submission:.0f} s ({60 * len(jobs) / max(submission, 1):.0f} jobs a minute); from "
        f"submission to the job's first command: median {waited.median():.0f} s, at most {waited.max():.0f} s",
        flush=True,
    )


def main() -> None:
    measure(f"dry run of {DRY} jobs", DRY, "--dry-run", "--quiet")
    describe(measure(f"{REAL} jobs, each submitted by itself", REAL))
    describe(measure(f"{REAL} jobs in an array", REAL, "--slurm-array-jobs", "stub"))


if __name__ == "__main__":
    main()
