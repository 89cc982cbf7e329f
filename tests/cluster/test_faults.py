"""Whatever goes wrong on a cluster, the observations are those of an undisturbed run on one machine, to the byte.

Each test breaks jobs of a run; pytest-xdist runs the tests at the same time, on the same Slurm.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

from tests.cluster.conftest import (
    ARGUMENTS,
    SCRIPT,
    SECONDS,
    assert_nothing_is_lost,
    copy_without,
    is_alive,
    kill_node,
    slurm,
    wait_until,
    write_small_study,
)

STRATALAW = str(Path(sys.executable).with_name("stratalaw"))
KILLS = 20
SECONDS_BETWEEN_KILLS = 10  # at most


def test_a_whole_study_and_a_second_head_that_is_refused(start, request, tmp_path):
    write_small_study(tmp_path)
    run = start(tmp_path)
    run.job("models")
    second = subprocess.run(
        [sys.executable, "-m", "snakemake", *ARGUMENTS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stderr
    resumed = subprocess.run(
        [STRATALAW, "resume", *ARGUMENTS], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 1
    assert resumed.stderr == (
        f"{tmp_path}: snakemake runs here (process {run.head.pid}); stop it first, or let it finish\n"
    )
    log = run.wait()
    assert "Trying to restart job" not in log
    assert_nothing_is_lost(tmp_path, request.getfixturevalue("undisturbed"))


def test_a_job_that_is_killed_and_one_that_is_cancelled_are_retried(start, undisturbed, tmp_path):
    folder = copy_without(undisturbed, tmp_path / "run", "w*")
    run = start(folder)
    killed, cancelled = run.job("checkpoints", "q1_w2"), run.job("checkpoints", "q1_w4")
    script = run.script_of(cancelled)
    os.kill(run.script_of(killed), signal.SIGKILL)  # as the kernel does when memory is short
    slurm("scancel", cancelled)
    wait_until(lambda: not is_alive(script), "the end of the cancelled job")
    log = run.wait()
    assert f"SLURM-job '{killed}' failed, SLURM status is: 'FAILED'" in log
    assert f"SLURM-job '{cancelled}' failed, SLURM status is: 'CANCELLED'" in log
    assert log.count("Trying to restart job") == 2
    assert run.cause_of(killed) == "out of memory, or killed"
    assert run.cause_of(cancelled) == "cancelled"
    assert_nothing_is_lost(folder, undisturbed)


def test_after_its_head_was_killed_a_run_is_resumed_and_its_jobs_are_gone_before(start, undisturbed, to_redo):
    run = start(to_redo)
    left = run.job("checkpoints")
    script = run.script_of(left)
    os.kill(script, signal.SIGSTOP)  # it would still be at work, however fast the machine
    run.head.kill()
    run.head.wait()
    assert is_alive(script), "jobs live on without their head"
    resumed = subprocess.run(
        [STRATALAW, "resume", *ARGUMENTS], cwd=to_redo, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    cancelled = resumed.stdout.splitlines()[0]
    assert cancelled.startswith("Cancelling ") and left in cancelled.split()
    assert not is_alive(script)
    assert_nothing_is_lost(to_redo, undisturbed)


def test_a_job_that_hangs_until_its_time_limit_is_retried(start, undisturbed, to_redo):
    run = start(to_redo, "--set-resources", "checkpoints:runtime=1")
    hangs = run.job("checkpoints", "q1")
    os.kill(run.script_of(hangs), signal.SIGSTOP)
    log = run.wait()
    assert f"SLURM-job '{hangs}' failed, SLURM status is: 'TIMEOUT'" in log
    assert run.cause_of(hangs) == "time limit"
    assert_nothing_is_lost(to_redo, undisturbed)


def test_a_job_whose_node_dies_runs_again(start, undisturbed, to_redo):
    run = start(to_redo, "--set-resources", "checkpoints:slurm_partition=doomed", "checkpoints:gpu=1")
    loses_its_node = run.job("checkpoints")
    script = run.script_of(loses_its_node)
    node = kill_node(loses_its_node)
    wait_until(lambda: not is_alive(script), "the end of the job's script")
    # sinfo says "mixed" of a dead node until something else happens on the cluster.
    wait_until(lambda: "State=DOWN" in slurm("scontrol", "show", "node", node), f"{node} is down")
    subprocess.run([SCRIPT, "start-node", node], check=True)
    run.wait()
    assert "Restarts=1" in slurm("scontrol", "show", "job", loses_its_node)
    assert_nothing_is_lost(to_redo, undisturbed)


def test_twenty_processes_killed_at_random_moments(start, undisturbed, tmp_path):
    """Moment and victim of each kill are drawn with a seed of its own, 0 to 19."""
    folder = copy_without(undisturbed, tmp_path / "run", "w*")
    run = start(folder, "--retries", str(KILLS))
    for seed in range(KILLS):
        draw = random.Random(seed)
        time.sleep(draw.uniform(0, SECONDS_BETWEEN_KILLS))
        victim = draw.choice(sorted(wait_until(run.workers, f"a process to kill; {run.log}"), key=attrgetter("number")))
        with suppress(ProcessLookupError):
            os.kill(victim.number, signal.SIGKILL)
        print(f"seed {seed}: job {victim.slurm_job}: killed {' '.join(victim.words)[:100]}")
        assert run.head.poll() is None, f"the run ended after {seed + 1} kills; {run.log}"
    log = run.wait()
    assert log.count("Trying to restart job") >= KILLS // 2, "kills missed the jobs"
    assert_nothing_is_lost(folder, undisturbed)
