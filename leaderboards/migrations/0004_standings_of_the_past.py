"""The history of the entries there are, from the completed jobs that retention has left."""

from django.db import migrations

FILL = """
WITH candidate AS (
    SELECT job.user_id, job.id AS job_id, job.score, submission.created_at AS submitted_at, job.metrics,
           job.wall_seconds, job.peak_memory_bytes, job.finished_at AS began_at
    FROM jobs_job job JOIN submissions_submission submission ON submission.id = job.submission_id
    WHERE job.leaderboard_id = %(leaderboard)s AND job.status = 'completed' AND job.score IS NOT NULL
), compared AS (
    SELECT *, {best}(score) OVER (PARTITION BY user_id ORDER BY began_at, submitted_at, job_id
                                  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM candidate
), equal AS (
    SELECT *, min(submitted_at) OVER (PARTITION BY user_id, score ORDER BY began_at, submitted_at, job_id
                                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS earliest
    FROM compared WHERE before IS NULL OR score {as_good} before
)
INSERT INTO leaderboards_standing (leaderboard_id, user_id, job_id, score, submitted_at, metrics, wall_seconds,
                                   peak_memory_bytes, began_at, ended_at)
SELECT %(leaderboard)s, user_id, job_id, score, submitted_at, metrics, wall_seconds, peak_memory_bytes, began_at,
       lead(began_at) OVER (PARTITION BY user_id ORDER BY began_at, submitted_at, job_id)
FROM equal WHERE earliest IS NULL OR submitted_at < earliest
"""
# Two jobs that ended at once may have been compared in the other order: the open period must be the entry's.
CLOSE = """
UPDATE leaderboards_standing standing SET ended_at = GREATEST(began_at, statement_timestamp())
WHERE ended_at IS NULL AND NOT EXISTS (SELECT FROM leaderboards_entry entry WHERE entry.job_id = standing.job_id)
"""
OPEN = """
INSERT INTO leaderboards_standing (leaderboard_id, user_id, job_id, score, submitted_at, metrics, wall_seconds,
                                   peak_memory_bytes, began_at, ended_at)
SELECT entry.leaderboard_id, entry.user_id, entry.job_id, entry.score, entry.submitted_at, job.metrics, job.wall_seconds,
       job.peak_memory_bytes, GREATEST(job.finished_at, entry.updated_at), NULL
FROM leaderboards_entry entry JOIN jobs_job job ON job.id = entry.job_id
WHERE NOT EXISTS (SELECT FROM leaderboards_standing standing WHERE standing.leaderboard_id = entry.leaderboard_id
                  AND standing.user_id = entry.user_id AND standing.ended_at IS NULL)
"""


def fill(apps, schema_editor):
    metrics = apps.get_model("leaderboards", "Metric")
    with schema_editor.connection.cursor() as cursor:
        for board in apps.get_model("leaderboards", "Leaderboard").objects.all():
            ranking = metrics.objects.filter(leaderboard=board).order_by("position", "id").first()
            if ranking is not None:
                best, as_good = ("max", ">=") if ranking.direction == "higher" else ("min", "<=")
                cursor.execute(FILL.format(best=best, as_good=as_good), {"leaderboard": board.pk})
        cursor.execute(CLOSE)
        cursor.execute(OPEN)


class Migration(migrations.Migration):
    dependencies = [("leaderboards", "0003_standings_and_baselines"), ("submissions", "0001_initial")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
