"""List one's jobs or submissions."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

from leaderboard_site.client.console import table
from leaderboard_site.client.faults import COMPLETED, Wrong
from leaderboard_site.client.language import say
from leaderboard_site.client.session import Session

EXAMPLES = [
    ("list", "your latest 20 jobs"),
    ("list --leaderboard textures --limit 100", "those of one leaderboard"),
    ("list --status failed", "those that failed"),
    ("list --submissions", "what you have uploaded, with the ids for --submission"),
]
STATUSES = ("pending", "running", "completed", "failed", "cancelled")
MOST_ROWS, MOST_READ = 1000, 5000  # read: a leaderboard is picked out here


def summary() -> str:
    return say("List your jobs, or your submissions.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--submissions", action="store_true", help=say("Submissions instead of jobs."))
    parser.add_argument("--leaderboard", metavar="SLUG", help=say("Only those of this leaderboard."))
    parser.add_argument("--status", choices=STATUSES, help=say("Only jobs with this status."))
    parser.add_argument("--limit", type=int, default=20, metavar="N", help=say("At most so many (by default: 20)."))


def run(session: Session) -> int:
    options = session.options
    if not 1 <= options.limit <= MOST_ROWS:
        raise Wrong(say("--limit: must be from 1 to {most}, not {given}.").format(most=MOST_ROWS, given=options.limit))
    if options.submissions and options.status:
        raise Wrong(say("--status: submissions have none."))
    kind = "submissions" if options.submissions else "jobs"
    page = 200 if options.leaderboard else min(options.limit, 200)
    path = f"/api/{kind}?limit={page}" + (f"&status={options.status}" if options.status else "")
    rows: Iterator[dict[str, Any]] = islice(session.client.pages(path), MOST_READ)
    if options.leaderboard:
        rows = (row for row in rows if row["leaderboard"] == options.leaderboard)
    shown = list(islice(rows, options.limit))
    session.console.result({kind: shown}, _submissions(shown) if options.submissions else _jobs(shown))
    return COMPLETED


def _jobs(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return say("No jobs.")
    heads = [say("job"), say("status"), say("leaderboard"), say("score"), say("created"), say("name")]
    return table(heads, [
        [row["job_id"], _status(row), row["leaderboard"], _number(row["score"]), _time(row["created_at"]), _name(row)]
        for row in rows
    ])  # fmt: skip


def _submissions(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return say("No submissions.")
    heads = [say("submission"), say("leaderboard"), say("entrypoint"), say("created"), say("name")]
    return table(heads, [
        [row["submission_id"], row["leaderboard"], row["entrypoint"], _time(row["created_at"]), _name(row)]
        for row in rows
    ])  # fmt: skip


def _status(row: dict[str, Any]) -> str:
    status = say(row["status"])
    if row.get("error_code"):
        return f"{status} ({row['error_code']})"
    return f"{status} ({say('trial')})" if row.get("trial") else status


def _name(row: dict[str, Any]) -> str:
    return str(row.get("name") or row.get("submission_name") or "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _time(text: str) -> str:
    """A time of the API, to the minute."""
    return text[:16].replace("T", " ") + " UTC"
