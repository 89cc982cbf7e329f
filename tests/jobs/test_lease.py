"""Every job sees a GPU of its own, and a killed job gives its back."""

import os
import select
import stat
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from stratalaw.jobs.failures import classify
from stratalaw.jobs.lease import VISIBLE_DEVICES, Gpus, LeaseError, leased_gpus, lock_folder
from stratalaw.jobs.run import gpus_of, run

HOLD = "import os, sys; from pathlib import Path; from stratalaw.jobs.lease import Gpus, leased_gpus\n"
HOLD += "user = int(sys.argv[3]); user and os.setuid(user)\n"
HOLD += "gpus, count = Gpus.visible(Path(sys.argv[1]), 2, int(sys.argv[2])), int(sys.argv[4])\n"
HOLD += "with leased_gpus(gpus, count) as leased: print(leased, flush=True); input()"


@pytest.fixture(autouse=True)
def all_gpus(monkeypatch, tmp_path):
    """Nobody has chosen among the GPUs, and others on this machine are not in the way."""
    monkeypatch.delenv(VISIBLE_DEVICES, raising=False)
    of_all = tmp_path / "of all"
    of_all.mkdir()
    of_all.chmod(0o1777)
    monkeypatch.setattr("stratalaw.jobs.lease.FOLDERS_OF_ALL", (of_all,))


@pytest.fixture
def hold(tmp_path):
    """Starts a process that leases one of two GPUs."""
    started = []

    def start(
        folder: Path = tmp_path, user: int = 0, jobs_per_gpu: int = 1, count: int = 1, **environment: str
    ) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder), str(jobs_per_gpu), str(user), str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
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
            leased.append(jobs.enter_context(leased_gpus(Gpus.visible(tmp_path, 2, 2))))
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


def test_a_job_of_several_gpus_has_them_to_itself_or_none_of_them(hold, tmp_path):
    one = hold(jobs_per_gpu=2)
    assert one.stdout.readline().strip() == "0"
    both = hold(jobs_per_gpu=2, count=2)
    assert "waiting for a GPU" in both.stderr.readline()
    other = hold(jobs_per_gpu=2)
    assert other.stdout.readline().strip() == "1", "what waits for several keeps none from others"
    for process in (one, other):
        process.kill()
    assert both.stdout.readline().strip() == "0,1"
    with (
        pytest.raises(LeaseError, match="a job of 3 GPUs, and jobs lease 2"),
        leased_gpus(Gpus.visible(tmp_path, 2), 3),
    ):
        pass


def test_a_job_that_asks_for_several_gpus_sees_them(tmp_path, monkeypatch):
    monkeypatch.setenv(VISIBLE_DEVICES, "4,5,6")
    config = {"gpus": 3, "jobs_per_gpu": 2, "warm_worker": True}
    job = SimpleNamespace(log=[tmp_path / "job.log"], config=config, resources={"gpu": 4})
    run(job, "subprocess:run", args=["bash", "-c", f"echo ${VISIBLE_DEVICES}"], check=True)
    assert (tmp_path / "job.log").read_text().splitlines()[0] == "4,5"
    assert [gpus_of(SimpleNamespace(config=config, resources={"gpu": asked})) for asked in (0, 1, 2, 6)] == [1, 1, 1, 3]


@pytest.mark.parametrize(
    "visible", ["2,3", "2, 3, 5", "GPU-8932f937-d72c,GPU-1f2e3d4c-0000", "MIG-GPU-8932/1/0,MIG-GPU-8932/2/0"]
)
def test_the_gpus_that_the_user_chose_are_leased(tmp_path, monkeypatch, visible):
    monkeypatch.setenv(VISIBLE_DEVICES, visible)
    chosen = [device.strip() for device in visible.split(",")]
    with leased_gpus(Gpus.visible(tmp_path, 2)) as first:
        assert os.environ[VISIBLE_DEVICES] == first == chosen[0]
        monkeypatch.setenv(VISIBLE_DEVICES, visible)  # the next job is a process of its own, with no GPU yet
        with leased_gpus(Gpus.visible(tmp_path, 2)) as second:
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
    assert classify((tmp_path / "job.log").read_text()).cause.name == "refused"


def test_the_locks_are_where_all_users_find_them_whatever_their_tmpdir(tmp_path, monkeypatch):
    of_one, of_all = tmp_path / "of one", tmp_path / "of all"
    of_one.mkdir()
    monkeypatch.setattr("stratalaw.jobs.lease.FOLDERS_OF_ALL", (tmp_path / "none", of_one, of_all))
    for temporary in ("a", "b"):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / temporary))
        assert lock_folder() == of_all
    monkeypatch.setattr("stratalaw.jobs.lease.FOLDERS_OF_ALL", (of_one,))
    with pytest.raises(LeaseError, match="GPUs cannot be leased"):
        lock_folder()


@pytest.mark.skipif(os.geteuid() != 0, reason="taking the part of other users needs root")
def test_two_users_get_different_gpus(hold):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o1777)
        jobs = [hold(Path(folder), user) for user in (65533, 65534)]
        taken = [job.stdout.readline().strip() for job in jobs]
        assert sorted(taken) == ["0", "1"], [job.stderr.read() for job in jobs]
        third = hold(Path(folder), 65532)
        assert "other jobs have 0, 1" in third.stderr.readline(), "it says what it waits for"
        jobs[0].kill()
        assert third.stdout.readline().strip() == taken[0]
        assert all(stat.S_IMODE(lock.stat().st_mode) == 0o666 for lock in Path(folder).iterdir())


def test_a_lock_that_cannot_be_opened_is_one_line(tmp_path):
    with leased_gpus(Gpus.visible(tmp_path, 1)):
        (lock,) = tmp_path.glob("*.lock")
    lock.unlink()
    lock.symlink_to("elsewhere")
    with pytest.raises(LeaseError, match="no GPU can be leased") as refused, leased_gpus(Gpus.visible(tmp_path, 1)):
        pass
    assert str(refused.value).startswith(f"{lock}: ") and "\n" not in str(refused.value)


def test_a_lock_that_was_cleaned_away_is_made_anew(tmp_path):
    with leased_gpus(Gpus.visible(tmp_path, 1)):
        pass
    for lock in tmp_path.glob("*.lock"):
        lock.unlink()
    with leased_gpus(Gpus.visible(tmp_path, 1)) as gpu:
        assert gpu == "0"


@pytest.mark.parametrize(("first", "second"), [(3, 1), (1, 3)])
def test_a_gpu_to_oneself_is_shared_with_no_job_of_another_study(tmp_path, hold, first, second):
    with leased_gpus(Gpus.visible(tmp_path, 1, first)):
        assert hold(jobs_per_gpu=second, **{VISIBLE_DEVICES: "0,1"}).stdout.readline().strip() == "1"


@pytest.mark.parametrize("visible", ["GPU-8932f937-d72c,GPU-1f2e3d4c-0000", "GPU-8932,GPU-1f2e", "0,1"])
def test_a_gpu_is_the_same_by_its_number_and_its_uuid(tmp_path, monkeypatch, hold, visible):
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "nvidia-smi").write_text("#!/bin/sh\necho '0, GPU-8932f937-d72c'\necho '1, GPU-1f2e3d4c-0000'\n")
    (commands / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv(VISIBLE_DEVICES, visible)
    with leased_gpus(Gpus.visible(tmp_path, 2)) as gpu:
        assert gpu == visible.split(",")[0], "a job sees it by the name that the user gave it"
        assert hold(**{VISIBLE_DEVICES: "0,1"}).stdout.readline().strip() == "1"


def test_a_driver_that_hangs_leases_no_gpu_by_another_name(tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("stratalaw.jobs.lease.SECONDS_TO_REPORT", 0.2)
    with (
        pytest.raises(LeaseError, match=r"nvidia-smi has not answered within 0\.2 s"),
        leased_gpus(Gpus.visible(tmp_path, 1)),
    ):
        pass
