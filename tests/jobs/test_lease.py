"""Every job sees a GPU of its own, and a killed job gives its back."""

import os
import select
import subprocess
import sys
from contextlib import ExitStack
from types import SimpleNamespace

import pytest

from stratalaw.jobs.lease import VISIBLE_DEVICES, leased_gpu
from stratalaw.jobs.run import run

HOLD = "import sys; from pathlib import Path; from stratalaw.jobs.lease import leased_gpu\n"
HOLD += "with leased_gpu(Path(sys.argv[1]), gpus=2) as gpu: print(gpu, flush=True); input()"


@pytest.fixture(autouse=True)
def all_gpus(monkeypatch):
    """Nobody has chosen among the GPUs."""
    monkeypatch.delenv(VISIBLE_DEVICES, raising=False)


@pytest.fixture
def hold(tmp_path):
    """Starts a process that leases one of two GPUs."""
    started = []

    def start() -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_jobs_get_different_gpus_and_a_killed_job_gives_its_back(hold):
    first, second = hold(), hold()
    taken = {first.stdout.readline().strip(), second.stdout.readline().strip()}
    assert taken == {"0", "1"}
    third = hold()
    assert select.select([third.stdout], [], [], 2)[0] == [], "it waits while both are taken"
    first.kill()
    assert third.stdout.readline().strip() in taken


def test_jobs_share_only_once_every_gpu_has_one(tmp_path, monkeypatch):
    leased = []
    with ExitStack() as jobs:
        for _ in range(3):
            monkeypatch.setenv(VISIBLE_DEVICES, "0,1")  # each job is a process of its own, with no GPU yet
            leased.append(jobs.enter_context(leased_gpu(tmp_path, 2, 2)))
        assert leased == ["0", "1", "0"]


def test_a_job_that_asks_for_a_gpu_sees_it_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE_DEVICES, "4,5")
    log = tmp_path / "job.log"
    call = {"args": ["bash", "-c", f"echo ${VISIBLE_DEVICES}"], "check": True}
    run(
        SimpleNamespace(log=[log], config={"gpus": 1, "jobs_per_gpu": 1, "warm_worker": False}, resources={"gpu": 1}),
        "subprocess:run",
        **call,
    )
    assert log.read_text().splitlines()[0] == "4"
    run(
        SimpleNamespace(log=[log], config={"gpus": 1, "jobs_per_gpu": 1, "warm_worker": False}, resources={}),
        "subprocess:run",
        **call,
    )
    assert log.read_text().splitlines()[0] == "4,5"
    assert os.environ[VISIBLE_DEVICES] == "4,5"


@pytest.mark.parametrize(
    "visible", ["2,3", "2, 3, 5", "GPU-8932f937-d72c,GPU-1f2e3d4c-0000", "MIG-GPU-8932/1/0,MIG-GPU-8932/2/0"]
)
def test_the_gpus_that_the_user_chose_are_leased(tmp_path, monkeypatch, visible):
    monkeypatch.setenv(VISIBLE_DEVICES, visible)
    chosen = [device.strip() for device in visible.split(",")]
    with leased_gpu(tmp_path, 2) as first:
        assert os.environ[VISIBLE_DEVICES] == first == chosen[0]
        monkeypatch.setenv(VISIBLE_DEVICES, visible)  # the next job is a process of its own, with no GPU yet
        with leased_gpu(tmp_path, 2) as second:
            assert os.environ[VISIBLE_DEVICES] == second == chosen[1]


def test_more_gpus_than_the_user_chose_are_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE_DEVICES, "2")
    job = SimpleNamespace(
        log=[tmp_path / "job.log"], config={"gpus": 2, "jobs_per_gpu": 1, "warm_worker": False}, resources={"gpu": 1}
    )
    with pytest.raises(SystemExit) as stopped:
        run(job, "pathlib:Path.cwd")
    assert (
        stopped.value.code.startswith("CUDA_VISIBLE_DEVICES=2: fewer GPUs than gpus=2")
        and "\n" not in stopped.value.code
    )
