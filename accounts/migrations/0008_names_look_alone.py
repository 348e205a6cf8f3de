from django.db import migrations, models
from django.db.models import F, Q

import accounts.names

# Of the users whose names look alike, the oldest has the name; the later ones keep theirs until it is changed.
KEEP_LATER_NAMES = """
UPDATE accounts_user SET kept_username = username WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (
            PARTITION BY translate(replace(replace(lower(username), 'rn', 'm'), 'vv', 'w'), '01i_.-', 'oll') ORDER BY id
        ) AS number FROM accounts_user
    ) numbered WHERE number > 1
)
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_known_logins")]

    operations = [
        migrations.AlterModelManagers(name="user", managers=[]),
        migrations.AddField(
            model_name="user",
            name="kept_username",
            field=models.CharField(
                blank=True, db_default="", editable=False, max_length=150, verbose_name="earlier username"
            ),
        ),
        migrations.RunSQL(KEEP_LATER_NAMES, migrations.RunSQL.noop),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                accounts.names.NameShape(F("username")),
                condition=~Q(kept_username=F("username")),
                name="user_name_looks_alone",
            ),
        ),
    ]
