"""Writing the history of entries: one row a period in which a job was its person's entry.

A period begins when its job completed, by the database's clock at that transition, so that computing the history again
from the jobs gives the same rows. The open period is always the entry's.
"""

from datetime import datetime
from uuid import UUID

from django.db import connection

from leaderboards.models import Leaderboard, Metric, Standing

# Of a row named `job`: self-reported numbers never rank beside a scorer's, nor those of another score version.
SCORED_AS_NOW = (
    "(job.scorer, job.ground_truth, COALESCE(job.score_version_id, 0)) = (SELECT board.scorer, board.ground_truth, "
    "COALESCE(board.score_version_id, 0) FROM leaderboards_leaderboard board WHERE board.id = job.leaderboard_id)"
)
# What ranks on the board of a row named `job`. `job.score` is what ranked when the job completed: another metric may since.
RANKING = (
    "CROSS JOIN LATERAL (SELECT name, direction FROM leaderboards_metric metric "
    "WHERE metric.leaderboard_id = job.leaderboard_id ORDER BY position, id LIMIT 1) ranking"
)
SCORE = "(job.metrics ->> ranking.name)::float8"
# Which jobs count for the board, of rows named `job` and `ranking`: for entries and their history alike.
MAY_RANK = (
    f"{SCORE} IS NOT NULL AND NOT job.trial AND job.withdrawn_at IS NULL AND {SCORED_AS_NOW} "
    "AND NOT EXISTS (SELECT FROM leaderboards_metric needed WHERE needed.leaderboard_id = job.leaderboard_id "
    "AND needed.is_required AND NOT job.metrics ? needed.name)"
)
COUNTS = (
    f"job.status = 'completed' AND {MAY_RANK} "
    "AND NOT EXISTS (SELECT FROM leaderboards_disqualification void WHERE void.job_id = job.id)"
)
_COLUMNS = (
    "leaderboard_id, user_id, job_id, score_version_id, score, submitted_at, metrics, wall_seconds, peak_memory_bytes, "
    "began_at, ended_at"
)

# Two jobs that complete at once may come here in the other order than they ended in: no period ends before it began.
_RECORD = f"""
WITH ended AS (
    UPDATE leaderboards_standing standing SET ended_at = GREATEST(standing.began_at, job.finished_at)
    FROM jobs_job job
    WHERE job.id = %(job)s AND standing.leaderboard_id = job.leaderboard_id AND standing.user_id = job.user_id
      AND standing.ended_at IS NULL
    RETURNING standing.ended_at
)
INSERT INTO leaderboards_standing ({_COLUMNS})
SELECT job.leaderboard_id, job.user_id, job.id, job.score_version_id, %(score)s, %(submitted_at)s, job.metrics, job.wall_seconds,
       job.peak_memory_bytes, COALESCE((SELECT ended_at FROM ended), job.finished_at), NULL
FROM jobs_job job WHERE job.id = %(job)s
"""  # noqa: S608 - a constant

# Each person's best so far, job by job in the order in which they completed; of pruned jobs their own periods are all there is:
# those of other score versions stay as they are, unseen, for when their version is the current one again.
_REBUILD = """
WITH deleted AS (
    DELETE FROM leaderboards_standing
    WHERE leaderboard_id = %(leaderboard)s AND (%(user)s::bigint IS NULL OR user_id = %(user)s)
      AND (job_id IS NOT NULL OR score_version_id IS NOT DISTINCT FROM (
            SELECT board.score_version_id FROM leaderboards_leaderboard board WHERE board.id = %(leaderboard)s))
    RETURNING *
), candidate AS (
    SELECT job.user_id, job.id AS job_id, job.score_version_id, {score} AS score, submission.created_at AS submitted_at, job.metrics,
           job.wall_seconds, job.peak_memory_bytes, job.finished_at AS began_at
    FROM jobs_job job JOIN submissions_submission submission ON submission.id = job.submission_id {ranking}
    WHERE job.leaderboard_id = %(leaderboard)s AND {counts} AND (%(user)s::bigint IS NULL OR job.user_id = %(user)s)
    UNION ALL
    SELECT user_id, job_id, score_version_id, (metrics ->> %(metric)s)::float8, submitted_at, metrics, wall_seconds, peak_memory_bytes, began_at
    FROM deleted WHERE job_id IS NULL AND (metrics ->> %(metric)s) IS NOT NULL
), compared AS (
    SELECT *, {best}(score) OVER (PARTITION BY user_id ORDER BY began_at, submitted_at, job_id
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM candidate
), equal AS (
    SELECT *, min(submitted_at) OVER (PARTITION BY user_id, score ORDER BY began_at, submitted_at, job_id
                                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earliest
    FROM compared WHERE before IS NULL OR score {as_good} before
)
INSERT INTO leaderboards_standing ({columns})
SELECT %(leaderboard)s, user_id, job_id, score_version_id, score, submitted_at, metrics, wall_seconds, peak_memory_bytes, began_at,
       lead(began_at) OVER (PARTITION BY user_id ORDER BY began_at, submitted_at, job_id)
FROM equal WHERE earliest IS NULL OR submitted_at < earliest
"""

# The best may be of a job that is pruned and cannot stand any more: then the entry's period begins now.
_CLOSE = """
UPDATE leaderboards_standing standing SET ended_at = GREATEST(began_at, CURRENT_TIMESTAMP)
WHERE leaderboard_id = %(leaderboard)s AND (%(user)s::bigint IS NULL OR user_id = %(user)s) AND ended_at IS NULL
  AND NOT EXISTS (SELECT FROM leaderboards_entry entry WHERE entry.job_id = standing.job_id)
"""
_OPEN = f"""
INSERT INTO leaderboards_standing ({_COLUMNS})
SELECT entry.leaderboard_id, entry.user_id, entry.job_id, job.score_version_id, entry.score, entry.submitted_at, job.metrics, job.wall_seconds,
       job.peak_memory_bytes, GREATEST(CURRENT_TIMESTAMP, (
           SELECT max(ended_at) FROM leaderboards_standing before
           WHERE before.leaderboard_id = entry.leaderboard_id AND before.user_id = entry.user_id)), NULL
FROM leaderboards_entry entry JOIN jobs_job job ON job.id = entry.job_id
WHERE entry.leaderboard_id = %(leaderboard)s AND (%(user)s::bigint IS NULL OR entry.user_id = %(user)s)
  AND NOT EXISTS (SELECT FROM leaderboards_standing standing WHERE standing.leaderboard_id = entry.leaderboard_id
                  AND standing.user_id = entry.user_id AND standing.ended_at IS NULL)
"""  # noqa: S608 - a constant


def record_standing(*, job_id: UUID, score: float, submitted_at: datetime) -> None:
    """End the person's open period and begin the job's. Call it where the job became the entry: its row is locked."""
    with connection.cursor() as cursor:
        cursor.execute(_RECORD, {"job": job_id, "score": score, "submitted_at": submitted_at})


def rebuild_standings(leaderboard: Leaderboard, metric: Metric | None, *, user_id: int | None = None) -> None:
    """Compute the history again (everybody's, or one person's); call it after the entries were. No metric: no history.

    Jobs that no longer count leave the past too; those that retention deleted keep the periods they had.
    """
    if metric is None:
        standings = Standing.objects.filter(leaderboard=leaderboard)
        (standings if user_id is None else standings.filter(user_id=user_id)).delete()
        return
    best, as_good = ("max", ">=") if metric.higher_is_better else ("min", "<=")
    scope = {"leaderboard": leaderboard.pk, "user": user_id, "metric": metric.name}
    words = {
        "best": best,
        "as_good": as_good,
        "counts": COUNTS,
        "columns": _COLUMNS,
        "ranking": RANKING,
        "score": SCORE,
    }
    with connection.cursor() as cursor:
        cursor.execute(_REBUILD.format(**words), scope)
        cursor.execute(_CLOSE, scope)
        cursor.execute(_OPEN, scope)
