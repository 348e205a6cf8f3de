"""Earlier reruns that the record of operators' actions names become the operators'; the rest count as their owners'."""

from django.db import migrations

MARK = """
WITH asked AS MATERIALIZED (
    SELECT (details ->> 'job')::uuid AS job_id, user_id, reason FROM accounts_operatoraction
    WHERE action = 'rerun_job' AND details ? 'job'
)
UPDATE jobs_job job SET is_by_operator = true, operator_reason = asked.reason FROM asked
WHERE job.id = asked.job_id AND job.rerun_of_id IS NOT NULL AND asked.user_id IS DISTINCT FROM job.user_id
"""


class Migration(migrations.Migration):
    dependencies = [("jobs", "0015_tracking_refusals"), ("accounts", "0007_known_logins")]
    operations = [migrations.RunSQL(MARK, migrations.RunSQL.noop)]
