"""Counts of the runs that people have on a board: for the people of a page, each up to a bound."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from leaderboards.models import Leaderboard

MOST_RUNS = 100

# Each count reads its partial index (job_completed, job_withdrawn) up to the bound. A trial is no run of the board.
_COUNT = """
SELECT person.id, (
    SELECT count(*) FROM (
        SELECT FROM jobs_job job WHERE job.leaderboard_id = %(board)s AND job.user_id = person.id
            AND job.status = 'completed' AND NOT job.trial LIMIT %(most)s) counted
), (
    SELECT count(*) FROM (
        SELECT FROM jobs_job job WHERE job.leaderboard_id = %(board)s AND job.user_id = person.id
            AND job.withdrawn_at IS NOT NULL LIMIT %(most)s) counted
) FROM unnest(%(people)s::bigint[]) AS person(id)
"""


@dataclass(frozen=True)
class RunCount:
    """One person's completed runs on a board, trials aside, and how many of them they have withdrawn."""

    runs: int
    withdrawn: int
    has_more: bool = False


def run_counts(board: Leaderboard, people: Sequence[int]) -> dict[int, RunCount]:
    """Return the counts by person, up to MOST_RUNS each: one query for all of them."""
    if not people:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"board": board.pk, "people": list(people), "most": MOST_RUNS + 1})
        return {
            person: RunCount(min(runs, MOST_RUNS), min(withdrawn, MOST_RUNS), has_more=runs > MOST_RUNS)
            for person, runs, withdrawn in cursor.fetchall()
        }
