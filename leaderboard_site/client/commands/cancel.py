"""Cancel jobs."""

from __future__ import annotations

import argparse

from leaderboard_site.client.faults import COMPLETED
from leaderboard_site.client.language import say
from leaderboard_site.client.session import Session, job_id

EXAMPLES = [("cancel JOB", "a waiting job at once, a running one within seconds")]


def summary() -> str:
    return say("Cancel a job.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help=say("The job's id."))


def run(session: Session) -> int:
    answer = session.client.json("POST", f"/api/jobs/{job_id(session.options.job)}/cancel")
    if answer["status"] == "cancelled":
        words = say("{job} is cancelled.")
    else:
        words = say("{job} is still running; it ends within seconds.")
    session.console.result(answer, words.format(job=session.options.job))
    return COMPLETED
