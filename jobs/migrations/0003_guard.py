"""The database refuses what must not be, whoever asks: a changed end, a falling attempt, a stolen claim.

Django's constraints cannot compare a row with what it was; a trigger can.
"""

from django.db import migrations

MAKE = """
CREATE FUNCTION jobs_job_guard() RETURNS trigger LANGUAGE plpgsql AS $$
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
        NEW.status, NEW.attempt, NEW.score, NEW.metrics, NEW.params, NEW.error_code, NEW.finished_at
    ) IS DISTINCT FROM (
        OLD.status, OLD.attempt, OLD.score, OLD.metrics, OLD.params, OLD.error_code, OLD.finished_at
    ) THEN
        RAISE EXCEPTION 'job %: % is final', OLD.id, OLD.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_final_stays';
    END IF;
    IF OLD.status = 'pending' AND NEW.status IN ('completed', 'failed') THEN
        RAISE EXCEPTION 'job %: % without having run', OLD.id, NEW.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'job_ends_by_running';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER jobs_job_guard BEFORE UPDATE ON jobs_job FOR EACH ROW EXECUTE FUNCTION jobs_job_guard();
"""
DROP = "DROP TRIGGER jobs_job_guard ON jobs_job; DROP FUNCTION jobs_job_guard();"


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_initial")]
    operations = [migrations.RunSQL(MAKE, DROP)]
