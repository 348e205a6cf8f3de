"""Names that clients kept as `{"name": ...}` in the metadata become names. The metadata stay as they are."""

import unicodedata

from django.db import migrations

LONGEST, BATCH = 100, 1000
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def spelled(name):
    """Return the name as the site would have taken it; empty if it would not have."""
    if len(name) > 4 * LONGEST:
        return ""
    name = unicodedata.normalize("NFC", name.strip())
    if any(unicodedata.category(character) in INVISIBLE for character in name):
        return ""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST else ""


def take_names(apps, schema_editor):
    Submission = apps.get_model("submissions", "Submission")
    unnamed = Submission.objects.filter(name="", metadata__has_key="name").only("pk", "metadata")
    changed = []
    for submission in unnamed.iterator(chunk_size=BATCH):
        name = submission.metadata["name"]
        if isinstance(name, str) and (taken := spelled(name)):
            submission.name = taken
            changed.append(submission)
        if len(changed) == BATCH:
            Submission.objects.bulk_update(changed, ["name"])
            changed.clear()
    Submission.objects.bulk_update(changed, ["name"])


class Migration(migrations.Migration):
    dependencies = [("submissions", "0004_names_and_deletion")]

    operations = [migrations.RunPython(take_names, migrations.RunPython.noop)]
