"""Boards with people on them, for tests of their pages."""

from datetime import UTC, datetime, timedelta

from leaderboards.tests.factories import EntryFactory

BASE = datetime(2026, 10, 1, 12, tzinfo=UTC)


def people(board, *given):
    """Entries of (name, score, seconds), submitted one minute after another."""
    return {
        name: EntryFactory(
            leaderboard=board, score=score, job__user__username=name, submitted_at=BASE + timedelta(minutes=index),
            job__metrics={"image_auc": score, "seconds": seconds}, job__wall_seconds=seconds,
        )
        for index, (name, score, seconds) in enumerate(given)
    }  # fmt: skip
