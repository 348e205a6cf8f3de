"""Jobs that are cancelled, given back or lost while they are scored."""

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobs import transitions
from jobs.execution.client import Supervisor
from jobs.tests.factories import JobFactory
from tests.attacks.playing import GOOD, Play, in_one_executor

pytestmark = pytest.mark.django_db


SLOW = "print('scoring', flush=True)\nimport time\ntime.sleep(60)"


def when_scoring(play: Play, action: Callable[[Supervisor], None]) -> tuple[threading.Thread, list[str]]:
    """Do it as soon as the scorer itself runs."""
    done: list[str] = []

    def wait() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            logs = list(play.folder.glob("work-*/scoring/log"))
            held = play.pulse.held
            if logs and "scoring" in logs[0].read_text() and held is not None and held.supervisor is not None:
                action(held.supervisor)
                done.append("done")
                return
            time.sleep(0.02)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, done


@pytest.mark.parametrize(
    ("how", "status", "outcome"),
    [("cancelled", "cancelled", "cancelled"), ("released", "pending", "released")],
)
def test_job_is_cancelled_or_given_back_while_it_is_scored(play: Play, how: str, status: str, outcome: str) -> None:
    play.own_scorer(SLOW)
    job = JobFactory(leaderboard=play.board)
    begin = transitions.begin_scoring

    def begin_and_cancel(job_id: Any, attempt: int) -> bool:
        is_ours = begin(job_id, attempt)
        if how == "cancelled":  # asked for right behind it; the pulse would tell the supervisor
            transitions.cancel(job_id, by=None)
        return is_ours

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "begin_scoring", begin_and_cancel)
        thread, done = when_scoring(play, lambda supervisor: supervisor.kill(how))
        play.run(GOOD, job=job)
        thread.join()
    assert done and (job.status, job.attempts.get().outcome) == (status, outcome)
    assert (job.metrics, job.score) == ({}, None)


@in_one_executor
def test_cancel_between_the_run_and_its_scoring(play: Play) -> None:
    play.own_scorer("raise SystemExit(1)")
    job = JobFactory(leaderboard=play.board)
    begin = transitions.begin_scoring

    def cancelled_first(job_id: Any, attempt: int) -> bool:
        transitions.cancel(job_id, by=None)
        return begin(job_id, attempt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transitions, "begin_scoring", cancelled_first)
        play.run(GOOD, job=job)
    assert (job.status, job.scorer_log_name) == ("cancelled", "")


@in_one_executor
def test_supervisor_killed_while_it_scores_gives_the_job_back(play: Play) -> None:
    play.own_scorer(SLOW)
    thread, done = when_scoring(play, lambda supervisor: os.kill(supervisor.pid, signal.SIGKILL))
    job = play.run(GOOD)
    thread.join()
    assert done and (job.status, job.releases, job.metrics) == ("pending", 1, {})
    assert str(play.folder) not in job.attempts.get().detail


@in_one_executor
def test_job_lost_while_it_is_scored_writes_nothing(play: Play) -> None:
    play.own_scorer(SLOW)
    thread, done = when_scoring(play, lambda _: play.pulse.held.lose())
    job = play.run(GOOD)
    thread.join()
    assert done and (job.status, job.attempt, job.metrics) == ("running", 1, {})
