"""Short jobs share jobs of Slurm; whatever happens to one of these, each job is done once, alone if need be."""

import os
import re
import signal
import sys

from stratalaw.jobs.packs import PACKED
from tests.cluster.conftest import (
    BITS,
    PACKS,
    assert_nothing_is_lost,
    is_alive,
    processes,
    slurm,
    wait_until,
)
from tests.workflow.conftest import OBSERVATIONS, ROOT, write_study

IN_PACKS = [str(OBSERVATIONS), "--snakefile", str(ROOT / "Snakefile"), *PACKS, "--configfile", "study.yaml"]
SUBMITTED = re.compile(r"Job (\d+) has been submitted with SLURM jobid")
PACK = re.compile(r"A pack for (\S+) has been submitted with SLURM jobid (\d+)")


def resident_of(folder, function: str):
    """The process that stays in a pack of a run and is at a job of a function, by the log of the job."""
    for process in processes():
        if process.folder == folder and "stratalaw.jobs.resident" in process.words and "resident" in process.words:
            if any(function in os.readlink(link) for link in links(process.number)):
                return process
    return None


def links(process: int) -> list[str]:
    try:
        return [f"/proc/{process}/fd/{name}" for name in os.listdir(f"/proc/{process}/fd")]
    except OSError:
        return []


def test_short_jobs_of_a_model_share_packs(start, request, tmp_path):
    write_study(tmp_path, BITS)
    run = start(tmp_path, of=IN_PACKS)
    log = run.wait()
    packs = PACK.findall(log)
    assert {key.split("-")[:2][0] for key, _ in packs} == {"gpu", "cpu"}
    print(log)
    assert_nothing_is_lost(tmp_path, request.getfixturevalue("undisturbed"))
