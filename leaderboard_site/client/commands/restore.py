"""Count a run again that you withdrew."""

from __future__ import annotations

import argparse

from leaderboard_site.client.faults import COMPLETED
from leaderboard_site.client.language import say
from leaderboard_site.client.session import Session, job_id

EXAMPLES = [("restore JOB", "it competes again")]


def summary() -> str:
    return say("Count a run again that you withdrew.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", help=say("The job's id."))


def run(session: Session) -> int:
    answer = session.client.json("POST", f"/api/jobs/{job_id(session.options.job)}/restore")
    session.console.result(answer, answer["ranking"]["reason"])
    return COMPLETED
