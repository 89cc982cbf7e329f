"""Hundreds of jobs at once: each runs once, and none is lost. benchmarks/slurm.py measures what they take.

The longest test comes first, beside all the others.
"""

import re
import subprocess
import sys

from tests.cluster.conftest import SECONDS, STUB, assert_nothing_is_lost, copy_without

PLANNED, RUN = 1200, 300


def test_hundreds_of_jobs_run_once_each(start, tmp_path):
    log = start(tmp_path, f"n_jobs={RUN}", of=STUB).wait(2 * SECONDS)
    assert "Trying to restart job" not in log
    noted = [line.split()[0] for line in (tmp_path / "ran.txt").read_text().splitlines()]
    assert sorted(noted, key=int) == [str(number) for number in range(RUN)]
    assert {path.name for path in (tmp_path / "done").iterdir()} == set(noted)


def test_a_thousand_jobs_are_planned(tmp_path):
    dry_run = [sys.executable, "-m", "snakemake", *STUB, f"n_jobs={PLANNED}", "--dry-run", "--quiet", "rules"]
    planned = subprocess.run(dry_run, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ["stub", str(PLANNED)] in [line.split() for line in planned.splitlines()]


def test_arrays_of_jobs_give_the_same_observations(start, undisturbed, tmp_path):
    folder = copy_without(undisturbed, tmp_path / "run", "w*")
    run = start(folder, "--slurm-array-jobs", "all")
    log = run.wait()
    arrays = re.findall(r"Submitted array job with Snakemake IDs .* The individual task IDs are 1-(\d+)", log)
    assert arrays[0] == "2", "all checkpoints are one array; later jobs are as many as are ready together"
    assert_nothing_is_lost(folder, undisturbed)
