"""Scores that are there already become score versions: one for each scorer and ground truth that a board's jobs name.

The board's present pair comes last and is its current version; where the board never had another, that is number 1. All are
marked as assumed: nothing tells whether the labels or the scorer changed in place while they were made.
"""

from django.conf import settings
from django.db import migrations

MAKE = """
INSERT INTO leaderboards_scoreversion (
    leaderboard_id, number, scorer, scorer_version, scorer_digest, ground_truth, ground_truth_digest, parameters,
    is_assumed, reason)
SELECT pair.leaderboard_id, row_number() OVER (PARTITION BY pair.leaderboard_id ORDER BY is_current, since NULLS LAST, pair.scorer),
       pair.scorer, CASE WHEN pair.scorer LIKE 'own/%%' THEN NULL ELSE 1 END, '', pair.ground_truth, '',
       jsonb_build_object('digits', %s::int, 'limits', COALESCE((
           SELECT jsonb_object_agg(name, jsonb_build_array(minimum, maximum)) FROM leaderboards_metric metric
           WHERE metric.leaderboard_id = pair.leaderboard_id), '{}')),
       true, ''
FROM (
    SELECT found.leaderboard_id, found.scorer, found.ground_truth, min(since) AS since,
           bool_or((board.scorer, board.ground_truth) = (found.scorer, found.ground_truth)) AS is_current
    FROM (
        SELECT leaderboard_id, scorer, ground_truth, min(finished_at) AS since FROM jobs_job
        WHERE status = 'completed' AND scorer <> '' GROUP BY leaderboard_id, scorer, ground_truth
        UNION ALL
        SELECT id, scorer, ground_truth, NULL FROM leaderboards_leaderboard WHERE scorer <> ''
    ) found JOIN leaderboards_leaderboard board ON board.id = found.leaderboard_id
    GROUP BY found.leaderboard_id, found.scorer, found.ground_truth
) pair
"""
CURRENT = """
UPDATE leaderboards_leaderboard board SET score_version_id = made.id FROM leaderboards_scoreversion made
WHERE made.leaderboard_id = board.id AND (made.scorer, made.ground_truth) = (board.scorer, board.ground_truth)
"""
JOBS = """
UPDATE jobs_job job SET score_version_id = made.id FROM leaderboards_scoreversion made
WHERE job.status = 'completed' AND job.scorer <> '' AND made.leaderboard_id = job.leaderboard_id
  AND (made.scorer, made.ground_truth) = (job.scorer, job.ground_truth)
"""


def make(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(MAKE, [settings.SCORING_DIGITS])
        cursor.execute(CURRENT)
        cursor.execute(JOBS)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0013_score_versions")]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
