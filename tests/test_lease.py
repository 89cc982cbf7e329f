"""Every job sees a GPU of its own, and a killed job gives its back."""

import os
import select
import subprocess
import sys
from types import SimpleNamespace

import pytest

from stratalaw.jobs import run
from stratalaw.lease import VISIBLE_DEVICES, leased_gpu

HOLD = "import sys; from pathlib import Path; from stratalaw.lease import leased_gpu\n"
HOLD += "with leased_gpu(Path(sys.argv[1]), gpus=2) as gpu: print(gpu, flush=True); input()"


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


def test_jobs_share_only_once_every_gpu_has_one(tmp_path):
    with leased_gpu(tmp_path, 2, 2) as a, leased_gpu(tmp_path, 2, 2) as b, leased_gpu(tmp_path, 2, 2) as c:
        assert [a, b, c] == [0, 1, 0]


def test_a_job_that_asks_for_a_gpu_sees_it_alone(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE_DEVICES, "before")
    log = tmp_path / "job.log"
    call = {"args": ["bash", "-c", f"echo ${VISIBLE_DEVICES}"], "check": True}
    run(SimpleNamespace(log=[log], config={"gpus": 1}, resources={"gpu": 1}), "subprocess:run", **call)
    assert log.read_text() == "0\n"
    run(SimpleNamespace(log=[log], config={"gpus": 1}, resources={}), "subprocess:run", **call)
    assert log.read_text() == "before\n"
    assert os.environ[VISIBLE_DEVICES] == "before"
