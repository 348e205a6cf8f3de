"""The score version of an ended job stays, like its score; and the history of boards says whose scores it holds.

Workers of the release before know no score versions and may run on during an upgrade. A result of theirs gets the board's
current version when it completes, if it was scored as the board is: otherwise it would never rank.
"""

from django.db import migrations

GUARD = """
CREATE OR REPLACE FUNCTION jobs_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.attempt < OLD.attempt THEN
        RAISE EXCEPTION 'job %: attempt falls from % to %', OLD.id, OLD.attempt, NEW.attempt
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_attempt_never_falls';
    END IF;
    IF NEW.status = 'running' AND OLD.status <> 'running' AND NEW.attempt <> OLD.attempt + 1 THEN
        RAISE EXCEPTION 'job %: claimed without a new attempt', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_claim_raises_attempt';
    END IF;
    IF OLD.status IN ('completed', 'failed', 'cancelled') AND (
        NEW.status, NEW.attempt, NEW.score, NEW.metrics, NEW.params, NEW.error_code, NEW.finished_at{new}
    ) IS DISTINCT FROM (
        OLD.status, OLD.attempt, OLD.score, OLD.metrics, OLD.params, OLD.error_code, OLD.finished_at{old}
    ) THEN
        RAISE EXCEPTION 'job %: % is final', OLD.id, OLD.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_final_stays';
    END IF;
    IF OLD.status = 'pending' AND NEW.status IN ('completed', 'failed') THEN
        RAISE EXCEPTION 'job %: % without having run', OLD.id, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_ends_by_running';
    END IF;{fill}
    RETURN NEW;
END $$;
"""
FILL = """
    IF OLD.status = 'running' AND NEW.status = 'completed' AND NEW.scorer <> '' AND NEW.score_version_id IS NULL THEN
        NEW.score_version_id := (
            SELECT board.score_version_id FROM leaderboards_leaderboard board
            WHERE board.id = NEW.leaderboard_id AND (board.scorer, board.ground_truth) = (NEW.scorer, NEW.ground_truth)
        );
    END IF;"""
BEFORE = GUARD.format(new="", old="", fill="")
NOW = GUARD.format(new=", NEW.score_version_id", old=", OLD.score_version_id", fill=FILL)

# Until now a board's history was of the scorer and the labels that it has: of its current version.
STANDINGS = """
UPDATE leaderboards_standing standing SET score_version_id = board.score_version_id FROM leaderboards_leaderboard board
WHERE board.id = standing.leaderboard_id AND board.score_version_id IS NOT NULL
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0017_trials_and_withdrawals"), ("leaderboards", "0012_current_versions")]
    operations = [
        migrations.RunSQL(NOW, BEFORE),
        migrations.RunSQL(STANDINGS, migrations.RunSQL.noop),
    ]
