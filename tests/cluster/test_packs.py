"""Short jobs share jobs of Slurm; whatever happens to one of these, each job is done once, alone if need be."""

import re
from collections import Counter
from pathlib import Path

from tests.cluster.conftest import OF_STUB, PACKS, assert_nothing_is_lost, slurm, wait_until, write_small_study
from tests.workflow.conftest import OBSERVATIONS, ROOT

STUDY = [str(OBSERVATIONS), "--snakefile", str(ROOT / "Snakefile"), *PACKS, "--configfile", "study.yaml"]
SHORT = [f"short/{number}" for number in range(10)]
PACK = re.compile(r"A pack for (\S+) has been submitted with SLURM jobid (\d+)")
ALONE = re.compile(r"Job \d+ has been submitted with SLURM jobid (\d+)")


def ran(folder: Path) -> list[tuple[str, str]]:
    """Number and job of Slurm of every try."""
    notes = folder / "ran.txt"
    return [tuple(line.split()) for line in notes.read_text().splitlines()] if notes.exists() else []


def test_a_job_that_fails_in_a_pack_is_tried_again_alone(start, tmp_path):
    log = start(tmp_path, of=[*SHORT, *OF_STUB, *PACKS]).wait()
    tries, (pack,), (alone,) = ran(tmp_path), PACK.findall(log), ALONE.findall(log)
    assert sorted(tries) == sorted([(path.partition("/")[2], pack[1]) for path in SHORT] + [("3", alone)])
    assert "it exited with" in log and log.count("Trying to restart job") == 1
    failed = tmp_path / "results" / "logs" / "slurm" / "rule_short" / "3"
    assert [path.name for path in failed.iterdir()] == [f"{pack[1]}.log"], "what Slurm's job said, and of no other job"


def test_a_pack_that_is_cancelled_loses_only_what_it_was_at(start, tmp_path):
    run = start(tmp_path, of=[*SHORT, *OF_STUB, *PACKS, "--config", "seconds=8"])
    first = wait_until(lambda: len(tries := ran(tmp_path)) > 2 and tries, f"three jobs of a pack; {run.log}")
    pack = first[0][1]
    slurm("scancel", pack)
    log = run.wait()
    lost = re.findall(rf"its pack, job {pack} of Slurm, ended before it", log)
    assert 1 <= len(lost) <= 2
    assert len(PACK.findall(log)) == 2, "what waited is done by another pack"
    tries = Counter(number for number, _ in ran(tmp_path))
    again = {number for number in tries if tries[number] > 1} - {"3"}  # which fails by itself, too
    assert len(again) <= len(lost) and len(tries) == len(SHORT)


def test_a_study_is_done_in_packs(start, request, tmp_path):
    write_small_study(tmp_path)
    log = start(tmp_path, of=STUDY).wait(3 * 1200)
    assert {key.partition("-")[0] for key, _ in PACK.findall(log)} == {"gpu", "cpu"}
    assert "Trying to restart job" not in log
    assert_nothing_is_lost(tmp_path, request.getfixturevalue("undisturbed"))
