"""Wall time of jobs on some workers: list scheduling, first come, first served, like Slurm without priorities."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

WORTHWHILE = 0.75  # twice as many workers must take less than this share of the time; half of it is the best


@dataclass(frozen=True)
class Work:
    """A job as a scheduler sees it.

    Attributes:
        stage: name of its stage.
        model: name of its model; empty for jobs that concern all.
        seconds: how long it takes.
        after: indices of the jobs that must have ended, all earlier in the list.
        needs_worker: whether it takes one of the workers; others never wait for one.
    """

    stage: str
    model: str
    seconds: float
    after: tuple[int, ...] = ()
    needs_worker: bool = True


@dataclass(frozen=True)
class Schedule:
    """When jobs end.

    Attributes:
        workers: how many there are.
        ends: (jobs,) seconds from the start.
        busy_seconds: seconds of work, summed over the workers.
    """

    workers: int
    ends: list[float]
    busy_seconds: float

    @property
    def makespan(self) -> float:
        """Seconds until everything is done."""
        return max(self.ends, default=0.0)

    @property
    def utilization(self) -> float:
        """Share of the workers' time in which they work."""
        return self.busy_seconds / (self.workers * self.makespan) if self.makespan else 0.0


def simulate(jobs: Sequence[Work], workers: int) -> Schedule:
    """Give each job that is ready to a free worker, in the order in which they became ready (then of the list)."""
    waits_for = [len(job.after) for job in jobs]
    followers: list[list[int]] = [[] for _ in jobs]
    for i, job in enumerate(jobs):
        for before in job.after:
            followers[before].append(i)
    ends = [0.0] * len(jobs)
    waiting: list[tuple[float, int]] = []  # for a worker, by the time from which a job could run
    running: list[tuple[float, int]] = []  # by the end
    now, free = 0.0, workers

    def make_ready(i: int) -> None:
        if jobs[i].needs_worker:
            heapq.heappush(waiting, (now, i))
        else:
            heapq.heappush(running, (now + jobs[i].seconds, i))

    for i, count in enumerate(waits_for):
        if not count:
            make_ready(i)
    while waiting or running:
        while waiting and free:
            i = heapq.heappop(waiting)[1]
            free -= 1
            heapq.heappush(running, (now + jobs[i].seconds, i))
        now = running[0][0]
        while running and running[0][0] == now:
            ends[(i := heapq.heappop(running)[1])] = now
            free += jobs[i].needs_worker
            for follower in followers[i]:
                waits_for[follower] -= 1
                if not waits_for[follower]:
                    make_ready(follower)
    return Schedule(workers, ends, sum(job.seconds for job in jobs if job.needs_worker))


def longest_chain(jobs: Sequence[Work]) -> float:
    """Seconds of the longest chain of jobs that wait for one another: no number of workers is faster."""
    ends: list[float] = []
    for job in jobs:
        ends.append(job.seconds + max((ends[before] for before in job.after), default=0.0))
    return max(ends, default=0.0)


def most_worthwhile(jobs: Sequence[Work]) -> int:
    """The number of workers, a power of two, beyond which doubling it helps little."""
    workers, makespan = 1, simulate(jobs, 1).makespan
    while (doubled := simulate(jobs, 2 * workers).makespan) < WORTHWHILE * makespan:
        workers, makespan = 2 * workers, doubled
    return workers
