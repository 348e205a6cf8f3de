"""When a token is valid, and how people are locked: for the ORM and for raw SQL (0010_live_token.sql)."""

from pathlib import Path

from django.db import migrations

MAKE = Path(__file__).with_suffix(".sql").read_text()
DROP = "DROP FUNCTION lock_people(bigint[], boolean); DROP VIEW live_token;"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_display_names")]
    operations = [migrations.RunSQL(MAKE, DROP)]
