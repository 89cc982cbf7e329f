"""The executor ``slurm-packs``: that of snakemake-executor-plugin-slurm, which runs short jobs in packs.

To start a job on a cluster takes a minute or more: the queue, Python, the libraries, the GPU. So jobs that state the
resource ``expected_seconds`` wait in a queue for each model, and jobs of Slurm of about half an hour (packs, see
``stratalaw.jobs.packs``) work it off. Long jobs, and those that are retried, go alone, as all others do.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import snakemake_executor_plugin_slurm as slurm
from snakemake.iocontainers import ResourceList
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
from snakemake_executor_plugin_slurm.job_cancellation import cancel_slurm_jobs
from snakemake_executor_plugin_slurm.job_status_query import (
    query_job_status,
    query_job_status_sacct,
    query_job_status_squeue,
)
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import get_job_wildcards, set_gres_string
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface

if TYPE_CHECKING:  # snakemake loads the executors that there are with every run, and the library only where it is used
    from stratalaw.jobs.packs import Queue, Size

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

PACK_SECONDS = 1800  # of expected work for each pack
LONGEST_PACKED = 900  # expected seconds; a longer job goes alone
SECONDS_BETWEEN_LOOKS = 5  # at the queues, which are files
SECONDS_TO_APPEAR = 60  # until Slurm lists a job that it has taken
SECONDS_TO_ARRIVE = 15  # of a file from a node
LIVING = ("PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "SUSPENDED", "REQUEUED", "RESIZING", "STOPPED")
IN_A_STEP, HERE = "--executor slurm-jobstep", "--executor local"


@dataclass
class Pack:
    """A pack that was submitted: its number in Slurm, its size, its log, and when that was."""

    number: str
    size: Size
    log: Path
    submitted: float
    ended: float | None = None


@dataclass
class Packing:
    """The queue of jobs that may share a pack, with the packs that work it off."""

    queue: Queue
    packs: list[Pack] = field(default_factory=list)
    example: JobExecutorInterface | None = None


class Executor(slurm.Executor):
    """Submits jobs to Slurm, short ones in packs."""

    def __post_init__(self, test_mode: bool = False) -> None:
        super().__post_init__(test_mode)
        self._packings: dict[str, Packing] = {}
        self._packing = threading.Lock()
        self._put = 0
        self._next_check = 0.0
        self._interval = float(self.workflow.executor_settings.init_seconds_before_status_checks)

    def run_job(self, job: JobExecutorInterface) -> None:
        """Put a short job into its queue at the first try; submit any other by itself."""
        from stratalaw.jobs.packs import PackedJob, Queue

        expected = job.resources.get("expected_seconds")
        too_long = not isinstance(expected, int) or expected > LONGEST_PACKED
        if job.is_group() or job.attempt > 1 or too_long or int(job.resources.get("gpu") or 0) > 1:
            super().run_job(job)
            return
        with self._packing:  # jobs are submitted by several threads
            self._put += 1
            name = f"{self._put:07d}"
        packed = PackedJob(
            name=name,
            command=self.format_job_exec(job).replace(IN_A_STEP, HERE),
            log_folder=str(self.slurm_logdir / f"rule_{job.name}" / get_job_wildcards(job)),
            expected_seconds=expected,
            minutes=int(job.resources.get("runtime", 0)),
            mem_mb=int(job.resources.get("mem_mb", 0)),
            threads=job.threads,
        )
        kind = "gpu" if job.resources.get("gpu") else "cpu"
        place = [str(job.resources.get(name, "")) for name in ("slurm_partition", "gpu", "gpu_model")]
        key = "-".join([kind, str(job.wildcards.get("model", "")), *filter(None, place)]).replace("/", "_")
        with self._packing:
            folder = Path(".snakemake/packs").resolve() / self.run_uuid / key
            packing = self._packings.setdefault(key, Packing(Queue(folder)))
            packing.queue.put(packed)
            packing.example = job
            self.logger.info(f"Job {job.jobid} waits for a pack ({key}).")
            info = SubmittedJobInfo(job, aux={"packed": packed, "packing": packing, "slurm_logfile": None})
            self._report_job_submission_threadsafe(info)
            self._submit_packs(key, packing)

    def _submit_packs(self, key: str, packing: Packing) -> None:
        """Have as many packs as the waiting jobs are worth."""
        from stratalaw.cost.resources import SLOWER_GPU, START_MINUTES
        from stratalaw.jobs.packs import MEGABYTES_OF_WAITING, Size

        waiting = packing.queue.waiting()
        if not waiting or packing.example is None:
            return
        work = sum(job.expected_seconds for job in waiting)
        at_most = START_MINUTES + math.ceil(SLOWER_GPU * min(work, PACK_SECONDS) / 60)
        size = Size(
            minutes=at_most + max(job.minutes for job in waiting),
            mem_mb=max(job.mem_mb for job in waiting) + MEGABYTES_OF_WAITING,
            threads=max(job.threads for job in waiting) + 1,
        )
        living = [
            pack
            for pack in packing.packs
            if pack.ended is None and pack.size.mem_mb >= size.mem_mb and pack.size.threads >= size.threads
        ]
        for _ in range(math.ceil(work / PACK_SECONDS) - len(living)):
            packing.packs.append(self._submitted_pack(key, packing, size))

    def _submitted_pack(self, key: str, packing: Packing, size: Size) -> Pack:
        job = packing.example
        assert job is not None
        log = self.slurm_logdir / "packs" / key / "%j.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        asked = {"runtime": int(size.minutes), "mem_mb": size.mem_mb}
        resources = ResourceList(fromdict=dict(job.resources.items()) | asked)
        pack = _Asking(resources, size.threads)
        parameters = {
            "run_uuid": self.run_uuid,
            "slurm_logfile": log,
            "comment_str": f"pack_{key}",
            "account": next(self.get_account_arg(job)),
            "partition": self.get_partition_arg(job),
            "workdir": self.workflow.workdir_init,
        }
        call = get_submit_command(
            pack, parameters, settings=self.workflow.executor_settings, failed_nodes=self._failed_nodes
        ) + set_gres_string(pack)
        command = [self.get_python_executable(), "-P", "-m", "stratalaw.jobs.packs", str(packing.queue.folder)]
        command += [str(int(size.minutes)), str(size.mem_mb), str(size.threads)]
        answer = subprocess.run(
            f"{call} /dev/stdin",
            shell=True,
            input=f"#!/bin/sh\nexec {shlex.join(command)}\n",
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.returncode:
            raise WorkflowError(f"Slurm takes no pack for {key}: {' '.join(answer.stderr.split())} ({call})")
        number = slurm.validate_or_get_slurm_job_id(answer.stdout.strip().split(";")[0], answer.stdout)
        self.logger.info(f"A pack for {key} has been submitted with SLURM jobid {number}.")
        return Pack(number, size, log.with_name(f"{number}.log"), time.monotonic())

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report what has ended; yields what has not."""
        if not active_jobs:  # the base class asks even before this object is made to its end
            return
        packed = [info for info in active_jobs if "packed" in info.aux]
        alone = [info for info in active_jobs if "packed" not in info.aux]
        if time.monotonic() >= self._next_check:
            self.next_seconds_between_status_checks = self._interval
            async for info in super().check_active_jobs(alone):
                yield info
            await self._look_at_packs()
            self._interval = self.next_seconds_between_status_checks
            if packed:
                self._interval = min(self._interval, self.workflow.executor_settings.init_seconds_before_status_checks)
            self._next_check = time.monotonic() + self._interval
        else:
            for info in alone:
                yield info
        for info in packed:
            if not self._has_ended(info):
                yield info
        for key, packing in self._packings.items():
            with self._packing:
                self._submit_packs(key, packing)
        self.next_seconds_between_status_checks = min(SECONDS_BETWEEN_LOOKS, self._interval)

    async def _look_at_packs(self) -> None:
        """Note which packs have ended."""
        living = [pack for packing in self._packings.values() for pack in packing.packs if pack.ended is None]
        if not living:
            return
        query = query_job_status_sacct if self.get_status_command() == "sacct" else query_job_status_squeue
        async with self.status_rate_limiter:
            states, _ = await query_job_status(query(self.run_uuid), self.logger)
        if states is None:  # Slurm did not answer
            return
        now = time.monotonic()
        for pack in living:
            state = states.get(pack.number, "" if now - pack.submitted > SECONDS_TO_APPEAR else LIVING[0])
            if state not in LIVING:
                pack.ended = now

    def _has_ended(self, info: SubmittedJobInfo) -> bool:
        """Report a packed job that has ended."""
        job, packing = info.aux["packed"], info.aux["packing"]
        status, number = packing.queue.status_of(job.name), packing.queue.taken_by(job.name)
        log = None if number is None else Path(job.log_folder) / f"{number}.log"
        if status == 0:
            self.report_job_success(info)
            if log is not None and not self.workflow.executor_settings.keep_successful_logs:
                log.unlink(missing_ok=True)
            return True
        pack = next((pack for pack in packing.packs if pack.number == number), None)
        is_lost = pack is not None and pack.ended is not None and time.monotonic() - pack.ended > SECONDS_TO_ARRIVE
        if status is None and not is_lost:
            return False
        if is_lost and pack is not None and log is not None:
            _append_end_of(pack.log, log)
        said = f"its pack, job {number} of Slurm, ended before it" if status is None else f"it exited with {status}"
        self.report_job_error(info, msg=f"Job {info.job.jobid} failed: {said}. ", aux_logs=[str(log)] if log else None)
        return True

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel jobs that were submitted by themselves, and all packs."""
        self._close_queues()
        alone = [info for info in active_jobs if "packed" not in info.aux]
        packs = [
            SubmittedJobInfo(packing.example, external_jobid=pack.number)
            for packing in self._packings.values()
            for pack in packing.packs
            if pack.ended is None and packing.example is not None
        ]
        cancel_slurm_jobs([*alone, *packs], self._submitted_job_clusters, self.logger)

    def shutdown(self) -> None:
        """Have packs end that wait for more."""
        self._close_queues()
        super().shutdown()

    def _close_queues(self) -> None:
        with self._packing:
            for packing in self._packings.values():
                packing.queue.close()


class _Asking:
    """What a pack asks Slurm for, in the form of a job."""

    def __init__(self, resources: Any, threads: int) -> None:
        self.resources, self.threads = resources, threads


def _append_end_of(source: Path, log: Path, lines: int = 20) -> None:
    """Append the end of a pack's log, where Slurm says why it ended it, to the log of a job that ended with it."""
    if source.exists():
        said: Sequence[str] = source.read_text(errors="replace").splitlines()[-lines:]
        with log.open("a") as file:
            file.write("\n".join(["", *said, ""]))
