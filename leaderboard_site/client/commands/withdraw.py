"""Take a completed run of yours off the leaderboard."""

from __future__ import annotations

import argparse

from leaderboard_site.client.faults import COMPLETED
from leaderboard_site.client.language import say
from leaderboard_site.client.session import Session, job_id

EXAMPLES = [("withdraw JOB", "your next best run counts at once")]


def summary() -> str:
    return say("Take a completed run of yours off the leaderboard.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help=say("The job's id."))


def run(session: Session) -> int:
    return change(session, "withdraw")


def change(session: Session, action: str) -> int:
    """Withdraw or restore the job, and say where that leaves it."""
    answer = session.client.json("POST", f"/api/jobs/{job_id(session.options.job)}/{action}")
    session.console.result(answer, answer["ranking"]["reason"])
    return COMPLETED
