"""The results of an ended job go when its owner deletes the submission, and never otherwise. Its status stays."""

from importlib import import_module

from django.db import migrations

before = import_module("jobs.migrations.0018_score_version_stays").NOW
STAYS = """(
        NEW.status, NEW.attempt, NEW.score, NEW.metrics, NEW.params, NEW.error_code, NEW.finished_at, NEW.score_version_id
    ) IS DISTINCT FROM (
        OLD.status, OLD.attempt, OLD.score, OLD.metrics, OLD.params, OLD.error_code, OLD.finished_at, OLD.score_version_id
    )"""
STAYS_OR_IS_DELETED = """(
        (NEW.status, NEW.attempt, NEW.error_code, NEW.finished_at, NEW.score_version_id)
        IS DISTINCT FROM (OLD.status, OLD.attempt, OLD.error_code, OLD.finished_at, OLD.score_version_id)
        OR (NEW.score, NEW.metrics, NEW.params) IS DISTINCT FROM (OLD.score, OLD.metrics, OLD.params)
        AND NOT (
            NEW.score IS NULL AND NEW.metrics = '{}' AND NEW.params = '{}'
            AND EXISTS (SELECT FROM submissions_submission WHERE id = OLD.submission_id AND deleted_at IS NOT NULL)
        )
    )"""
assert STAYS in before
NOW = before.replace(STAYS, STAYS_OR_IS_DELETED)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0019_rename_runs"), ("submissions", "0006_deletion")]
    operations = [migrations.RunSQL(NOW, before)]
