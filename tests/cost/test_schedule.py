"""Simulated schedules keep the bounds of list scheduling, and equal a clock that ticks second by second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratalaw.cost.schedule import Work, longest_chain, most_worthwhile, simulate


@st.composite
def job_lists(draw, most: int = 12) -> list[Work]:
    """Jobs of whole seconds that wait for some of those before them."""
    jobs = []
    for i in range(draw(st.integers(1, most))):
        after = tuple(sorted(draw(st.sets(st.integers(0, i - 1), max_size=3)))) if i else ()
        jobs.append(Work("work", "m", draw(st.integers(1, 6)), after, needs_worker=draw(st.booleans())))
    return jobs


def ticked(jobs: list[Work], workers: int) -> list[int]:
    """Ends of jobs, by looking at every job in every second."""
    ends, begins, ready_at = {}, {}, {}
    now = 0
    while len(ends) < len(jobs):
        for i, job in enumerate(jobs):
            if i in begins and begins[i] + job.seconds == now:
                ends[i] = now
        for i, job in enumerate(jobs):
            if all(before in ends for before in job.after):
                ready_at.setdefault(i, now)
        for i in sorted((i for i in ready_at if i not in begins), key=lambda i: (ready_at[i], i)):
            busy = sum(jobs[k].needs_worker for k in begins if k not in ends)
            if not jobs[i].needs_worker or busy < workers:
                begins[i] = now
        now += 1
    return [ends[i] for i in range(len(jobs))]


@given(job_lists(), st.integers(1, 4))
def test_a_schedule_is_that_of_a_clock(jobs, workers):
    assert simulate(jobs, workers).ends == ticked(jobs, workers)


@given(job_lists(most=30), st.integers(1, 8))
def test_a_schedule_keeps_the_bounds_of_list_scheduling(jobs, workers):
    found = simulate(jobs, workers)
    work = sum(job.seconds for job in jobs if job.needs_worker)
    chain = longest_chain(jobs)
    assert found.makespan >= max(work / workers, chain)
    assert found.makespan <= work / workers + chain  # Graham: the longest chain is never made to wait by free workers
    assert found.busy_seconds == work
    assert 0 <= found.utilization <= 1


@given(job_lists(most=20))
def test_with_a_worker_for_each_job_the_longest_chain_remains(jobs):
    assert simulate(jobs, len(jobs)).makespan == longest_chain(jobs)


def test_more_workers_stop_helping_where_the_longest_chain_rules():
    jobs = [Work("work", "m", 10.0) for _ in range(8)]
    schedules = [simulate(jobs, workers) for workers in (1, 2, 4, 8, 16)]
    assert [schedule.makespan for schedule in schedules] == [80, 40, 20, 10, 10]
    assert most_worthwhile(jobs) == 8
    assert schedules[3].utilization == 1 and schedules[4].utilization == pytest.approx(0.5)
    # One job that takes as long as four of the others.
    assert most_worthwhile([*jobs, Work("work", "m", 40.0)]) == 2


def test_no_jobs_take_no_time():
    assert simulate([], 4).makespan == longest_chain([]) == 0
    assert most_worthwhile([]) == 1


def test_the_work_of_a_schedule_grows_with_the_jobs_and_not_with_their_square():
    def looks(n_jobs: int) -> int:
        """How often jobs are looked at while all but one wait."""
        seen = []

        class Watched(Work):
            def __getattribute__(self, name: str) -> object:
                seen.append(name)
                return super().__getattribute__(name)

        simulate([Watched("work", "m", 1.0) for _ in range(n_jobs)], workers=1)
        return len(seen)

    assert looks(400) <= 2.1 * looks(200)
