from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0014_first_score_versions")]

    operations = [
        migrations.AddField(
            model_name="trackingoutbox",
            name="refusals",
            field=models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="Tries that failed at something of this job alone.",
                verbose_name="failures of its own",
            ),
        ),
        migrations.AddIndex(
            model_name="trackingoutbox",
            index=models.Index(
                models.F("created_at"), condition=models.Q(("refusals__gt", 0)), name="outbox_refused"
            ),
        ),
    ]
