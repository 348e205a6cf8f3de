"""When a leaderboard takes submissions: for the ORM and for raw SQL (0014_open_leaderboard.sql)."""

from pathlib import Path

from django.db import migrations

MAKE = Path(__file__).with_suffix(".sql").read_text()
DROP = "DROP VIEW open_leaderboard;"


class Migration(migrations.Migration):
    dependencies = [("leaderboards", "0013_drafts")]
    operations = [migrations.RunSQL(MAKE, DROP)]
