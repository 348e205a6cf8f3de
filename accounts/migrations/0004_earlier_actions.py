"""What operators did until now stood in Django's own log; from now on there is one place."""

from django.db import migrations

COPY = """
INSERT INTO accounts_operatoraction
    (user_id, username, action, reason, kind, object_id, object_name, details, created_at)
SELECT log.user_id, person.username, (ARRAY['add', 'change', 'delete'])[log.action_flag], '',
       type.app_label || '.' || type.model, left(coalesce(log.object_id, ''), 64), left(log.object_repr, 200),
       jsonb_build_object('message', log.change_message), log.action_time
FROM django_admin_log log
JOIN accounts_user person ON person.id = log.user_id
JOIN django_content_type type ON type.id = log.content_type_id
ORDER BY log.id
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_console"),
        ("admin", "0003_logentry_add_action_flag_choices"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunSQL(COPY, migrations.RunSQL.noop)]
