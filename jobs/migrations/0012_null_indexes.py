"""Three foreign keys that are empty in a new job get indexes of what is not; the keys themselves stay as they are."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def without_index(column: str, name: str) -> migrations.RunSQL:
    # Django's own AlterField would drop the key, and have PostgreSQL read the table to check it anew.
    return migrations.RunSQL(f'DROP INDEX IF EXISTS "{name}"', f'CREATE INDEX "{name}" ON jobs_job ("{column}")')


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0011_words'),
        ('leaderboards', '0008_words'),
        ('submissions', '0003_words'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                without_index("cancel_requested_by_id", "jobs_job_cancel_requested_by_id_70caa091"),
                without_index("rerun_of_id", "jobs_job_rerun_of_id_37d7a209"),
                without_index("worker_id", "jobs_job_worker_id_499f63bf"),
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='job',
                    name='cancel_requested_by',
                    field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='cancel requested by'),
                ),
                migrations.AlterField(
                    model_name='job',
                    name='rerun_of',
                    field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='reruns', to='jobs.job', verbose_name='rerun of'),
                ),
                migrations.AlterField(
                    model_name='job',
                    name='worker',
                    field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='jobs', to='jobs.worker', verbose_name='worker'),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(models.F('rerun_of'), condition=models.Q(('rerun_of__isnull', False)), name='job_reruns'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(models.F('worker'), condition=models.Q(('worker__isnull', False)), name='job_by_worker'),
        ),
        migrations.AddIndex(
            model_name='job',
            index=models.Index(models.F('cancel_requested_by'), condition=models.Q(('cancel_requested_by__isnull', False)), name='job_by_canceller'),
        ),
    ]
