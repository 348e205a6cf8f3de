from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0021_runtime_and_quota")]
    operations = [
        migrations.AddField(
            model_name="worker",
            name="limits",
            field=models.JSONField(
                db_default={},
                default=dict,
                help_text="What holds each limit of its runs, as its probe found at start.",
                verbose_name="limits",
            ),
        ),
    ]
