"""Count a run again that you withdrew."""

from __future__ import annotations

from leaderboard_site.client.commands.withdraw import add_arguments as add_arguments
from leaderboard_site.client.commands.withdraw import change
from leaderboard_site.client.language import say
from leaderboard_site.client.session import Session

EXAMPLES = [("restore JOB", "it competes again")]


def summary() -> str:
    return say("Count a run again that you withdrew.")


def run(session: Session) -> int:
    return change(session, "restore")
