"""Show a job's log until it ends, then its result."""

from __future__ import annotations

import argparse

from leaderboard_site.client.language import say
from leaderboard_site.client.report import LogTail, show_result
from leaderboard_site.client.session import Session, job_id

EXAMPLES = [
    ("follow JOB", "its log from the beginning, live, then the result"),
    ("follow JOB --json", "the log on standard error, the result as JSON"),
]


def summary() -> str:
    return say("Show the log of a job until it ends, then its result and rank.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help=say("The job's id."))


def run(session: Session) -> int:
    job, log = job_id(session.options.job), LogTail()
    session.followed = job

    def show(part: str) -> None:
        log.add(part)
        session.console.show(part)

    session.client.follow(job, show=show, tell=session.console.tell)
    session.followed = ""  # it has ended
    return show_result(session, job, log)
