"""There is always a default leaderboard, so that a request that names none works."""

from django.db import migrations


def make_default(apps, schema_editor):
    leaderboards = apps.get_model("leaderboards", "Leaderboard")
    metrics = apps.get_model("leaderboards", "Metric")
    leaderboard, made = leaderboards.objects.get_or_create(
        slug="default", defaults={"title": "Default leaderboard", "requires_score": False}
    )
    if made:
        names = [("image_auc", "Image AUROC"), ("image_f1", "Image F1"), ("pixel_auc", "Pixel AUROC"), ("pixel_pro", "PRO")]
        for position, (name, label) in enumerate(names):
            metrics.objects.create(
                leaderboard=leaderboard, name=name, label=label, position=position, minimum=0.0, maximum=1.0
            )


class Migration(migrations.Migration):
    dependencies = [("leaderboards", "0001_initial")]
    operations = [migrations.RunPython(make_default, migrations.RunPython.noop)]
