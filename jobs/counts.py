"""What the reconciler counts and looks at for status page and metrics: rows that are of no single job."""

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from jobs.codes import Status


class EndingTally(models.Model):
    """How the jobs of a class have ended so far, as jobs/tally.py counts them for metrics; retention takes nothing away."""

    resource_class = models.CharField(max_length=32, primary_key=True)
    # The last job that was counted.
    until = models.DateTimeField(null=True)
    last_id = models.UUIDField(null=True)
    endings = models.JSONField(default=list)  # [{"status": ..., "error_code": ..., "jobs": 12}]
    run = models.JSONField(default=dict)  # {"completed": {"sum": seconds, "counts": [one a bucket]}}
    delay = models.JSONField(default=dict)  # {"sum": ..., "counts": [...]}

    class Meta:
        verbose_name = _("tally of ends")
        verbose_name_plural = _("tallies of ends")

    def __str__(self) -> str:
        return self.resource_class


class Dependency(models.Model):
    """Whether a part that the site needs is up, and since when: written by the reconciler, read by the status page."""

    name = models.CharField(max_length=32, primary_key=True)
    is_up = models.BooleanField()
    since = models.DateTimeField(help_text=_("When it last changed between up and down."))
    checked_at = models.DateTimeField(db_default=Now())
    detail = models.JSONField(default=dict, help_text=_("What the last check found."))
    changes = models.JSONField(default=list, help_text=_("The latest changes, newest first."))

    class Meta:
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class HourlyEnds(models.Model):
    """How many jobs ended in an hour, by status: counted by the reconciler, so that the chart never counts jobs."""

    hour = models.DateTimeField()
    status = models.CharField(max_length=16, choices=Status)
    count = models.PositiveIntegerField()

    class Meta:
        verbose_name = _("ends of an hour")
        verbose_name_plural = _("ends by the hour")
        constraints = [models.UniqueConstraint(fields=["hour", "status"], name="hourly_ends_once")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.status}: {self.count}"
