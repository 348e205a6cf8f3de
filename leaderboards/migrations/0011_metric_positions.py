from django.db import migrations, models

# Two metrics of a board may share a position: keep the order in which they were shown.
RENUMBER = """
UPDATE leaderboards_metric metric SET position = numbered.place FROM (
    SELECT id, row_number() OVER (PARTITION BY leaderboard_id ORDER BY position, id) - 1 AS place
    FROM leaderboards_metric WHERE leaderboard_id IN (
        SELECT leaderboard_id FROM leaderboards_metric GROUP BY leaderboard_id, position HAVING count(*) > 1
    )
) numbered WHERE metric.id = numbered.id
"""


class Migration(migrations.Migration):
    dependencies = [("leaderboards", "0010_metric_names")]

    operations = [
        migrations.RunSQL(RENUMBER, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="metric",
            constraint=models.UniqueConstraint(
                deferrable=models.Deferrable["DEFERRED"],
                fields=("leaderboard", "position"),
                name="metric_position_once",
            ),
        ),
    ]
