"""Hundreds of jobs at once: each runs once, and none is lost. benchmarks/slurm.py measures what they take."""

import subprocess
import sys

from tests.cluster.conftest import SECONDS, STUB

PLANNED, RUN = 1200, 300


def test_a_thousand_jobs_are_planned(tmp_path):
    dry_run = [sys.executable, "-m", "snakemake", *STUB, f"n_jobs={PLANNED}", "--dry-run", "--quiet", "rules"]
    planned = subprocess.run(dry_run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ["stub", str(PLANNED)] in [line.split() for line in planned.splitlines()]


def test_hundreds_of_jobs_run_once_each(start, tmp_path):
    log = start(tmp_path, f"n_jobs={RUN}", of=STUB).wait(2 * SECONDS)
    assert "Trying to restart job" not in log
    noted = [line.split()[0] for line in (tmp_path / "ran.txt").read_text().splitlines()]
    assert sorted(noted, key=int) == [str(number) for number in range(RUN)]
    assert {path.name for path in (tmp_path / "done").iterdir()} == set(noted)
